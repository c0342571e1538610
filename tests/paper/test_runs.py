"""Experiments as data, the runner that repeats nothing, and what is measured of a run."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers import raises
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.metrics import dispatch_entropy, routing_matrix
from sklearn_moe.nn import EXPERTS
from sklearn_moe.optim import NormalizedSGD
from sklearn_moe.paper import (
    Experiment,
    NotebookStopping,
    Problem,
    Results,
    run_experiment,
)
from sklearn_moe.paper._artificial_runs import DeepSet
from sklearn_moe.paper._experiment import Cell
from sklearn_moe.paper._protocols import NOISY_AT_TEST
from sklearn_moe.paper._run import Run
from sklearn_moe.paper._runner import RunStore, run_experiments

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

SMALL = Problem(1, n_train=120, n_test=80)
SHORT = {"max_iter": 4, "tol": None, "device": "cpu"}


def small(**changes):
    """Return an experiment of four cells that takes a moment."""
    models = {"single": MoEClassifier(1, **SHORT), "mixture": MoEClassifier(4, **SHORT)}
    options = {"models": models, "grid": {"activation": ["linear", "cubic"]}, "trace": 2}
    texts = dict.fromkeys(("name", "title", "question"), "small")
    return Experiment(**{"problems": (SMALL,)} | texts | options | changes)


def numbers(results):
    """Return the runs of all cells without what a clock says."""
    runs = (run for cell in results.cells for run in cell.runs)
    return [{name: v for name, v in run.items() if "seconds" not in name} for run in runs]


def test_problems():
    for data_seed, equal in ((12, True), (None, False)):
        problem = Problem(1, 20, 20, data_seed=data_seed)
        assert np.array_equal(problem.draw(0).X, problem.draw(1).X) == equal
    for setting in (1, "verify", "visualization"):
        # Hard are samples whose feature noise contradicts the label.
        X, y, clusters, hard, (features, _) = Problem(setting, 150, 50).draw(0)
        for bag, label, cluster, is_hard in zip(X, y, clusters, hard, strict=True):
            # A patch that is a multiple of the feature of another cluster is the feature noise.
            products = bag @ np.delete(features, cluster, axis=0).T
            is_noise = np.abs(products) > 0.999 * np.linalg.norm(bag, axis=1, keepdims=True)
            assert is_hard == ((products[is_noise].item() > 0) != (label == 1))
        assert 0.3 < hard.mean() < 0.7


def test_a_run_measures_what_a_fit_by_hand_shows():
    result = Run(SMALL, MoEClassifier(4, **SHORT), seed=3, trace=2).perform()
    X, y, clusters, hard, dictionary = SMALL.draw(3)
    train, test = slice(120), slice(120, None)
    noise = RoutingTrace(X[train], clusters[train], noise=True)  # as the authors recorded it
    clf = MoEClassifier(4, random_state=3, callbacks=[noise], **SHORT).fit(X[train], y[train])
    correct = clf.predict(X[test]) == y[test]
    expected = {
        "accuracy": 100 * correct.mean(),
        "hard_accuracy": 100 * correct[hard[test] == 1].mean(),
        "train_accuracy": 100 * clf.score(X[train], y[train]),
        "entropy": dispatch_entropy(clusters[train], clf.apply(X[train])),
        "test_entropy": dispatch_entropy(clusters[test], clf.apply(X[test])),
        "steps": 4,
        "seed": 3,
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert result["curve"]["step"] == [0, 2, 4]
    np.testing.assert_allclose(result["curve"]["entropy"], noise.dispatch_entropy_[::2], rtol=1e-4)
    routing = routing_matrix(clusters[train], noise.experts_, n_experts=4)
    np.testing.assert_array_equal(result["routing"], routing)
    assert np.shape(result["router_centers"]) == (4, 4)
    trace = RoutingTrace(X[train], clusters[train], dictionary=dictionary)
    clf.set_params(max_iter=1, callbacks=[trace]).fit(X[train], y[train])
    against, towards = np.split(trace.expert_features_[0], 2, axis=1)  # filters of both classes
    start = np.maximum(-against, towards).max(1)
    np.testing.assert_allclose(result["initial_features"], start, rtol=1e-4)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.filterwarnings("ignore:X has more columns")
def test_a_run_takes_any_classifier():
    result = Run(SMALL, make_pipeline(StandardScaler(), LogisticRegression()), 0, 2).perform()
    assert 30 < result["accuracy"] < 90
    assert "entropy" not in result


def test_a_key_is_of_everything_but_the_clock():
    run = Run(SMALL, MoEClassifier(4), seed=0)
    same = Run(replace(SMALL), MoEClassifier(4, random_state=5), seed=0)
    assert run.key == same.key
    estimators = (
        MoEClassifier(4, tol=1e-3),
        MoEClassifier(4, callbacks=[NotebookStopping(margin=0.1)]),
        make_pipeline(StandardScaler(), MoEClassifier(4)),
        MoEClassifier(4, router=replace(NOISY_AT_TEST, noise_at_predict=False)),
        MoEClassifier(4, solver=partial(NormalizedSGD, norm="l2")),
        MoEClassifier(4, expert=EXPERTS["patch"].with_options(bias=True)),
        MoEClassifier(4, expert=DeepSet),
    )
    others = [replace(run, estimator=estimator) for estimator in estimators]
    others += [replace(run, seed=1), replace(run, problem=replace(SMALL, data_seed=1))]
    keys = [r.key for r in (run, replace(run, trace=5), *others)]
    assert len(set(keys)) == len(keys)
    single = Run(SMALL, MoEClassifier(1), seed=0)
    assert replace(single, trace=5).key == single.key  # it has no routing


def test_no_run_is_repeated_and_experiments_share(tmp_path, monkeypatch):
    performed, perform = [], Run.perform
    monkeypatch.setattr(Run, "perform", lambda run: performed.append(run) or perform(run))
    half = small(name="half", grid={"activation": ["cubic"]})
    first, second = run_experiments([small(), half], tmp_path, runs=2, progress=False)
    assert len(performed) == 8
    assert [run.seed for run in performed] == [0] * 4 + [1] * 4  # a table takes shape early
    assert numbers(second) == numbers(replace(first, cells=first.select(activation="cubic")))
    for options, experiment, n_performed in (
        ({"runs": 2}, small(), 8),
        ({"runs": 3}, small(), 12),
        ({"runs": 4}, small(once=("single",)), 14),
        ({}, small(n_runs=3), 14),
        ({"runs": 2, "seed": 3}, small(models={"mixture": MoEClassifier(4, **SHORT)}), 16),
    ):
        run_experiment(experiment, tmp_path, progress=False, **options)
        assert len(performed) == n_performed


def test_a_run_is_read_only_when_it_is_complete_and_of_this_commit(tmp_path):
    store, run = RunStore(tmp_path), Run(SMALL, MoEClassifier(4), seed=0)
    store.path(run).parent.mkdir()
    store.path(run).with_suffix(".1.part").write_text('{"result": ')
    assert store.get(run) is None
    store.put(run, {"accuracy": 1.5})
    assert store.get(replace(run)) == {"accuracy": 1.5}
    assert store.get(replace(run, trace=5)) is None
    store.commit = "another"
    assert store.get(run) is None


def test_one_failure_does_not_stop_the_others(tmp_path):
    models = {"fails": MoEClassifier(4, solver="unknown"), "works": MoEClassifier(4, **SHORT)}
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed; the others are kept in.*solver"):
        run_experiment(small(models=models, grid={}), tmp_path, runs=2, progress=False)
    assert len([*tmp_path.glob("runs/*.json")]) == 2
    raises(ValueError, "n_jobs", run_experiment, small(), tmp_path, runs=1, jobs=0, progress=False)


def result(values, published=None, **labels):
    runs = [{"accuracy": value, "entropy": value / 100} for value in values]
    return Cell(labels, runs, published)


def test_the_interval_of_a_gain_is_that_of_pairs():
    cell = result([1.0, 2.0, 3.0, 6.0])
    gain = cell.interval("accuracy", over=result([0.0, 1.0, 3.0, 5.0]))  # 1, 1, 0 and 1 more
    assert gain == pytest.approx((0.75, 0.75 - 3.1824 / 4, 0.75 + 3.1824 / 4), abs=1e-4)


def test_cells_are_told_apart_and_found_by_their_labels():
    results = Results(small(), [result([1.0], model="a", k=1), result([2.0], model="a", k=2)])
    assert results.cell(k=2).mean("accuracy") == 2.0
    assert results.by("model", k=1)["a"] is results.cells[0]
    raises(KeyError, "2 cells have the labels", results.cell, model="a")
    problems = (SMALL, replace(SMALL, data_seed=1), replace(SMALL, n_test=90))
    cells = small(problems=problems).cells(1)
    assert len({tuple(cell.labels.values()) for cell in cells}) == len(cells) == 12
    assert list(cells[0].labels) == ["setting", "n_test", "data_seed", "model", "activation"]
    starts = {s: {"expert": EXPERTS["patch"].with_options(init_scale=s)} for s in (0.1, 1.0)}
    for cell in small(grid={"init_scale": starts, "activation": ["cubic", "linear"]}).cells(1):
        estimator = cell.runs[0].estimator
        assert estimator.expert == starts[cell.labels["init_scale"]]["expert"]
        assert estimator.activation == cell.labels["activation"]
