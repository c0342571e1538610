"""Every router against a slow and obvious reference, sample by sample in float64."""

from functools import partial

import pytest
import torch
from helpers import (
    assert_equal_gradients,
    gates_of,
    make_mixture,
    raises,
    refuses,
    samples_for,
    seeded,
    specified,
)
from torch import nn

from sklearn_moe.nn import (
    NETWORKS,
    ROUTERS,
    RouterSpec,
    TopKRouter,
    routers,
)
from sklearn_moe.nn import router_parts as networks
from sklearn_moe.nn.router_parts import GATES, NOISES, LinearScores, Noise, as_patches
from sklearn_moe.nn.routers import SoftRouter, choose
from sklearn_moe.nn.seeding import use_generator

# Each gate of each router, with one or several experts in turn.
SEVERAL = {"topk": 2, "sampled": 3, "random": 2}
COMBINATIONS = [
    (name, gate, SEVERAL.get(name, 1) if gate == "renormalized" or i % 2 else 1)
    for name, spec in ROUTERS.items()
    for i, gate in enumerate(gates_of(spec))
]


def build(router="top1", expert="patch", **options):
    """Return a mixture whose scores and filters are not small."""
    options = {"expert_options": {"width": 5}, "router_options": {"init_std": 1.0} | options}
    mixture = make_mixture(expert, router=router, **options)
    generator = seeded(2)
    for name, parameter in mixture.router.named_parameters():
        if "network" in name:
            parameter.data.normal_(0, 0.4, generator=generator)
    return mixture


samples = partial(samples_for, "patch")


def make_router(router, *args, **options):
    """Return a router, with parts of the spec among the options."""
    spec, options = specified(router, **options)
    return routers.make_router(spec, *args, **options)


# -- references: one sample x, its noise r, everything written out ------------------------


def scores_of(router, x):
    """Return the scores of one bag of patches."""
    return torch.stack([theta @ x.sum(0) for theta in router.network.weight])


def weights_of(gate, h, noisy, chosen):
    """Return the gate value of each chosen expert."""
    if gate == "logit":
        return [noisy[m] for m in chosen]
    if gate == "sigmoid":
        return [1 / (1 + (-h[m]).exp()) for m in chosen]
    among = chosen if gate == "renormalized" else range(len(h))
    factor = len(h) if gate == "relative" else 1
    return [factor * h[m].exp() / sum(h[j].exp() for j in among) for m in chosen]


def highest(values, k):
    return sorted(range(len(values)), key=lambda m: (-values[m].item(), m))[:k]


def sparse(mixture, gate, x, r, k):
    h = scores_of(mixture.router, x)
    noisy = h + r
    chosen = highest(noisy, k)
    weights = weights_of(gate, h, noisy, chosen)
    return sum(w * mixture.experts[m](x[None])[0] for w, m in zip(weights, chosen, strict=True))


def dense(mixture, gate, x, r, k):
    """Return what all experts make of a sample: of outputs or of probabilities."""
    is_soft = isinstance(mixture.router, SoftRouter)
    weights = weights_of(gate, scores_of(mixture.router, x), None, range(4))
    outputs = [expert(x[None])[0] for expert in mixture.experts]
    if is_soft:
        outputs = [a.softmax(0) for a in outputs]
    total = sum(w * output for w, output in zip(weights, outputs, strict=True))
    return total.log() if is_soft else total


REFERENCES = dict.fromkeys(("soft", "sigmoid"), dense)
REFERENCES |= dict.fromkeys(("top1", "topk", "sampled", "random"), sparse)


def test_every_router_has_a_reference():
    assert set(REFERENCES) == set(ROUTERS)
    assert {gate for _, gate, _ in COMBINATIONS} == set(GATES)


@pytest.mark.parametrize(("router", "gate", "top_k"), COMBINATIONS)
def test_values_and_gradients_equal_the_reference(router, gate, top_k):
    mixture = build(router, gate=gate, top_k=top_k)
    x = samples().requires_grad_()
    output = mixture(x, seeded(5)).output
    noise = torch.zeros(23, 4, dtype=torch.float64)
    if mixture.router.noise is not None:
        noise = mixture.router.noise(x, noise, seeded(5))
    rows = zip(x, noise, strict=True)
    expected = torch.stack([REFERENCES[router](mixture, gate, a, r, top_k) for a, r in rows])
    torch.testing.assert_close(output, expected)
    assert_equal_gradients(output, expected, [x, *mixture.parameters()])
    # Shares, loads and ranking of the route.
    route, weight = mixture.route(x), torch.linspace(0, 2, 23, dtype=torch.float64)
    shares, best = route.shares(), route.ranking()
    total = shares.sum(1)
    torch.testing.assert_close(total, (total > 0).double())
    load = weight @ shares
    torch.testing.assert_close(route.per_expert(weight), load)
    torch.testing.assert_close(route.load(weight), load / load.sum())
    assert best.shape == (23, 1 if route.chosen is None else top_k)
    if route.chosen is None:
        assert torch.equal(best[:, 0], shares.argmax(1))


# -- scores -------------------------------------------------------------------------------


def test_a_sample_is_a_set_of_patches():
    x = torch.arange(2 * 3 * 9 * 8.0).view(2, 3, 9, 8)
    patches = as_patches(x)  # the ninth row does not fill a square
    assert torch.equal(patches[1, 1], x[1, :, :4, 4:].flatten())
    assert torch.equal(patches[0, 2], x[0, :, 4:8, :4].flatten())
    for shape, expected in {(3, 9, 8): (4, 48), (5,): (1, 5), (3, 2, 7): (3, 12)}.items():
        assert as_patches(torch.ones(2, *shape)).shape == (2, *expected)
    for n_patches in (1, 4, 9, 12):
        x = torch.randn(5, n_patches, 3, generator=seeded())
        torch.testing.assert_close(networks.sum_patches(x, torch.float64), x.double().sum(1))


def test_scores_add_up_over_patches():
    for expert in ("patch", "mlp", "cnn"):
        x = samples_for(expert)
        linear = build(expert=expert).router.network
        bias = 0 if linear.bias is None else linear.bias.T
        expected = as_patches(x).sum(1) @ linear.weight.T + bias
        torch.testing.assert_close(linear(x, torch.float64), expected)


def test_a_network_of_the_users_own_runs_in_any_precision():
    def network(input_shape, n_experts):
        return nn.Sequential(nn.Flatten(), nn.Linear(24, n_experts))

    class Halved(LinearScores):
        def forward(self, x, dtype):
            return super().forward(x, dtype) / 2

    mixture, x = build(network=network).float(), samples()
    training = mixture.route(x.float()).scores
    exact = mixture.eval().route(x.float()).scores
    assert (training.dtype, exact.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(training.double(), exact, rtol=1e-4, atol=1e-5)
    plain, halved = (build(network=scores).route(x).scores for scores in (LinearScores, Halved))
    torch.testing.assert_close(halved, plain / 2)  # scores are given the type


def test_last_weights_have_the_std_that_is_asked_for():
    seen = []

    def own(input_shape, n_experts, init_std):
        seen.append(init_std)
        return nn.Sequential(nn.Flatten(), nn.Linear(24, n_experts))

    with use_generator(seeded()):
        for spec in (ROUTERS["topk"], RouterSpec(TopKRouter, random_init=True)):
            make_router(spec, (4, 6), 4, network=own, init_std=0.5)
        make_router("topk", (4, 6), 4, network=own, init_std=0.5, noise=None)
    assert seen == [0, 0.5, 0.05]
    for network in NETWORKS.values():
        with use_generator(seeded()):
            weight = network((3, 20, 20), 64, init_std=0.5).weight
            assert not network((3, 20, 20), 64).weight.any()
        assert weight.mean().item() == pytest.approx(0, abs=0.05)
        assert weight.std().item() == pytest.approx(0.5, rel=0.1)


def test_ties_go_to_the_lower_index():
    scores = torch.tensor([[1.0, 3.0, 3.0, 1.0]])
    assert choose(scores, 1).tolist() == [[1]]
    assert choose(scores, 3).tolist() == [[1, 2, 0]]
    scores = torch.randint(4, (200, 9), generator=seeded()).float()  # full of ties
    for k in (1, 2, 4, 5, 9):
        assert choose(scores, k).tolist() == [highest(row, k) for row in scores]


# -- noise --------------------------------------------------------------------------------

DISTRIBUTIONS = {
    "uniform": torch.distributions.Uniform(0.0, 1.0),
    "gaussian": torch.distributions.Normal(0.0, 1.0),
    "gumbel": torch.distributions.Gumbel(0.0, 1.0),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_noise_has_its_distribution_and_is_fresh(name):
    x, scores = torch.randn(4000, 10, generator=seeded()), torch.zeros(4000, 3)
    noise, generator = Noise(NOISES[name], name == "gaussian"), seeded(1)
    first, second = (noise(x, scores, generator) for _ in range(2))
    assert not torch.equal(first, second)
    for draw in (first, second):
        assert draw.isfinite().all()
        uniform = DISTRIBUTIONS[name].cdf(draw.clamp(-20, 20 if name != "uniform" else 1))
        grid = torch.linspace(0, 1, 4000).unsqueeze(1)
        assert (uniform.sort(0).values - grid).abs().max() < 0.035  # Kolmogorov-Smirnov, p > 1e-3
        assert torch.corrcoef(draw.T).fill_diagonal_(0).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([first[:, 0], second[:, 0]]))[0, 1].abs() < 0.06


@pytest.mark.parametrize("name", NOISES)
def test_extremes_and_equal_rows(name):
    assert NOISES[name](torch.tensor([0.0, 1.0 - 2**-24])).isfinite().all()
    x = torch.randn(5, 10, generator=seeded(), dtype=torch.float64)
    doubled = torch.cat([x, x.flip(0)])
    noise = Noise(NOISES[name], hashed=True)(doubled, torch.zeros(10, 3).double(), seeded(1))
    torch.testing.assert_close(noise[:5], noise[5:].flip(0), rtol=0, atol=1e-6)


def test_names_of_a_noise_and_of_a_gate():
    for hashed in (True, False):
        assert make_router("topk", (6,), 4, noise="gumbel", hashed=hashed).noise.hashed == hashed
    for wrong in ({"noise": "nose"}, {"gate": "date"}):
        refuses(wrong, "is none of", make_router, "topk", (6,), 4, **wrong)


# -- what goes together -------------------------------------------------------------------


def test_the_spec_of_a_router():
    noise = [RouterSpec.of(kind).noise for kind in (TopKRouter, ROUTERS["soft"].router_class)]
    assert noise == ["uniform", None]
    raises(ValueError, "router must be a name", RouterSpec.of, 3)


# -- routes -------------------------------------------------------------------------------


def test_each_expert_in_the_place_of_all():
    x, rows = samples(), torch.arange(23)
    for router in ("top1", "soft", "sigmoid"):
        mixture = build(router).eval()
        mixed, each = mixture(x), torch.stack(mixture.forward_each(x), 1)
        assert each.shape == (23, 4, 3)
        if router == "soft":
            torch.testing.assert_close(each, mixture.forward_experts(x).expert_outputs)
        elif router == "top1":
            torch.testing.assert_close(each[rows, mixed.route.chosen[:, 0]], mixed.output)
        else:
            shares = mixed.route.shares()[:, :, None]
            torch.testing.assert_close((each * shares).sum(1), mixed.output)
