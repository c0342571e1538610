"""Experts, alone and stacked, against slow and obvious references."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import is_deep, make_mixture, options_for, refuses, samples_for, seeded
from torch import nn

from sklearn_moe._validation import accepts_argument
from sklearn_moe.nn import ACTIVATIONS, EXPERTS, ExpertSpec, MLPExpert, PatchExpert
from sklearn_moe.nn.experts import MLPStack
from sklearn_moe.nn.functional import Stack, activation_layer
from sklearn_moe.nn.seeding import use_generator

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def build(expert, *, seed=0, dtype="float64", **options):
    """Return the experts of a mixture; deep ones are narrow, as they are slow otherwise."""
    options = options_for(expert, **({"width": 2} if is_deep(expert) else {}) | options)
    n = 2 if is_deep(expert) else 4
    return make_mixture(expert, n, expert_options=options, seed=seed, dtype=dtype).experts


def draw(*shape, seed=3):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def test_activations():
    z = torch.linspace(-2, 2, 6, dtype=torch.float64, requires_grad=True)
    for activation in ACTIVATIONS.values():
        assert torch.autograd.gradcheck(activation, (z,))
    z = torch.tensor([-2.0, 0.5])
    assert torch.equal(ACTIVATIONS["cubic"](z), torch.tensor([-8.0, 0.125]))
    assert torch.equal(ACTIVATIONS["linear"](z), z)


def test_patch_expert_is_the_sum_over_filters_and_patches():
    for bias, activation in ((False, "cubic"), (True, "linear"), (True, "tanh")):
        with use_generator(seeded()):
            expert = PatchExpert((4, 6), 3, width=5, activation=activation, bias=bias).double()
        x, sigma = samples_for("patch"), ACTIVATIONS[activation]
        expected = torch.zeros(len(x), 3, dtype=torch.float64)
        for i, p, c, j in np.ndindex(len(x), 4, 3, 5):
            z = expert.weight[c, j] @ x[i, p] + (expert.bias[c, j] if bias else 0)
            expected[i, c] += sigma(z)
        torch.testing.assert_close(expert(x), expected)


def test_patch_expert_initial_scale():
    with use_generator(seeded()):
        gaussian = PatchExpert((4, 300), 10, width=50, init_scale=0.01)
        uniform = PatchExpert((4, 300), 10, width=50, init_scale=0.01, init="uniform")
    for expert in (gaussian, uniform):
        assert expert.weight.std().item() == pytest.approx(0.01 / 30, rel=0.02)
    assert uniform.weight.abs().max() <= 0.01 / 300**0.5
    assert gaussian.weight.abs().max() > 0.01 / 300**0.5


@pytest.mark.parametrize("expert", [name for name in EXPERTS if name != "trees"])
def test_an_expert_follows_its_options_and_the_seed(expert):
    x, takes = samples_for(expert), partial(accepts_argument, EXPERTS[expert].factory)
    first, again, single = build(expert), build(expert), build(expert, dtype="float32")
    assert first[0](x).shape == (23, 3)
    for a, b, c in zip(*(m.parameters() for m in (first, again, single)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.float(), c)
    assert not torch.equal(next(first.parameters()), next(build(expert, seed=1).parameters()))
    if takes("width"):
        sizes = [sum(p.numel() for p in build(expert, width=w).parameters()) for w in (4, 8)]
        assert sizes[0] < sizes[1]
    if takes("activation"):
        outputs = [build(expert, activation=a)[0](x) for a in ("tanh", "relu")]
        assert not torch.allclose(*outputs)
    if expert.startswith("patch"):
        scaled = build(expert, init_scale=0.25)
        for a, b in zip(first[0].parameters(), scaled[0].parameters(), strict=True):
            torch.testing.assert_close(b, 0.25 * a)


def test_options_of_a_spec_come_before_others():
    spec = ExpertSpec(PatchExpert, ndim=3).with_options(width=3).with_options(bias=True)
    with use_generator(seeded()):
        expert = spec.build((4, 6), 2, width=5, activation="linear")
    assert expert.weight.shape == (2, 3, 6)
    assert expert.bias is not None
    assert expert.activation is ACTIVATIONS["linear"]


def test_what_does_not_fit_is_refused_with_the_reason():
    refuses("1", r"\(n_patches, patch_size\), got .* \(5,\)", EXPERTS["patch"].build, (5,), 2)
    refuses("2", "3 x 9", EXPERTS["cnn"].build, (3, 3, 9), 2)
    refuses("3", r"\(n_features,\)", EXPERTS["mlp"].build, (4, 5), 2)
    refuses("expert", "it returned None", ExpertSpec(lambda shape, n: None).build, (4, 6), 2)
    for function, returned in ((lambda z: z.sum(1), r"shape \(2,\)"), (lambda z: 3, "3")):
        refuses(returned, rf"returned {returned} where \(2, 3\)", activation_layer, function)


# -- stacked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expert", "router", "activation"),
    [
        *(("patch", router, "cubic") for router in ("top1", "soft")),
        *(("patch_conv", "topk", "tanh"), ("patch_conv", "soft", "relu")),
        *(("mlp", "soft", activation) for activation in ("relu", "tanh", "cubic")),
    ],
)
def test_stacked_experts_are_those_with_weights_of_their_own(expert, router, activation):
    options = {"router": router, "router_options": {"top_k": 2 if router == "topk" else 1}}
    options["expert_options"] = {"activation": activation}
    stacked, unstacked = (make_mixture(expert, unstacked=u, **options) for u in (False, True))
    for mixture in (stacked, unstacked):
        for parameter in mixture.router.parameters():
            nn.init.normal_(parameter, generator=seeded(2))
    assert isinstance(stacked.experts, Stack)
    assert isinstance(unstacked.experts, nn.ModuleList)
    x, target = [samples_for(expert).requires_grad_() for _ in range(2)], draw(23, 3)
    outputs = [m(z, seeded(5)).output for m, z in zip((stacked, unstacked), x, strict=True)]
    torch.testing.assert_close(*outputs, **TIGHT)
    for output in outputs:
        (output * target).sum().backward()
    torch.testing.assert_close(x[0].grad, x[1].grad, **TIGHT)
    parameters = (experts.parameters() for experts in (stacked.experts, *unstacked.experts))
    for ours, *alone in zip(*parameters, strict=True):
        alone = [torch.zeros_like(p) if p.grad is None else p.grad for p in alone]
        torch.testing.assert_close(ours.grad, torch.stack(alone), **TIGHT)
    with torch.no_grad():
        each = (mixture.forward_each(x[0]) for mixture in (stacked, unstacked))
        torch.testing.assert_close(*each, **TIGHT)


@pytest.mark.parametrize(("expert", "router"), [("patch_conv", "top1"), ("mlp", "soft")])
def test_a_stack_is_a_sequence_of_experts_that_share_its_weights(expert, router):
    mixtures = (make_mixture(expert, router=router, unstacked=u) for u in (False, True))
    stack, unstacked = (mixture.experts for mixture in mixtures)
    x = samples_for(expert)
    assert len(stack) == len(list(stack)) == 4
    for m, (one, other) in enumerate(zip(stack, unstacked, strict=True)):
        assert type(one) is type(other)
        torch.testing.assert_close(one(x), other(x), **TIGHT)
        with torch.no_grad():
            next(one.parameters()).mul_(2)
        torch.testing.assert_close(stack.weight[m], 2 * next(other.parameters()))
        stack.zero_grad()
        one(x).sum().backward()
        assert stack.weight.grad.flatten(1).any(1).nonzero().flatten().tolist() == [m]
    assert torch.equal(stack[-1](x), stack[3](x))
    stack[0].register_forward_hook(lambda *_: 1 / 0)
    stack[1](x)
    with pytest.raises(IndexError):
        stack[4]


def test_only_homogeneous_experts_are_stacked():
    with use_generator(seeded(8)):
        for kind, shape in ((MLPExpert, (5,)), (PatchExpert, (4, 6))):
            other = type("Other", (kind,), {})  # whose forward may be another
            one, twin, narrow = (kind(shape, 3, width=width) for width in (3, 3, 2))
            learning = [kind(shape, 3, activation=nn.PReLU()) for _ in range(2)]
            assert kind.stack([one, twin]) is not None
            for experts in (2 * [other(shape, 3)], [one, other(shape, 3, width=3)], learning):
                assert kind.stack(experts) is None
        assert PatchExpert.stack([one, narrow]) is None
    assert isinstance(make_mixture("mlp", router="soft").experts, MLPStack)
    assert isinstance(make_mixture("mlp", router="top1").experts, nn.ModuleList)
