"""The mixture against every expert on every sample; its losses, masks and random draws."""

import math

import pytest
import torch
from helpers import assert_equal_gradients, is_deep, make_mixture, samples_for, seeded
from torch import nn

from sklearn_moe.nn import PatchExpert, Route, weighted_mean
from sklearn_moe.nn.functional import mixture_loss
from sklearn_moe.nn.seeding import use_generator


def build(expert="patch", *, router="topk", top_k=1, gate=None, **parts):
    """Return a mixture whose scores differ."""
    parts["expert_options"] = {"width": 2} if is_deep(expert) else {}
    parts["router_options"] = {"top_k": top_k, "gate": gate}
    mixture = make_mixture(expert, router=router, **parts)
    for parameter in mixture.router.parameters():
        nn.init.normal_(parameter, generator=seeded(2))
    return mixture


def dense(mixture, x, route):
    """Every expert on every sample, masked: slow and obvious."""
    output = 0
    for m, expert in enumerate(mixture.experts):
        for slot in range(route.chosen.shape[1]):
            mask = (route.chosen[:, slot] == m).to(x.dtype)
            output = output + (mask * route.gate[:, slot])[:, None] * expert(x)
    return output


@pytest.mark.parametrize(
    ("expert", "top_k", "gate"),
    [
        *(("patch", 4, "sigmoid"), ("patch_conv", 2, "logit"), ("mlp", 1, "sigmoid")),
        *(("cnn", 4, "softmax"), ("mobilenet_v2", 2, "softmax")),
    ],
)
def test_mixture_and_gradients_equal_the_dense_reference(expert, top_k, gate):
    mixture = build(expert, top_k=top_k, gate=gate)
    mixture.eval()  # in training, outputs of BatchNorm depend on the batch
    x = samples_for(expert).requires_grad_()
    mixed = mixture(x, seeded(5))
    reference = dense(mixture, x, mixture.route(x, seeded(5)))
    torch.testing.assert_close(mixed.output, reference)
    assert_equal_gradients(mixed.output, reference, [x, *mixture.parameters()])


def test_experts_that_differ():
    class Twice(PatchExpert):
        def forward(self, x):
            return 2 * super().forward(x)

    mixture, x = build(unstacked=True), samples_for("patch")
    with use_generator(seeded(7)):
        mixture.experts[0] = PatchExpert((4, 6), 3, activation="linear").double()
        mixture.experts[2] = Twice((4, 6), 3).double()
        mixture.experts[1] = PatchExpert((4, 6), 3, width=2, bias=True).double()
    torch.testing.assert_close(mixture(x).output, dense(mixture, x, mixture.route(x)))


def test_means_count_weights_and_own_samples():
    values, weight = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([1.0, 3.0, 1.0, 0.5])
    chosen, scores = torch.tensor([[0], [0], [2], [2]]), torch.zeros(4, 4)
    means = Route(scores, scores, chosen, scores[:, :1]).expert_means(values, weight)
    torch.testing.assert_close(means, torch.tensor([7 / 4, 0, 8 / 1.5, 0]))
    assert weighted_mean(values, weight).item() == pytest.approx(15 / 4)  # of 4 samples


def test_own_generator_seeds_any_layer():
    layers = []
    for seed in (0, 0, 1):
        with use_generator(seeded(seed)):
            layers.append([nn.Linear(3, 2).weight, nn.Conv2d(1, 2, 3).bias, torch.randn(3)])
            layers[-1].append(torch.dropout_(torch.ones(20), 0.5, True))
    assert all(map(torch.equal, layers[0], layers[1]))
    assert not any(map(torch.equal, layers[0], layers[2]))


# -- losses and out-of-bag masks ----------------------------------------------------------


def mixture_of(gate, losses):
    """Return the loss of one sample by some experts, everything written out."""
    likelihood = sum(g * math.exp(-loss) for g, loss in zip(gate, losses, strict=True))
    return -math.log(likelihood / sum(gate)) if gate else math.nan


def test_loss_of_a_mixture():
    shape = (12, 4)
    for own, n_out in ((0.0, 0), (0.5, 1), (0.5, 3), (1.0, 1)):
        gate = torch.randn(shape, generator=seeded(), dtype=torch.float64).softmax(1)
        losses = 3 * torch.randn(shape, generator=seeded(1), dtype=torch.float64)
        in_bag = (torch.rand(shape, generator=seeded(2)).argsort(1) >= n_out).double()
        found = mixture_loss(gate, losses, in_bag, own)
        for g, x, bag, ours, oob in zip(gate, losses, in_bag == 1, *found, strict=True):
            mixed, out = (mixture_of(g[m].tolist(), x[m].tolist()) for m in (bag, ~bag))
            expected = (1 - own) * mixed + own * x[bag].mean().item()
            assert ours.item() == pytest.approx(expected, rel=1e-12)
            assert not n_out or oob.item() == pytest.approx(out, rel=1e-12)
        gate.requires_grad_(), losses.requires_grad_()
        assert not mixture_loss(gate, losses, in_bag, own)[1].requires_grad
        loss = lambda g, x, own=own, mask=in_bag: mixture_loss(g, x, mask, own)[0]  # noqa: E731
        inputs = (gate.requires_grad_(own < 1), losses)
        assert torch.autograd.gradcheck(loss, inputs)


def test_tiny_likelihoods_have_finite_losses_and_gradients():
    losses = torch.tensor([[0.0, 200.0], [200.0, 0.0], [1e6, 0.0], [-1e6, 1e6], [1e6, 1e6]])
    # An expert that is out-of-bag does not reduce the loss of the others.
    ours = mixture_loss(torch.full((1, 2), 0.5), losses[:1], torch.tensor([[0.0, 1.0]]))
    assert [value.item() for value in ours] == pytest.approx([200, 0])
    losses = losses.repeat(3, 1).requires_grad_()
    gate = torch.tensor([[0.5, 0.5], [1.0, 1e-38], [0.0, 1.0]]).repeat_interleave(5, 0)
    gate.requires_grad_()
    for own in (0.0, 0.5, 1.0):
        for in_bag in ([[1.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]):
            ours = mixture_loss(gate, losses, torch.tensor(in_bag).expand(15, 2), own)
            ours[0].mean().backward()
            gradients = [losses.grad] if own == 1 else [losses.grad, gate.grad]
            assert all(value.isfinite().all() for value in (*ours, *gradients))
