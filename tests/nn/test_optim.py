"""NormalizedSGD against its formula."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe.optim import SOLVERS, NormalizedSGD, group_by


def units(dtype=torch.float64):
    """Two units of two tensors each, with gradients."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(2):
        unit = [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in ((3, 2), 4)]
        for p in unit:
            p.grad = 5 * torch.randn(p.shape, generator=generator, dtype=dtype)
        made.append(unit)
    return made


def reference_norm(gradients, norm):
    if norm is None:
        return torch.tensor(1.0)
    if norm == "sum":
        return sum(g.norm() for g in gradients)
    return sum(g.square().sum() for g in gradients).sqrt()


@pytest.mark.parametrize(
    ("norm", "momentum", "weight_decay"),
    [("l2", 0.0, 0.0), ("l2", 0.9, 0.1), ("sum", 0.0, 0.1), ("sum", 0.9, 0.0), (None, 0.9, 0.1)],
)
def test_follows_the_formula(norm, momentum, weight_decay):
    groups = units()
    optimizer = NormalizedSGD(
        [{"params": unit} for unit in groups],
        lr=0.1,
        norm=norm,
        momentum=momentum,
        weight_decay=weight_decay,
    )
    expected = [[p.detach().clone() for p in unit] for unit in groups]
    velocity = [[torch.zeros_like(p) for p in unit] for unit in groups]
    for step in range(3):
        for u, unit in enumerate(groups):
            length = reference_norm([p.grad for p in unit], norm)
            for i, p in enumerate(unit):
                direction = p.grad / length + weight_decay * expected[u][i]
                velocity[u][i] = momentum * velocity[u][i] + direction
                expected[u][i] = expected[u][i] - 0.1 * velocity[u][i]
        optimizer.step()
        for unit in groups:
            for p in unit:
                p.grad = p.grad * (step + 2)
    for unit, reference in zip(groups, expected, strict=True):
        for p, e in zip(unit, reference, strict=True):
            torch.testing.assert_close(p.detach(), e)


@pytest.mark.parametrize("norm", ["l2", None])
def test_zero_gradient_leaves_the_unit_alone(norm):
    moving, resting = units()
    optimizer = NormalizedSGD(
        [{"params": moving}, {"params": resting}], norm=norm, momentum=0.9, weight_decay=0.1
    )
    optimizer.step()
    before = [p.detach().clone() for p in resting]
    buffers = [optimizer.state[p]["momentum_buffer"].clone() for p in resting]
    for p in resting:
        p.grad.zero_()
    optimizer.step()
    for p, b, buffer in zip(resting, before, buffers, strict=True):
        assert torch.equal(p, b)
        assert torch.equal(optimizer.state[p]["momentum_buffer"], buffer)
    for p in resting:
        p.grad = None
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(resting, before, strict=True))


@pytest.mark.parametrize(
    ("norm", "options"),
    [("l2", {}), ("sum", {"momentum": 0.9}), (None, {"weight_decay": 0.1}), (None, {})],
)
def test_units_of_one_group_are_as_groups_of_their_own(norm, options):
    single = [*units(), *units()]
    single[1][0].grad.zero_()
    single[1][1].grad.zero_()
    tensors = [[unit[i] for unit in single] for i in (0, 1)]
    stacks = [nn.Parameter(torch.stack(of_one).detach()) for of_one in tensors]
    multiplier = torch.tensor([1.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    groups = [
        {"params": unit, "lr_multiplier": value}
        for unit, value in zip(single, multiplier.unbind(), strict=True)
    ]
    optimizers = [
        NormalizedSGD(params, lr=0.1, norm=norm, **options)
        for params in (groups, [{"params": stacks, "units": 4, "lr_multiplier": multiplier}])
    ]
    for _ in range(3):
        for stack, of_one in zip(stacks, tensors, strict=True):
            stack.grad = torch.stack([p.grad for p in of_one])
        for optimizer in optimizers:
            optimizer.step()
        for stack, of_one in zip(stacks, tensors, strict=True):
            torch.testing.assert_close(stack.data, torch.stack(of_one).data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("norm", ["l2", None])
def test_lr_multiplier_scales_the_step_of_its_group_only(norm):
    slow, fast = units()
    sizes = [reference_norm([p.grad for p in unit], "l2").item() for unit in (slow, fast)]
    start = [[p.detach().clone() for p in unit] for unit in (slow, fast)]
    optimizer = NormalizedSGD([{"params": slow}, {"params": fast}], lr=0.1, norm=norm)
    optimizer.param_groups[0]["lr_multiplier"] = torch.tensor(0.25)
    optimizer.step()
    lengths = [
        sum((p.detach() - s).square().sum() for p, s in zip(unit, begin, strict=True)).sqrt()
        for unit, begin in zip((slow, fast), start, strict=True)
    ]
    assert lengths == pytest.approx(
        [0.025, 0.1] if norm == "l2" else [0.025 * sizes[0], 0.1 * sizes[1]]
    )


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
    for name, value in (("lr", -1), ("momentum", -0.1), ("weight_decay", float("nan"))):
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got {value}"):
            NormalizedSGD([first], **{name: value})
    for groups in (
        [{"params": [first], "norm": "max"}],
        [{"params": [first]}, {"params": [second], "norm": "max"}],
    ):
        with pytest.raises(ValueError, match=r"norm must be .* got 'max'"):
            NormalizedSGD(groups)
    tensors = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    with pytest.raises(ValueError, match=r"units=3 and tensors of shapes \[\(3, 2\), \(4,\)\]"):
        NormalizedSGD([{"params": tensors, "units": 3}])


def test_groups_of_equal_keys_keep_their_order():
    assert group_by([3, 1, 4, 1, 5, 9, 2, 6], lambda n: [n % 3]) == [[3, 9, 6], [1, 4, 1], [5, 2]]


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


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_learns_at_its_own_rates(solver):
    X, y = make_classification(300, 6, class_sep=2.0, random_state=0)
    clf = MoEClassifier(
        n_experts=2, solver=solver, max_iter=30, tol=None, early_stopping=False, random_state=0
    ).fit(X.astype(np.float32), y)
    assert clf.loss_curve_[-1] < 0.7 * clf.loss_curve_[0]
    assert clf.score(X, y) > 0.85


def test_batches_are_a_quarter_of_few_samples():
    X = np.random.default_rng(0).normal(size=(2000, 2))
    y = (X[:, 0] > 0).astype(int)
    for solver, model, sizes in (
        ("adam", MoEClassifier, (32, 75, 200)),
        ("adam", MoERegressor, (200, 200, 200)),
        ("adamw", MoEClassifier, (200, 200, 200)),
        ("normalized_sgd", MoEClassifier, (1024, 1024, 1024)),
        ("normalized_sgd", MoERegressor, (200, 200, 200)),
    ):
        moe = model(2, solver=solver, max_iter=1, tol=None, random_state=0)
        fits = [moe.fit(X[:n], y[:n]).resolved_params_["batch_size"] for n in (40, 300, 2000)]
        assert tuple(fits) == sizes


def all_to_the_first(x, scores, generator):
    return 1e6 * (torch.arange(scores.shape[1]) == 0).to(scores).expand_as(scores)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_expert_without_samples_stays_where_it_is(solver):
    X = np.random.default_rng(0).normal(size=(60, 3, 4))
    options = {
        "solver": SolverParams(solver, weight_decay=0.1),
        "router": RouterParams("top1", noise=all_to_the_first),
    }
    clf = MoEClassifier(3, batch_size=20, tol=None, random_state=0, **options)
    early, late = (
        [
            expert.weight
            for expert in clf.set_params(max_iter=n).fit(X, X[:, 0, 0] > 0).module_.experts
        ]
        for n in (1, 3)
    )
    assert list(map(torch.equal, early, late)) == [False, True, True]
