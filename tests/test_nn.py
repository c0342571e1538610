"""The torch parts against slow and obvious references."""

import pytest
import torch
from torch import nn

from sklearn_moe.nn import (
    ACTIVATIONS,
    EXPERTS,
    HEADS,
    OwnGenerator,
    PatchExpert,
    Route,
    answer_all,
    build_mixture,
    dispatch,
    expert_means,
    weighted_mean,
)

SHAPES = {"patch": (4, 6), "patch_conv": (4, 6), "mlp": (6,), "cnn": (3, 9, 8)}
BACKBONES = ("resnet18", "resnet18_gn", "mobilenet_v2", "mobilenet_v2_gn")
SHAPES |= dict.fromkeys(BACKBONES, (3, 9, 8))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(expert="patch", n_experts=4, *, top_k=1, gate="softmax", seed=0, **kw):
    if expert in BACKBONES:  # as published they would take minutes
        kw = {"width": 2} | kw
    return build_mixture(
        SHAPES[expert],
        3,
        n_experts,
        expert=expert,
        expert_options=kw,
        router="topk",
        router_options={"top_k": top_k, "gate": gate},
        dtype=torch.float64,
        seed=seed,
    )


def samples(expert, n=23, seed=1):
    return torch.randn(n, *SHAPES[expert], generator=seeded(seed), dtype=torch.float64)


def randomize_router(mixture, seed=2):
    """Give a zero router scores that differ."""
    with torch.no_grad():
        for parameter in mixture.router.parameters():
            parameter.normal_(generator=seeded(seed))
    return mixture


def test_every_expert_has_a_shape_here():
    assert set(SHAPES) == set(EXPERTS)


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
    x = samples("patch")
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
def test_expert_output_width_and_activation(expert):
    small, large = build(expert, width=4), build(expert, width=8)
    assert small.experts[0](samples(expert)).shape == (23, 3)
    sizes = [sum(p.numel() for p in m.experts[0].parameters()) for m in (small, large)]
    assert sizes[0] < sizes[1]
    outputs = [build(expert, activation=a).experts[0](samples(expert)) for a in ("tanh", "relu")]
    assert not torch.allclose(*outputs)


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
        EXPERTS[expert](shape, 2)


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
        if expert not in BACKBONES or (top_k, gate) == (2, "softmax")
    ],
)
def test_mixture_and_gradients_equal_the_dense_reference(expert, top_k, gate):
    mixture = randomize_router(build(expert, top_k=top_k, gate=gate))
    mixture.eval()  # while it learns, BatchNorm answers by whatever else is in the batch
    x, target = samples(expert), torch.randn(23, 3, generator=seeded(3), dtype=torch.float64)
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


@pytest.mark.parametrize("bias", [False, True])
def test_all_patch_experts_at_once(bias):
    mixture = build("patch_conv" if bias else "patch")
    x = samples("patch")
    expected = torch.stack([expert(x) for expert in mixture.experts], 1)
    torch.testing.assert_close(answer_all(mixture.experts, x), expected)
    alone = answer_all(mixture.experts[:1], x)
    torch.testing.assert_close(alone, expected[:, :1])


class Doubled(PatchExpert):
    """A subclass with an answer of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_experts_that_differ_answer_for_themselves():
    mixture = randomize_router(build())
    with OwnGenerator(seeded(7)):
        mixture.experts[0] = PatchExpert((4, 6), 3, activation="linear").double()
        mixture.experts[1] = PatchExpert((4, 6), 3, width=2, bias=True).double()
    x = samples("patch")
    torch.testing.assert_close(mixture(x).output, dense(mixture, x, mixture.route(x)))
    with OwnGenerator(seeded(8)):
        mixture.experts = nn.ModuleList(Doubled((4, 6), 3).double() for _ in range(4))
    torch.testing.assert_close(mixture(x).output, dense(mixture, x, mixture.route(x)))


def test_softmax_gate_is_free_of_noise_and_the_choice_is_not():
    mixture = randomize_router(build())
    x = samples("patch")
    mixture.router.network.weight.data.mul_(0.1)
    quiet, noisy = mixture.route(x), mixture.route(x, seeded(5))
    assert not torch.equal(quiet.chosen, noisy.chosen)
    torch.testing.assert_close(quiet.scores, noisy.scores)
    torch.testing.assert_close(noisy.gate, quiet.scores.softmax(1).gather(1, noisy.chosen))
    added = mixture.router.noise(x, quiet.scores, seeded(5))
    assert torch.equal(noisy.chosen[:, 0], (noisy.scores + added).argmax(1))


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
    x = samples("patch")
    assert mixture.router is None
    assert torch.equal(mixture(x, seeded()).output, mixture.experts[0](x))
    assert torch.equal(mixture.route(x).gate, torch.ones(23, 1, dtype=torch.float64))


def test_forward_each_agrees_with_forward_where_chosen():
    mixture = randomize_router(build()).eval()
    x = samples("patch")
    mixed = mixture(x)
    rows = torch.arange(len(x))
    torch.testing.assert_close(
        mixture.forward_each(x)[rows, mixed.route.chosen[:, 0]], mixed.output
    )


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_probabilities_and_their_likelihood(head):
    n_classes = 2
    output = torch.randn(50, HEADS[head].n_outputs(n_classes), generator=seeded()).double()
    y = torch.arange(50) % n_classes
    proba = HEADS[head].proba(output)
    torch.testing.assert_close(proba.sum(1), torch.ones(50, dtype=torch.float64))
    likelihood = proba.log().gather(1, y[:, None])[:, 0]
    if head == "probabilities":  # the softmax is taken once more
        likelihood = proba.log_softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(HEADS[head].loss(output, y), -likelihood)


def test_margin_head_is_the_logistic_loss_of_two_classes():
    with pytest.raises(ValueError, match="separates two classes by one score, y has 3"):
        HEADS["margin"].n_outputs(3)
    loss = HEADS["margin"].loss(torch.tensor([[2.0], [2.0]]), torch.tensor([0, 1]))
    expected = torch.log1p(torch.exp(torch.tensor([2.0, -2.0])))
    torch.testing.assert_close(loss, expected)


def test_expert_means_count_weights_and_own_samples():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    weight = torch.tensor([1.0, 3.0, 1.0, 0.5])
    chosen = torch.tensor([[0], [0], [2], [2]])
    scores = torch.zeros(4, 4)
    means = expert_means(values, weight, Route(scores, scores, chosen, scores[:, :1]))
    torch.testing.assert_close(means, torch.tensor([7 / 4, 0, 8 / 1.5, 0]))
    assert weighted_mean(values, weight).item() == pytest.approx(15 / 5.5)


def test_own_generator_seeds_any_layer():
    layers = []
    for seed in (0, 0, 1):
        with OwnGenerator(seeded(seed)):
            layers.append([nn.Linear(3, 2).weight, nn.Conv2d(1, 2, 3).bias, torch.randn(3)])
    assert all(torch.equal(a, b) for a, b in zip(layers[0], layers[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(layers[0], layers[2], strict=True))


@pytest.mark.parametrize("expert", EXPERTS)
def test_build_is_reproducible_and_its_dtype_changes_nothing(expert):
    first, second, other = build(expert), build(expert), build(expert, seed=1)
    for a, b in zip(first.experts.parameters(), second.experts.parameters(), strict=True):
        assert torch.equal(a, b)
    weights = [next(m.experts.parameters()) for m in (first, other)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"expert": "transformer"}, r"Unknown expert='transformer': pass one of \['cnn', 'mlp'"),
        ({"balance": "fair"}, r"Unknown balance='fair': pass one of \['bias', 'importance'"),
        ({"router": "best"}, r"Unknown router='best': pass one of \['kmeans', 'merge'"),
        ({"gate": "tanh"}, "Unknown gate='tanh'"),
        ({"noise": "pink"}, "Unknown router_noise='pink'"),
        ({"network": "deep"}, "Unknown router_network='deep'"),
    ],
)
def test_unknown_names_list_the_known_ones(choice, message):
    parts = {"expert": "patch", "expert_options": {}}
    parts |= {k: v for k, v in choice.items() if k in ("expert", "balance", "router")}
    options = {k: v for k, v in choice.items() if k not in parts}
    with pytest.raises(ValueError, match=message):
        build_mixture((4, 6), 2, 2, router_options=options, dtype=torch.float32, seed=0, **parts)


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module"):
        build_mixture(
            (4, 6),
            2,
            2,
            expert=lambda shape, n: None,
            expert_options={},
            router_options={},
            dtype=torch.float32,
            seed=0,
        )
