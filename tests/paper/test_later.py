"""What is measured of claims that came after the paper."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.datasets import PAPER_SETTINGS
from sklearn_moe.paper import _later_runs as later
from sklearn_moe.paper import get_experiment
from sklearn_moe.paper._run import Problem, seeded
from sklearn_moe.paper._statistics import standard_error
from sklearn_moe.paper.experiments.basin import START, accuracy, flow, margins


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.6, 1.0, "setting 3"])
def test_the_limit_of_one_expert_is_reached_by_hand(overlap):
    sizes = {"n_train": 200, "n_test": 6000}
    if overlap == "setting 3":
        name, overlap, problem = "tight", 1.0, Problem(3, data_seed=3, **sizes)
    else:
        name, problem = "limit", later.Overlap(overlap, **sizes)
    model = get_experiment(name).models["made by hand"]
    found = later.HandMadeRun(problem, model, seed=0).perform()
    limit = later.limit_of(problem.options)
    assert limit == pytest.approx(
        {"accuracy": 100 - 12.5 * overlap, "hard_accuracy": 100 - 25 * overlap}
    )
    for measure, most in limit.items():  # within three standard errors
        n = 6000 if measure == "accuracy" else 3000
        assert found[measure] == pytest.approx(most, abs=3 * standard_error(min(most, 99.9), n))


@pytest.mark.parametrize(
    ("setting", "most"), [(1, 92.5), (2, 92.5), (3, 87.5), (4, 87.5), ("verify", 87.5)]
)
def test_limits_of_the_settings(setting, most):
    assert later.limit_of(PAPER_SETTINGS[setting])["accuracy"] == pytest.approx(most)


def test_losses_do_not_tell_the_limit_from_the_rest():
    """The hinge loss is least at the limit, too; the log loss comes as close to its infimum."""
    made = np.array([[22, 21, 18, 12], [0, 2, 5, 11]])
    m = margins(*made / 19)
    assert np.maximum(0, 1 - m).mean() == pytest.approx(0.5)
    assert m[:, 0].min() >= 1 - 1e-9  # so that the hard half decides, whose margins average 0
    assert m[:, 1].mean() == pytest.approx(0)
    small = np.array([[10.0], [0]]) + 0.001 * made
    log_loss = np.logaddexp(0, -margins(*small)).mean()
    assert log_loss == pytest.approx(0.346578, abs=1e-6)
    assert 0 < log_loss - np.log(2) / 2 < 1e-5
    for expert in (made / 19, small):
        assert accuracy(*expert) == 87.5


@pytest.mark.parametrize("rate", [1, 8 / 3])
def test_near_the_least_log_loss_differences_decay_at_two_rates(rate):
    start = np.array([[8.03, 8.01, 7.98, 7.98], [0.01, -0.02, 0.03, 0.02]])
    end = flow(start, rate, 24)
    gaps = [np.subtract(strengths, strengths.mean()) for strengths in (start[0], end[0])]
    np.testing.assert_allclose(gaps[1], np.exp(-24 / 12) * gaps[0], rtol=0.01)
    np.testing.assert_allclose(end[1], np.exp(-24 * rate / 32) * start[1], rtol=0.01)


def test_the_limit_is_lost_at_equal_rates_and_kept_where_both_decay_alike():
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = np.array([rng.normal(4, 2, 4), rng.normal(0, 2, 4)])
        assert accuracy(*flow(start, 1, 600, step=0.4)) == 75
    assert accuracy(*flow(START, 8 / 3, 200, step=0.2)) == 87.5
    assert accuracy(*flow(START, 1, 200, "count of errors", step=0.2)) == 87.5


def test_networks_start_where_the_flow_does():
    cell = get_experiment("basin").cells(1)[0]
    problem = later.Overlap(n_train=4000, n_test=6000)
    model = clone(cell.runs[0].estimator).set_params(learning_rate_init=1e-9)
    run = replace(cell.runs[0], problem=problem, estimator=model)
    fitted, found = run.fit(seeded(model, 0))
    assert found["accuracy"] == pytest.approx(87.5, abs=1.3)  # three standard errors
    ((_, _, readout),) = fitted.module_.experts
    np.testing.assert_allclose(readout.weight.detach()[0], START.ravel(), rtol=1e-6)


def test_the_smooth_count_of_errors_is_bounded_and_has_the_gradient_of_its_loss():
    output = torch.tensor([[-50.0], [0.0], [50.0]], requires_grad=True)
    loss = later.ErrorHead(2).loss(output, torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(loss, torch.tensor([1.0, 0.5, 0.0]))
    loss.sum().backward()
    torch.testing.assert_close(output.grad[:, 0], torch.tensor([0.0, -0.25, 0.0]))


def test_pruning_counts_what_is_left_by_each_order():
    problem = later.RareClusters(1, n_train=1000, n_test=500)
    model = MoEClassifier(6, random_state=0, max_iter=100, tol=None)
    fitted, found = later.PruningRun(problem, model, 0).fit(clone(model))
    X, y, clusters, *_ = problem.draw(0)
    for order in later.ORDERS:
        assert found["pruned"][order]["accuracy"][-1] == pytest.approx(found["accuracy"])
    right = fitted.predict(X[1000:]) == y[1000:]
    worst = min(100 * right[clusters[1000:] == k].mean() for k in range(4))
    assert found["pruned"]["load"]["worst"][-1] == pytest.approx(worst)
    assert found["pruned"]["load"]["accuracy"][0] < found["accuracy"]


def test_a_router_that_stops_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(later.ContinualRun, "n_epochs", 3)
    problem = Problem(1, n_train=400, n_test=200)
    models = [MoEClassifier(4, random_state=0, callbacks=c) for c in ([FreezeRouter(12)], None)]
    runs = [later.ContinualRun(problem, model, 0).fit(model) for model in models]
    (stopped, a), (other, b) = runs
    assert len(a["rounds"]) == 16
    np.testing.assert_array_equal(a["rounds"][:4], b["rounds"][:4])
    rows = [model.module_.router.network.weight.detach().numpy() for model in (stopped, other)]
    assert np.abs(rows[0]).max() > 0
    assert not np.allclose(*rows)
    assert a["accuracy"] == pytest.approx(a["rounds"][-1])


def test_the_largest_load_is_beside_the_mean_one():
    model = MoEClassifier(4, random_state=0, max_iter=2, tol=None)
    fitted, found = later.LoadRun(Problem(1, n_train=600, n_test=200), model, 0).fit(model)
    assert found["max_violation"] == pytest.approx(4 * fitted.expert_load_.max() - 1)
