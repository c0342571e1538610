"""The torch parts against slow and obvious references."""

import pytest
import torch
from helpers import is_deep, make_mixture, options_for, samples_for, seeded
from torch import nn

from sklearn_moe.nn import (
    ACTIVATIONS,
    EXPERTS,
    ExpertSpec,
    OwnGenerator,
    PatchExpert,
    Route,
    answer_all,
    dispatch,
    expert_means,
    weighted_mean,
)
from sklearn_moe.nn.experts.parts import activation_layer
from sklearn_moe.nn.experts.stack import Stack


def taking(option):
    return [expert for expert in EXPERTS if EXPERTS[expert].takes(option)]


def build(
    expert="patch",
    n_experts=4,
    *,
    top_k=1,
    gate="softmax",
    seed=0,
    dtype="float64",
    separate=False,
    **options,
):
    if is_deep(expert):  # as published they would take minutes
        options = options_for(expert, width=2) | options
    return make_mixture(
        expert,
        n_experts,
        expert_options=options,
        router="topk",
        router_options={"top_k": top_k, "gate": gate},
        separate=separate,
        dtype=dtype,
        seed=seed,
    )


def randomize_router(mixture, seed=2):
    """Give a zero router scores that differ."""
    with torch.no_grad():
        for parameter in mixture.router.parameters():
            parameter.normal_(generator=seeded(seed))
    return mixture


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(name):
    z = torch.linspace(-2, 2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ACTIVATIONS[name], (z,))


def test_cubic_and_linear_values():
    z = torch.tensor([-2.0, 0.5])
    assert torch.equal(ACTIVATIONS["cubic"](z), torch.tensor([-8.0, 0.125]))
    assert torch.equal(ACTIVATIONS["linear"](z), z)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["cubic", "linear", "tanh"])
def test_patch_expert_is_the_sum_over_filters_and_patches(bias, activation):
    with OwnGenerator(seeded()):
        expert = PatchExpert((4, 6), 3, width=5, activation=activation, bias=bias).double()
    x = samples_for("patch")
    sigma = ACTIVATIONS[activation]
    expected = torch.zeros(len(x), 3, dtype=torch.float64)
    for i, sample in enumerate(x):
        for c in range(3):
            for j in range(5):
                for patch in sample:
                    z = expert.weight[c, j] @ patch + (expert.bias[c, j] if bias else 0)
                    expected[i, c] += sigma(z)
    torch.testing.assert_close(expert(x), expected)


def test_patch_expert_initial_scale():
    with OwnGenerator(seeded()):
        gaussian = PatchExpert((4, 300), 10, width=50, init_scale=0.01)
        uniform = PatchExpert((4, 300), 10, width=50, init_scale=0.01, init="uniform")
    for expert in (gaussian, uniform):
        assert expert.weight.std().item() == pytest.approx(0.01 / 30, rel=0.02)
    assert uniform.weight.abs().max() <= 0.01 / 300**0.5
    assert gaussian.weight.abs().max() > 0.01 / 300**0.5


@pytest.mark.parametrize("expert", EXPERTS)
def test_experts_answer_every_sample(expert):
    assert build(expert).experts[0](samples_for(expert)).shape == (23, 3)


@pytest.mark.parametrize("expert", taking("width"))
def test_wider_experts_have_more_weights(expert):
    small, large = build(expert, width=4), build(expert, width=8)
    sizes = [sum(p.numel() for p in m.experts[0].parameters()) for m in (small, large)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("expert", [e for e in taking("init_scale") if not is_deep(e)])
def test_initial_weights_are_scaled(expert):
    plain, scaled = (build(expert, init_scale=s).experts[0].parameters() for s in (1.0, 0.25))
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(b, 0.25 * a)


@pytest.mark.parametrize("expert", taking("activation"))
def test_experts_follow_their_activation(expert):
    experts = [build(expert, activation=a).experts[0] for a in ("tanh", "relu")]
    assert not torch.allclose(*(network(samples_for(expert)) for network in experts))


def test_options_of_a_spec_come_before_others():
    spec = ExpertSpec(PatchExpert, ndim=3).with_options(width=3).with_options(bias=True)
    with OwnGenerator(seeded()):
        expert = spec.build((4, 6), 2, width=5, activation="linear")
    assert expert.weight.shape == (2, 3, 6)
    assert expert.bias is not None
    assert expert.activation is ACTIVATIONS["linear"]


@pytest.mark.parametrize(
    ("expert", "shape", "message"),
    [
        ("patch", (5,), r"samples of shape \(n_patches, patch_size\), got samples of shape \(5,\)"),
        ("mlp", (4, 5), r"samples of shape \(n_features,\)"),
        ("cnn", (3, 3, 9), "needs at least 4 x 4 pixels, got 3 x 9"),
    ],
)
def test_expert_refuses_other_shapes(expert, shape, message):
    with pytest.raises(ValueError, match=message):
        EXPERTS[expert].build(shape, 2)


def dense(mixture, x, route):
    """Every expert on every sample, masked: slow and obvious."""
    output = 0
    for m, expert in enumerate(mixture.experts):
        answer = expert(x)
        for slot in range(route.chosen.shape[1]):
            mask = (route.chosen[:, slot] == m).to(x.dtype)
            output = output + (mask * route.gate[:, slot])[:, None] * answer
    return output


@pytest.mark.parametrize(
    ("expert", "top_k", "gate"),
    [
        (expert, top_k, gate)
        for expert in EXPERTS
        for top_k in (1, 2, 4)
        for gate in ("softmax", "sigmoid", "logit")
        if not is_deep(expert) or (top_k, gate) == (2, "softmax")
    ],
)
def test_mixture_and_gradients_equal_the_dense_reference(expert, top_k, gate):
    mixture = randomize_router(build(expert, top_k=top_k, gate=gate))
    mixture.eval()  # while it learns, BatchNorm answers by whatever else is in the batch
    x, target = samples_for(expert), torch.randn(23, 3, generator=seeded(3), dtype=torch.float64)
    x.requires_grad_()
    mixed = mixture(x, seeded(5))
    parameters = [x, *mixture.parameters()]
    gradients = torch.autograd.grad(
        (mixed.output * target).sum(), parameters, allow_unused=True, retain_graph=True
    )
    reference = dense(mixture, x, mixture.route(x, seeded(5)))
    expected = torch.autograd.grad((reference * target).sum(), parameters)
    torch.testing.assert_close(mixed.output, reference)
    for gradient, e in zip(gradients, expected, strict=True):
        gradient = torch.zeros_like(e) if gradient is None else gradient
        torch.testing.assert_close(gradient, e, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("router", ["topk", "relu"])
@pytest.mark.parametrize("expert", ["patch", "mlp"])
def test_an_exported_program_lets_all_experts_answer(expert, router, monkeypatch):
    mixture = make_mixture(expert, router=router, router_options={"top_k": 2})
    x = samples_for(expert)
    randomize_router(mixture).eval()
    outputs = []
    for exporting in (False, True):
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda exporting=exporting: exporting)
        outputs.append(mixture(x).output)
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("bias", [False, True])
def test_all_patch_experts_at_once(bias):
    mixture = build("patch_conv" if bias else "patch")
    x = samples_for("patch")
    expected = torch.stack([expert(x) for expert in mixture.experts], 1)
    torch.testing.assert_close(answer_all(mixture.experts, x), expected)
    alone = answer_all([mixture.experts[0]], x)
    torch.testing.assert_close(alone, expected[:, :1])


@pytest.mark.parametrize("router", ["top1", "topk", "soft", "merge", "relu", "patch_choice"])
@pytest.mark.parametrize("expert", ["patch", "patch_conv"])
def test_stacked_patch_experts_are_those_with_weights_of_their_own(expert, router):
    options = {"router": router, "router_options": {"top_k": 2 if router == "topk" else 1}}
    stack, apart = (
        randomize_router(make_mixture(expert, separate=separate, **options))
        for separate in (False, True)
    )
    assert isinstance(stack.experts, Stack)
    assert isinstance(apart.experts, nn.ModuleList)
    x, target = samples_for(expert), torch.randn(23, 3, generator=seeded(3), dtype=torch.float64)
    outputs = [mixture(x, seeded(5)).output for mixture in (stack, apart)]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    for output in outputs:
        (output * target).sum().backward()
    for name, parameter in stack.experts.named_parameters():
        alone = [e.get_parameter(name).grad for e in apart.experts]
        alone = torch.stack([torch.zeros_like(parameter[0]) if g is None else g for g in alone])
        torch.testing.assert_close(parameter.grad, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stack.forward_each(x), apart.forward_each(x))


def test_a_stack_is_a_sequence_of_patch_experts_that_share_its_weights():
    stack, apart = (build("patch_conv", separate=separate).experts for separate in (False, True))
    x = samples_for("patch")
    assert len(stack) == len(list(stack)) == 4
    for m, (one, expert) in enumerate(zip(stack, apart, strict=True)):
        assert isinstance(one, PatchExpert)
        torch.testing.assert_close(one(x), expert(x), rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            one.weight.mul_(2)
        torch.testing.assert_close(stack.weight[m], 2 * expert.weight)
        stack.zero_grad()
        one(x).sum().backward()
        assert stack.weight.grad.flatten(1).any(1).nonzero().flatten().tolist() == [m]
    assert torch.equal(stack[-1].weight, stack[3].weight)
    stack[0].register_forward_hook(lambda *_: 1 / 0)
    stack[1](x)
    with pytest.raises(IndexError):
        stack[4]


class Doubled(PatchExpert):
    """A subclass with an answer of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_experts_that_differ_answer_for_themselves():
    mixture = randomize_router(build(separate=True))
    with OwnGenerator(seeded(7)):
        mixture.experts[0] = PatchExpert((4, 6), 3, activation="linear").double()
        mixture.experts[1] = PatchExpert((4, 6), 3, width=2, bias=True).double()
    x = samples_for("patch")
    torch.testing.assert_close(mixture(x).output, dense(mixture, x, mixture.route(x)))
    with OwnGenerator(seeded(8)):
        mixture.experts = nn.ModuleList(Doubled((4, 6), 3).double() for _ in range(4))
        learns = nn.PReLU()
        shared = [PatchExpert((4, 6), 3, activation=learns) for _ in range(2)]
    for experts in (list(mixture.experts), shared):
        assert PatchExpert.stack(experts) is None
    torch.testing.assert_close(mixture(x).output, dense(mixture, x, mixture.route(x)))


def test_softmax_gate_is_free_of_noise_and_the_choice_is_not():
    mixture = randomize_router(build())
    x = samples_for("patch")
    mixture.router.network.weight.data.mul_(0.1)
    quiet, noisy = mixture.route(x), mixture.route(x, seeded(5))
    assert not torch.equal(quiet.chosen, noisy.chosen)
    torch.testing.assert_close(quiet.scores, noisy.scores)
    torch.testing.assert_close(noisy.gate, quiet.scores.softmax(1).gather(1, noisy.chosen))
    added = mixture.router.noise(x, quiet.scores, seeded(5))
    assert torch.equal(noisy.chosen[:, 0], (noisy.scores + added).argmax(1))


@pytest.mark.parametrize(
    ("function", "returned"), [(lambda z: z.sum(1), r"shape \(2,\)"), (lambda z: 3, "3")]
)
def test_an_activation_says_what_it_returned_instead(function, returned):
    with pytest.raises(TypeError, match=rf"it returned {returned} where \(2, 3\) was expected"):
        activation_layer(function)


class Spy(nn.Module):
    """Remember what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x


def test_an_expert_sees_its_own_samples_only_and_an_empty_one_nothing():
    experts = [Spy() for _ in range(4)]
    x = torch.arange(5.0).unsqueeze(1)
    chosen = torch.tensor([[2], [0], [2], [3], [0]])
    torch.testing.assert_close(dispatch(experts, x, chosen), x.unsqueeze(1))
    assert [[s.flatten().tolist() for s in e.seen] for e in experts] == [
        [[1.0, 4.0]],
        [],
        [[0.0, 2.0]],
        [[3.0]],
    ]


def test_single_expert_has_no_router_and_gate_one():
    mixture = build(n_experts=1)
    x = samples_for("patch")
    assert mixture.router is None
    assert torch.equal(mixture(x, seeded()).output, mixture.experts[0](x))
    assert torch.equal(mixture.route(x).gate, torch.ones(23, 1, dtype=torch.float64))


def test_forward_each_agrees_with_forward_where_chosen():
    mixture = randomize_router(build()).eval()
    x = samples_for("patch")
    mixed = mixture(x)
    rows = torch.arange(len(x))
    torch.testing.assert_close(
        mixture.forward_each(x)[rows, mixed.route.chosen[:, 0]], mixed.output
    )


def test_expert_means_count_weights_and_own_samples():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    weight = torch.tensor([1.0, 3.0, 1.0, 0.5])
    chosen = torch.tensor([[0], [0], [2], [2]])
    scores = torch.zeros(4, 4)
    means = expert_means(values, weight, Route(scores, scores, chosen, scores[:, :1]))
    torch.testing.assert_close(means, torch.tensor([7 / 4, 0, 8 / 1.5, 0]))
    assert weighted_mean(values, weight).item() == pytest.approx(15 / 4)  # of 4 samples


def test_own_generator_seeds_any_layer():
    layers = []
    for seed in (0, 0, 1):
        with OwnGenerator(seeded(seed)):
            layers.append([nn.Linear(3, 2).weight, nn.Conv2d(1, 2, 3).bias, torch.randn(3)])
    assert all(torch.equal(a, b) for a, b in zip(layers[0], layers[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(layers[0], layers[2], strict=True))


@pytest.mark.parametrize("expert", EXPERTS)
def test_build_is_reproducible_and_its_dtype_changes_nothing(expert):
    first, second, single = build(expert), build(expert), build(expert, dtype="float32")
    for a, b, c in zip(*(m.experts.parameters() for m in (first, second, single)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.float(), c)
    weights = [next(m.experts.parameters()) for m in (first, build(expert, seed=1))]
    assert not torch.equal(*weights)


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match=r"must be .* -> torch\.nn\.Module; it returned None"):
        ExpertSpec(lambda shape, n: None).build((4, 6), 2)
