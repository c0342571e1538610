"""Experiments as data, the runner that repeats nothing, and what is measured of a run."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.metrics import dispatch_entropy, routing_matrix
from sklearn_moe.nn import EXPERTS, ROUTERS
from sklearn_moe.optim import SOLVERS, NormalizedSGD
from sklearn_moe.paper import (
    EXPERIMENTS,
    CellResult,
    Experiment,
    NotebookStopping,
    Problem,
    Published,
    Results,
    __main__,
    _runner,
    get_experiment,
    run_experiment,
    run_experiments,
)
from sklearn_moe.paper.__main__ import main
from sklearn_moe.paper._protocols import NOISY_AT_TEST, SUM_OF_NORMS
from sklearn_moe.paper._report import to_json, to_markdown
from sklearn_moe.paper._run import Run, describe
from sklearn_moe.paper._statistics import UNDECIDED
from sklearn_moe.paper.experiments import GROUPS, names_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

SMALL = Problem(1, n_train=120, n_test=80)
SHORT = {"max_iter": 4, "tol": None, "device": "cpu"}


def small(**changes):
    """Return an experiment of four cells that takes a moment."""
    models = {"single": MoEClassifier(1, **SHORT), "mixture": MoEClassifier(4, **SHORT)}
    return replace(
        Experiment("small", "Small", "Does it run?", (SMALL,), models),
        **{"grid": {"activation": ["linear", "cubic"]}, "trace": 2} | changes,
    )


def numbers(results):
    """Return the runs of all cells without what a clock says."""
    return [
        {name: value for name, value in run.items() if "seconds" not in name}
        for cell in results.cells
        for run in cell.runs
    ]


@pytest.mark.parametrize("data", ["fixed", "fresh"])
@pytest.mark.parametrize(
    ("name", "protocol"),
    [(name, p) for name, entry in EXPERIMENTS.items() for p in entry.protocols],
)
def test_experiments_are_sound(name, protocol, data):
    experiment = get_experiment(name, protocol, data)
    assert experiment.name == name
    cells = experiment.cells(runs=2)
    labels = [tuple(cell.labels.values()) for cell in cells]
    assert len(set(labels)) == len(labels)
    assert set(experiment.published) <= set(labels)
    keys = [json.dumps(run.settings, sort_keys=True) for cell in cells for run in cell.runs]
    assert len(set(keys)) == len(keys)
    if name not in ("wide", "baselines", "table2"):  # over fresh problems, or pictures
        fixed = {problem.data_seed is not None for problem in experiment.problems}
        assert fixed == {data == "fixed"}


def test_names():
    assert names_of(["table1", "all"])[0] == "table1"
    assert set(names_of(["all"])) == {n for n, entry in EXPERIMENTS.items() if entry.in_all}
    for members in GROUPS.values():
        assert set(members) <= set(EXPERIMENTS)
    with pytest.raises(ValueError, match="'table3' is not known, choose from"):
        get_experiment("table3")
    with pytest.raises(ValueError, match="'text' is not known, choose from"):
        get_experiment("table1", "text")


def test_problems_are_fixed_or_fresh():
    fixed, fresh = Problem(1, 20, 20, data_seed=12), Problem(1, 20, 20)
    np.testing.assert_array_equal(fixed.draw(0).X, fixed.draw(1).X)
    assert not np.array_equal(fresh.draw(0).X, fresh.draw(1).X)


@pytest.mark.parametrize("setting", [1, 2, "verify", "visualization"])
def test_hard_samples_are_those_with_misleading_noise(setting):
    X, y, clusters, hard, (features, _) = Problem(setting, 150, 50).draw(0)
    for bag, label, cluster, is_hard in zip(X, y, clusters, hard, strict=True):
        # A patch that is a multiple of the feature of another cluster is the feature noise.
        (noise,) = (
            float(patch @ feature)
            for patch in bag
            for k, feature in enumerate(features)
            if k != cluster and abs(patch @ feature) > 0.999 * np.linalg.norm(patch)
        )
        assert is_hard == ((noise > 0) != (label == 1))
    assert 0.3 < hard.mean() < 0.7


def test_a_run_measures_what_a_fit_by_hand_shows():
    run = Run(SMALL, MoEClassifier(4, **SHORT), seed=3, trace=2)
    result = run.perform()
    X, y, clusters, hard, _ = SMALL.draw(3)
    train, test = slice(120), slice(120, None)
    clf = MoEClassifier(4, random_state=3, **SHORT).fit(X[train], y[train])
    correct = clf.predict(X[test]) == y[test]
    experts = clf.apply(X[train])
    assert result["accuracy"] == pytest.approx(100 * correct.mean())
    assert result["hard_accuracy"] == pytest.approx(100 * correct[hard[test] == 1].mean())
    assert result["train_accuracy"] == pytest.approx(100 * clf.score(X[train], y[train]))
    assert result["entropy"] == pytest.approx(dispatch_entropy(clusters[train], experts))
    assert result["test_entropy"] == pytest.approx(
        dispatch_entropy(clusters[test], clf.apply(X[test]))
    )
    assert result["steps"] == 4
    assert result["curve"]["step"] == [0, 2, 4]
    noise = RoutingTrace(X[train], clusters[train], noise=True)  # as the authors looked at it
    MoEClassifier(4, random_state=3, callbacks=[noise], **SHORT).fit(X[train], y[train])
    np.testing.assert_allclose(result["curve"]["entropy"], noise.dispatch_entropy_[::2], rtol=1e-4)
    np.testing.assert_array_equal(
        result["routing"], routing_matrix(clusters[train], noise.experts_, n_experts=4)
    )
    assert np.shape(result["router_centers"]) == (4, 4)
    start = MoEClassifier(4, random_state=3, **SHORT | {"max_iter": 1})
    dictionary = SMALL.draw(3).dictionary
    trace = RoutingTrace(X[train], clusters[train], dictionary=dictionary)
    start.set_params(callbacks=[trace]).fit(X[train], y[train])
    against, towards = np.split(trace.expert_features_[0], 2, axis=1)  # filters of both classes
    expected = np.maximum(-against, towards).max(1)
    np.testing.assert_allclose(result["initial_features"], expected, rtol=1e-4)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_run_takes_any_classifier():
    model = make_pipeline(StandardScaler(), LogisticRegression())
    result = Run(SMALL, model, seed=0, trace=2).perform()
    assert 30 < result["accuracy"] < 90
    assert "entropy" not in result


def test_settings_hold_everything_but_the_clock():
    run = Run(SMALL, MoEClassifier(4), seed=0)
    same = Run(replace(SMALL), MoEClassifier(4, random_state=5), seed=0)
    assert run.settings == same.settings
    for other in (
        replace(run, seed=1),
        replace(run, problem=replace(SMALL, data_seed=1)),
        replace(run, estimator=MoEClassifier(4, tol=1e-3)),
        replace(run, estimator=MoEClassifier(4, callbacks=[NotebookStopping()])),
        replace(run, estimator=MoEClassifier(4, callbacks=[NotebookStopping(margin=0.1)])),
        replace(run, estimator=make_pipeline(StandardScaler(), MoEClassifier(4))),
        replace(run, trace=5),
    ):
        assert other.settings != run.settings
    assert describe(np.sin.__class__) == "numpy.ufunc"
    with pytest.raises(TypeError, match="has no name by which a run could be found again"):
        describe(lambda x: x)


def test_no_run_is_repeated_and_experiments_share(tmp_path, monkeypatch):
    performed = []
    perform = Run.perform
    monkeypatch.setattr(Run, "perform", lambda run: performed.append(run) or perform(run))
    half = small(name="half", grid={"activation": ["cubic"]})
    first, second = run_experiments([small(), half], tmp_path, runs=2, progress=False)
    assert len(performed) == 8
    assert numbers(second) == [
        n
        for cell in first.select(activation="cubic")
        for n in numbers(replace(first, cells=[cell]))
    ]
    again = run_experiment(small(), tmp_path, runs=2, progress=False)
    assert len(performed) == 8
    assert numbers(again) == numbers(first)
    run_experiment(small(), tmp_path, runs=3, progress=False)
    assert len(performed) == 12
    run_experiment(small(once=("single",)), tmp_path, runs=4, progress=False)
    assert len(performed) == 14


def test_results_do_not_depend_on_the_number_of_jobs(tmp_path):
    one = run_experiment(small(), tmp_path / "one", runs=2, jobs=1, progress=False)
    two = run_experiment(small(), tmp_path / "two", runs=2, jobs=2, progress=False)
    assert numbers(one) == numbers(two)


def test_an_interrupt_that_a_fit_swallows_is_not_lost(tmp_path, monkeypatch):
    def perform(run):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return {"accuracy": 1.0}

    usual = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Run, "perform", perform)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(small(), tmp_path, runs=1, progress=False)
    assert not list(tmp_path.rglob("*.json"))
    assert signal.getsignal(signal.SIGINT) is usual


SCRIPT = """
import sys
from dataclasses import replace
from sklearn_moe import MoEClassifier
from sklearn_moe.paper import Experiment, Problem, run_experiment

experiment = Experiment(
    "small", "Small", "Does it run?", (Problem(1, n_train=300, n_test=100),),
    {"mixture": MoEClassifier(4, max_iter=60, tol=None, device="cpu")}, trace=20)
run_experiment(experiment, sys.argv[1], runs=8, jobs=2, progress=False)
"""


def start(script, out):
    return subprocess.Popen(
        [sys.executable, script, out], start_new_session=True, stderr=subprocess.DEVNULL
    )


def stored(out):
    return {path.name: path for path in Path(out, "runs").glob("*.json")}


def plain(path):
    result = json.loads(path.read_text())["result"]
    return {name: value for name, value in result.items() if "seconds" not in name}


def test_killed_at_a_random_moment_it_goes_on(tmp_path):
    script = tmp_path / "experiment.py"
    script.write_text(textwrap.dedent(SCRIPT))
    out, reference = tmp_path / "killed", tmp_path / "whole"
    process = start(script, out)
    deadline = time.monotonic() + 120
    while not stored(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(np.random.default_rng().uniform(0, 0.6))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {name: path.stat().st_mtime_ns for name, path in stored(out).items()}
    assert done
    for path in stored(out).values():
        plain(path)  # complete
    assert start(script, out).wait() == 0
    assert start(script, reference).wait() == 0
    assert {n: stored(out)[n].stat().st_mtime_ns for n in done} == done
    assert len(stored(out)) == 8
    assert {n: plain(p) for n, p in stored(out).items()} == {
        n: plain(p) for n, p in stored(reference).items()
    }


def result(values, published=None, **labels):
    runs = [{"accuracy": value, "entropy": value / 100} for value in values]
    return CellResult(labels, runs, published)


def test_summary():
    summary = result([1.0, 2.0, 3.0, 6.0]).summary("accuracy")
    assert summary.mean == 3.0
    assert summary.std == pytest.approx(np.std([1, 2, 3, 6], ddof=1))
    assert summary.high - summary.mean == pytest.approx(3.1824 * summary.std / 2, rel=1e-4)
    assert np.isnan(result([1.0]).summary("accuracy").std)


@pytest.mark.parametrize(
    ("published", "values", "inside"),
    [
        (Published(90.0, 1.0), [91.0, 92.9], True),
        (Published(90.0, 1.0), [92.0, 92.2], False),
        (Published(90.0), [92.9], True),  # a single run
        (Published(90.0), [86.9], False),
        (None, [90.0], None),
    ],
)
def test_inside_the_published_range(published, values, inside):
    cell = result(values, published)
    assert cell.inside("accuracy") is inside
    assert cell.inside("entropy") is None
    outside = Results(small(), [cell]).outside()
    assert outside == ([(cell, "accuracy")] if inside is False else [])


def test_cells_are_found_by_their_labels():
    results = Results(small(), [result([1.0], model="a", k=1), result([2.0], model="a", k=2)])
    assert results.cell(k=2).summary("accuracy").mean == 2.0
    assert len(results.select(model="a")) == 2
    with pytest.raises(KeyError, match="2 cells have the labels"):
        results.cell(model="a")


def test_the_command_line_writes_a_report(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        __main__, "get_experiment", lambda *args: asked.append(args) or small(name=args[0])
    )
    options = ["--runs", "1", "--jobs", "1", "--seed", "7", "--out", str(tmp_path)]
    main(["table1", "fig3", "table1", "--protocol", "paper", "--data", "fresh", *options])
    assert asked == [("table1", "paper", "fresh"), ("fig3", "paper", "fresh")]
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"runs", "report.html", "table1.md", "table1.json", "fig3.md", "fig3.json"}
    cells = json.loads((tmp_path / "table1.json").read_text())["cells"]
    assert [cell["seeds"] for cell in cells] == [[7]] * 4
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert "--protocol paper" in (tmp_path / "report.html").read_text()


def test_the_command_line_names_what_it_knows(capsys):
    main(["list"])
    listed = capsys.readouterr().out
    for name in (*EXPERIMENTS, *GROUPS, "demo"):
        assert f"\n{name} " in f"\n{listed}"
    with pytest.raises(SystemExit):
        main(["table3"])
    assert "no experiment is called 'table3'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["table1", "--runs", "0"])
    assert "expected a whole number of at least 1, got '0'" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "perform", interrupt)
    with pytest.raises(SystemExit, match="the same command goes on"):
        main(["fig1", "--jobs", "1", "--out", str(tmp_path)])


def test_bad_number_of_jobs_is_refused_before_any_run(tmp_path):
    with pytest.raises(ValueError, match="n_jobs"):
        _runner.run_experiments([small()], tmp_path, runs=1, jobs=0, progress=False)


def made_up(run, rng):
    """Return a result of the form of `Run.perform`, without the fit."""
    n_experts = getattr(run.estimator, "n_experts", 1)
    result = dict(
        zip(("accuracy", "train_accuracy", "hard_accuracy"), rng.uniform(50, 100, 3), strict=True)
    )
    result |= {"seed": run.seed, "fit_seconds": 1.0, "seconds": 1.0, "device": "cpu"}
    result["best_epoch_accuracy"] = result["accuracy"] + 1
    if n_experts == 1:
        return result
    result |= dict(zip(("entropy", "test_entropy"), rng.uniform(0, 1.38, 2), strict=True))
    result |= {"load": rng.dirichlet(np.ones(n_experts)).tolist(), "steps": 501}
    names = ("expert_features", "expert_centers", "router_features", "router_centers")
    for name in (*names, "initial_features"):
        result[name] = rng.uniform(0.01, 1, (n_experts, 4)).tolist()
    result["routing"] = result["dispatch"] = rng.integers(500, size=(4, n_experts)).tolist()
    curves = {name: np.linspace(1e-4, rng.uniform(0.1, 0.3), 101) for name in names}
    curves |= {"step": np.arange(0, 505, 5), "entropy": np.linspace(1.38, 0.1, 101)}
    return result | {"curve": {name: curve.tolist() for name, curve in curves.items()}}


@pytest.mark.parametrize("runs", [1, 2, 5])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_report_can_be_written(name, runs):
    experiment, rng = get_experiment(name), np.random.default_rng(0)
    cells = [
        CellResult(cell.labels, [made_up(run, rng) for run in cell.runs], cell.published)
        for cell in experiment.cells(runs)
    ]
    results = Results(experiment, cells)
    json.dumps(to_json(results), allow_nan=False)
    assert experiment.title in to_markdown(results)
    findings = results.findings()
    assert findings
    for finding in findings:
        assert finding.holds in (True, False, None, UNDECIDED)
        assert "nan" not in finding.text
        assert finding.text.endswith(".")


def test_one_failure_does_not_stop_the_others(tmp_path):
    models = {"fails": MoEClassifier(4, solver="unknown"), "works": MoEClassifier(4, **SHORT)}
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed; the others are kept in.*solver"):
        run_experiment(small(models=models, grid={}), tmp_path, runs=2, progress=False)
    assert len(stored(tmp_path)) == 2


def test_a_pipeline_is_looked_at_for_its_last_step():
    model = make_pipeline(StandardScaler(), MoEClassifier(4, **SHORT))
    (cell,) = small(models={"pipeline": model}, grid={}, once=()).cells(1, device="cpu")
    (run,) = cell.runs
    assert run.estimator[-1].device == "cpu"
    result = run.perform()
    assert 0 <= result["entropy"] <= np.log(4)
    assert len(result["load"]) == 4
    assert "curve" not in result  # the trace would see samples that are not scaled


def test_problems_of_one_setting_are_told_apart():
    problems = (SMALL, replace(SMALL, data_seed=1), replace(SMALL, n_test=90))
    cells = small(problems=problems).cells(1)
    labels = [tuple(cell.labels.values()) for cell in cells]
    assert len(set(labels)) == len(labels)
    assert list(cells[0].labels)[:3] == ["setting", "n_test", "data_seed"]


def test_a_grid_may_hold_lists():
    grid = {"callbacks": [None, [NotebookStopping()]]}
    assert len(small(grid=grid).cells(1)) == 2 * len(small(grid={}).cells(1))


def test_a_grid_may_name_its_parameters():
    starts = {s: {"expert": EXPERTS["patch"].with_options(init_scale=s)} for s in (0.1, 1.0)}
    experiment = small(grid={"init_scale": starts, "activation": ["cubic", "linear"]})
    cells = experiment.cells(1)
    assert len(cells) == 2 * len(small().cells(1))
    for cell in cells:
        estimator = cell.runs[0].estimator
        assert estimator.expert == starts[cell.labels["init_scale"]]["expert"]
        assert estimator.activation == cell.labels["activation"]


def test_keys_tell_functions_with_other_arguments_apart():
    assert describe(partial(MoEClassifier, 3)) != describe(partial(MoEClassifier, 4))
    assert describe(SUM_OF_NORMS) != describe(partial(NormalizedSGD, norm="l2"))
    assert describe(torch.tensor([1.0])) != describe(torch.tensor([2.0]))
    assert describe(np.array([1.0])) == [1.0]


def test_keys_know_specs_by_their_values():
    patch, quiet = EXPERTS["patch"], replace(NOISY_AT_TEST, noise_at_predict=False)
    assert describe(patch.with_options(bias=True)) == describe(patch.with_options(bias=True))
    assert describe(patch.with_options(bias=True)) != describe(patch)
    assert describe(NOISY_AT_TEST) != describe(quiet) == describe(ROUTERS["top1"])
    for spec in (*EXPERTS.values(), *ROUTERS.values(), *SOLVERS.values()):
        assert " at 0x" not in json.dumps(describe(spec))  # an address is another one tomorrow


def test_looks_at_the_routing_do_not_make_another_run_of_a_single_expert():
    run = Run(SMALL, MoEClassifier(1), seed=0)
    assert replace(run, trace=5).settings == run.settings


@pytest.mark.parametrize(
    ("best", "holds"), [((1.2, 1.21), True), ((0.2, 0.21), False), ((0.6, 0.8), UNDECIDED)]
)
def test_linear_experts_fail_only_if_no_choice_saves_them(best, holds):
    experiment = get_experiment("linear")
    cells = experiment.cells(2)
    linear = [i for i, cell in enumerate(cells) if cell.labels["activation"] == "linear"]
    entropies = dict.fromkeys(range(len(cells)), (1.3, 1.35)) | {i: best for i in linear[3::16]}
    results = [
        CellResult(cell.labels, [{"accuracy": 90.0, "entropy": e} for e in entropies[i]])
        for i, cell in enumerate(cells)
    ]
    claims = [f for f in Results(experiment, results).findings() if "whatever the choice" in f.text]
    assert [finding.holds for finding in claims] == [holds, holds]
