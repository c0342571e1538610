"""NormalizedSGD against its formula."""

import subprocess
import sys
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from helpers import brief_fits, refuses
from sklearn.datasets import make_classification
from torch import nn

from sklearn_moe import MoEClassifier, RouterParams, SolverParams
from sklearn_moe.optim import SOLVERS, NormalizedSGD


def units(dtype=torch.float64):
    """Two units of two tensors each, with gradients."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=dtype)
    made = [[nn.Parameter(draw(shape)) for shape in ((3, 2), 4)] for _ in range(2)]
    for p in chain(*made):
        p.grad = 5 * draw(p.shape)
    return made


def reference_norm(gradients, norm):
    if norm is None:
        return torch.tensor(1.0)
    if norm == "sum":
        return sum(g.norm() for g in gradients)
    return sum(g.square().sum() for g in gradients).sqrt()


@pytest.mark.parametrize(
    ("norm", "momentum", "weight_decay"),
    [
        *(("l2", 0.0, 0.0), ("l2", 0.9, 0.1), ("sum", 0.0, 0.1), ("sum", 0.9, 0.0)),
        *((None, 0.9, 0.1), (None, 0.0, 0.0)),
    ],
)
def test_follows_the_formula(norm, momentum, weight_decay):
    groups = units()
    options = {"norm": norm, "momentum": momentum, "weight_decay": weight_decay}
    rates = (0.2, 0.1)  # of the two groups
    optimizer = NormalizedSGD([{"params": unit} for unit in groups], lr=0.1, **options)
    optimizer.param_groups[0]["lr_multiplier"] = 2
    expected = [[p.detach().clone() for p in unit] for unit in groups]
    velocity = [[torch.zeros_like(p) for p in unit] for unit in groups]
    for step in range(3):
        for u, unit in enumerate(groups):
            length = reference_norm([p.grad for p in unit], norm)
            for i, p in enumerate(unit):
                direction = p.grad / length + weight_decay * expected[u][i]
                velocity[u][i] = momentum * velocity[u][i] + direction
                expected[u][i] = expected[u][i] - rates[u] * velocity[u][i]
        optimizer.step()
        for p in chain(*groups):
            p.grad = p.grad * (step + 2)
    torch.testing.assert_close([p.detach() for p in chain(*groups)], [*chain(*expected)])


@pytest.mark.parametrize("norm", ["l2", None])
def test_zero_gradient_leaves_the_unit_alone(norm):
    moving, resting = units()
    groups = [{"params": moving}, {"params": resting}]
    optimizer = NormalizedSGD(groups, norm=norm, momentum=0.9, weight_decay=0.1)
    optimizer.step()
    for gradient in (0.0, None):
        now = [*resting, *(optimizer.state[p]["momentum_buffer"] for p in resting)]
        before = [t.detach().clone() for t in now]
        for p in resting:
            p.grad = None if gradient is None else torch.zeros_like(p)
        optimizer.step()
        assert all(map(torch.equal, now, before))


def test_a_step_may_evaluate_the_model():
    weight, target = nn.Parameter(torch.zeros(2)), torch.tensor([3.0, -4.0])
    optimizer = NormalizedSGD([weight], lr=0.1)

    def closure():
        loss = (weight - target).square().sum()
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        return loss

    losses = [optimizer.step(closure).item() for _ in range(100)]
    assert losses[0] == 25
    assert losses[-1] < 0.02  # a step of 0.1 cannot come nearer than half of itself


def test_bad_options():
    first, second = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    tensors = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    for groups, options, match in (
        ([first], {"lr": -1}, "lr .* -1"),
        ([first], {"momentum": -0.1}, "momentum .* -0.1"),
        ([first], {"weight_decay": float("nan")}, "weight_decay .* nan"),
        ([{"params": [first]}, {"params": [second], "norm": "max"}], {}, "norm .* 'max'"),
        ([{"params": tensors, "units": 3}], {}, r"units=3 .* \[\(3, 2\), \(4,\)\]"),
    ):
        refuses(match, match, NormalizedSGD, groups, **options)


@pytest.mark.parametrize("solver", ["normalized_sgd", "adamw"])
def test_a_loaded_state_is_laid_out_like_its_parameters(solver):
    """Another machine may use another memory layout for the weights of convolutions."""

    def run(*layouts):
        weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        state = None
        for layout in layouts:
            weight = torch.nn.Parameter(weight.detach().contiguous(memory_format=layout))
            optimizer = SOLVERS[solver].build([weight], lr=0.1)
            if state is not None:
                optimizer.load_state_dict(state)
            for step in range(3):
                weight.grad = torch.sin(weight.detach() + step)
                optimizer.step()
            state = optimizer.state_dict()
        return weight.detach()

    plain, last = torch.contiguous_format, torch.channels_last
    torch.testing.assert_close(run(plain, last, plain), run(plain, plain, plain))


@brief_fits
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_learns_at_its_own_rates(solver):
    X, y = make_classification(300, 6, class_sep=2.0, random_state=0)
    options = {"max_iter": 30, "tol": None, "early_stopping": False, "random_state": 0}
    clf = MoEClassifier(2, solver=solver, **options).fit(X.astype(np.float32), y)
    assert clf.loss_curve_[-1] < 0.7 * clf.loss_curve_[0]
    assert clf.score(X, y) > 0.85


def all_to_the_first(x, scores, generator):
    return 1e6 * (torch.arange(scores.shape[1]) == 0).to(scores).expand_as(scores)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_expert_without_samples_stays_where_it_is(solver):
    X, weights = np.random.default_rng(0).normal(size=(60, 3, 4)), []
    router = RouterParams("top1", noise=all_to_the_first)
    options = {"solver": SolverParams(solver, weight_decay=0.1), "router": router}
    clf = MoEClassifier(3, batch_size=20, tol=None, random_state=0, **options)
    for n in (1, 3):
        module = clf.set_params(max_iter=n).fit(X, X[:, 0, 0] > 0).module_
        weights.append([expert.weight for expert in module.experts])
    assert [*map(torch.equal, *weights)] == [False, True, True]


@pytest.mark.slow
def test_the_first_fits_of_a_process_do_not_import_the_compiler_of_torch():
    lines = (
        "import copy, sys",
        "from sklearn_moe import MoEClassifier",
        "from sklearn_moe.optim import SOLVERS",
        "for solver in SOLVERS:",
        "    model = MoEClassifier(2, solver=solver, max_iter=1, random_state=0)",
        "    copy.deepcopy(model.fit([[0], [1]] * 5, [0, 1] * 5)).predict([[0]])",
        "print('torch._dynamo' in sys.modules)",
    )
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(lines)]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert (shown.stderr, shown.stdout) == ("", "False\n")
