"""Balancing: losses are least when the load is even, count weights, and even it out."""

import pytest
import torch
from helpers import seeded, specified

from sklearn_moe.nn import BALANCES, Route
from sklearn_moe.nn.routers import make_router


def balanced(name, weight=1.0, n_experts=4, **options):
    """Return a router of four experts on vectors of six features, with a balance."""
    spec, options = specified("topk", **{"noise": "gaussian"} | options)
    balance = BALANCES[name](n_experts, weight)
    return make_router(spec, (6,), n_experts, balance=balance, **options).double()


def samples(n=400):
    """Return samples whose first feature is 1."""
    x = torch.randn(n, 6, generator=seeded(1), dtype=torch.float64)
    x[:, 0] = 1
    return x


def skew(router, strength):
    """Let the router prefer its first expert whatever the sample."""
    router.network.weight.data.zero_()[0, 0] = strength


def loss_of(router, x, weight=None, seed=2):
    weight = torch.ones(len(x), dtype=torch.float64) if weight is None else weight
    return router.balance(router, router(x, seeded(seed)), weight)


def test_the_loss_grows_with_skew_between_known_ends():
    x, losses = samples(), []
    for strength in (0.0, 1.0, 3.0, 50.0):
        router = balanced("switch")
        skew(router, strength)
        losses.append(loss_of(router, x).item())
    assert losses == sorted(losses)
    assert (losses[0], losses[-1]) == pytest.approx((1, 4), abs=0.02)


def test_following_the_loss_evens_the_load():
    x, router = samples(), balanced("switch")
    skew(router, 2.0)
    weight = torch.ones(len(x), dtype=torch.float64)
    before = router(x, seeded(2)).load(weight)
    optimizer = torch.optim.SGD(router.parameters(), lr=0.3)
    for step in range(300):
        optimizer.zero_grad()
        loss_of(router, x, seed=step).backward()
        optimizer.step()
    after = router(x, seeded(2)).load(weight)
    assert before.max() > 0.7 > 0.35 > after.max()


@pytest.mark.parametrize("name", BALANCES)
def test_weight_two_is_the_sample_twice(name):
    x = samples(30)
    weight = torch.randint(3, (30,), generator=seeded(3)).double()
    repeats = weight.long()
    results = []
    for rows, w in ((x, weight), (x.repeat_interleave(repeats, 0), torch.ones(repeats.sum()))):
        router = balanced(name, hashed=True)
        torch.nn.init.normal_(router.network.weight, 0, 0.3, generator=seeded())
        for step in range(3):
            loss = loss_of(router, rows, w.double() / w.double().mean(), seed=step)
        results.append([loss, *router.balance.buffers()])
    for ours, expected in zip(*results, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, expected)


def test_the_switch_loss_counts_the_running_load():
    router = balanced("switch")
    scores = torch.zeros(8, 4, dtype=torch.float64)
    scores[:, 0] = 1.0
    everyone_to = [torch.full((8, 1), m) for m in (0, 1)]
    weight, importance = torch.ones(8, dtype=torch.float64), scores[0].softmax(0)
    routes = [Route(scores, scores, chosen, scores[:, :1]) for chosen in everyone_to]
    first = router.balance(router, routes[0], weight)
    torch.testing.assert_close(first, 4 * importance[0])
    second = router.balance(router, routes[1], weight)
    torch.testing.assert_close(second, 4 * (importance[0] + importance[1]) / 2)
    for _ in range(200):  # an average over ten batches has long forgotten the first
        last = router.balance(router, routes[1], weight)
    torch.testing.assert_close(last, 4 * importance[1])


def test_the_bias_moves_towards_an_even_load_and_leaves_the_gate_alone():
    x, router = samples(), balanced("bias", weight=0.02)
    skew(router, 2.0)
    weight = torch.ones(len(x), dtype=torch.float64)
    assert router.balance(router, router(x, seeded(0)), weight) is None
    expected = torch.tensor([-0.02, 0.02, 0.02, 0.02], dtype=torch.float64)
    torch.testing.assert_close(router.balance.bias, expected)
    for step in range(300):
        router.balance_loss(router(x, seeded(step)), weight)
    route = router(x, seeded(2))
    assert route.load(weight).max() < 0.35
    torch.testing.assert_close(route.gate, route.scores.softmax(1).gather(1, route.chosen))
    bias = router.balance.bias.clone()
    router.freeze()  # which keeps the bias
    router.balance_loss(route, weight)
    assert torch.equal(router.balance.bias, bias)
    quiet = router(x)
    assert not torch.equal(quiet.chosen[:, 0], quiet.scores.argmax(1))  # it counts at prediction
