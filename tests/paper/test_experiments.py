"""The experiments: all of them are sound, drawn and reported; what each one finds, by hand."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import brief_fits, slow

from sklearn_moe.paper import EXPERIMENTS, Results, get_experiment, run_experiment
from sklearn_moe.paper.__main__ import stored_result
from sklearn_moe.paper._artificial_runs import (
    Clusters,
    CoverageRun,
    probabilities,
)
from sklearn_moe.paper._report import from_json, to_json, to_markdown
from sklearn_moe.paper._run import seeded
from sklearn_moe.paper._statistics import UNDECIDED, share_interval
from sklearn_moe.paper.experiments import GROUPS
from sklearn_moe.paper.experiments.coverage import commitments, covered_by_chance, expected_covered
from sklearn_moe.paper.experiments.scaling import least, least_by_chance
from sklearn_moe.paper.experiments.stages import stages, times
from sklearn_moe.paper.experiments.theorem import experts_of, moved, uneven

pytestmark = brief_fits


def early(uneven, moved=0.01, without=0.5):
    """Return what is kept of the first steps, in which experts grow by a factor of 160."""
    curves = {"growth": 4.0 * np.arange(1, 41), "uneven": uneven, "uneven_without": uneven}
    curves |= {"moved": np.full(40, moved), "moved_without": np.full(40, without)}
    return {name: list(curve) for name, curve in curves.items()}


def results_of(experiment, result, runs=1):
    """Return results in which every run is what `result(cell, run)` returns."""
    cells = experiment.cells(runs)
    return Results(experiment, [replace(c, runs=[result(c, run) for run in c.runs]) for c in cells])


def keys_of(cells):
    return {run.key for cell in cells for run in cell.runs}


@pytest.mark.parametrize("name", slow(EXPERIMENTS, "phases", "scaling", "bound"))
def test_every_experiment_is_sound(name):
    for protocol, data in (("code", "fixed"), ("ours" if name == "table2" else "paper", "fresh")):
        experiment = get_experiment(name, protocol, data)
        assert experiment.name == name
        cells = experiment.cells(2)  # runs differ in their seeds
        labels = [tuple(cell.labels.values()) for cell in cells]
        assert len(set(labels)) == len(labels)
        assert set(experiment.published) <= set(labels)
        assert len(keys_of(cells)) == sum(len(cell.runs) for cell in cells)
        pickle.dumps([cell.runs[0] for cell in cells])  # to be sent to other processes
        n_runs = {len(cell.runs) for cell in experiment.cells()}
        assert n_runs <= {1, experiment.n_runs} or name == "shares"  # as many as are stored
        if name in ("fig3", "innerproducts"):
            assert keys_of(cells) <= keys_of(get_experiment("table1", protocol, data).cells(2))
        # Others have fresh problems always, or images or texts.
        fresh = {"wide", "limit", "basin", "baselines", "theorem", "scaling", "covering"}
        if name not in fresh | {*GROUPS["later"], "phases", "table2", "shares", "sentiment"}:
            seeds = {problem.data_seed is None for problem in experiment.problems}
            assert seeds == {data == "fresh"}


FOLDER = Path(__file__).parents[2] / "docs" / "results"
PATHS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.json"))


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_that_of_its_numbers(path):
    data = json.loads((FOLDER / path).read_text("utf-8"))
    results = from_json(*stored_result(data))
    text = (FOLDER / path).with_suffix(".md").read_text(encoding="utf-8")
    assert to_markdown(results) == text
    assert json.loads(json.dumps(to_json(results))) == data
    # The first run of each cell alone, and the first two of them.
    for n in (1, 2):
        cells = [replace(cell, runs=cell.runs[:n]) for cell in results.cells]
        for finding in replace(results, cells=cells).findings():
            assert finding.holds in (True, False, None, UNDECIDED)
            assert ("nan" in finding.text, finding.text[-1]) == (False, ".")


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PATHS if "table1" not in path])
def test_every_figure_is_drawn(path):
    results = from_json(*stored_result(json.loads((FOLDER / path).read_text("utf-8"))))
    if results.experiment.draw and path != "fig1.json":
        figure = results.experiment.draw(results)
        figure.draw_without_rendering()
        axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
        assert all(ax.get_title() or ax.get_xlabel() or ax.get_ylabel() for ax in axes)
        assert figure.legends or path in ("innerproducts.json", "phases.json")


def curve(entropy, centers, features=(1e-4, 0.01, 0.02, 0.03, 0.04)):
    steps = {"step": [0, 5, 10, 15, 20], "entropy": entropy, "router_centers": centers}
    return steps | {"expert_features": features}


def test_times_of_the_stages():
    found = times(curve([1.4, 1.3, 1.0, 0.6, 0.1], [0, 0.001, 0.01, 0.1, 0.2]))
    assert 0 < found["commit"] < 5
    assert 10 < found["route"] < 15
    assert found["dispatch"] == 15
    never = curve([1.4] * 5, [0.0] * 5, [1e-4] * 5)
    assert np.isnan(list(times(never).values())).all()
    again = curve([1.4, 0.5, 0.2, 0.3, 0.8], [0.1] * 5)  # it rises
    assert np.isnan(times(again)["dispatch"])
    results = results_of(stages(), lambda *_: {"seed": 0, "curve": never})
    assert results.findings()[0].holds == UNDECIDED
    assert "20 (router outweighs the noise)" in results.findings()[-1].text


def test_commitments_by_chance():
    draws = np.random.default_rng(0).integers(4, size=(20_000, 6))
    covered = (draws[:, :, None] == np.arange(4)).any(1).sum(1)
    assert covered_by_chance(4, 6) == pytest.approx((covered == 4).mean(), abs=0.012)
    assert expected_covered(4, 6) == pytest.approx(covered.mean(), abs=0.03)


def test_commitments():
    run = {
        "routing": [[50, 0, 0, 20, 0], [0, 60, 0, 20, 0], [0, 0, 70, 20, 0], [0, 5, 0, 10, 1]],
        "initial_features": [[4, 1, 1, 1], [9, 3, 1, 1], [1, 1, 8, 1], [5, 1, 1, 1], [1, 1, 1, 2]],
        "expert_features": np.eye(4)[[0, 1, 2, 0, 0]].tolist(),
    }
    taken = commitments(run)
    assert taken.used.tolist() == [True, True, True, True, False]  # 1 of 256 samples
    assert taken.cluster.tolist() == [0, 1, 2, -1, -1]  # the fourth has no majority
    assert (taken.covered, taken.end) == (3, 1)
    assert taken.start == pytest.approx(2 / 3)


def small(experiment, *sizes):
    """Return an experiment on few samples, of the first problem with other sizes if there are."""
    problems = [replace(problem, n_train=120, n_test=80) for problem in experiment.problems]
    problems = [replace(problems[0], n_train=n, n_test=60) for n in sizes] or problems
    return replace(experiment, problems=tuple(problems))


@pytest.mark.slow
def test_fig1_draws_every_moment(tmp_path):
    experiment = replace(small(get_experiment("fig1")), grid={"max_iter": [1, 5, 10]})
    results = run_experiment(experiment, tmp_path, runs=2, device="cpu", progress=False)
    last = results.cell(model="mixture cubic", max_iter=10)
    last.runs[0]["entropy"], last.runs[1]["entropy"] = 1.0, 0.5
    figure = results.experiment.draw(results)
    figure.draw_without_rendering()
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    names = ("Linear", "Nonlinear")
    assert titles == [f"{name}, step {step}" for name in names for step in (1, 5, 10)]
    assert results.findings()[0].holds == UNDECIDED  # of two runs that differ that much


@pytest.mark.slow
def test_every_baseline_runs(tmp_path):
    experiment = small(get_experiment("baselines"), 60)
    with torch.random.fork_rng(devices=[]):  # neural-trees seeds the global generator
        results = run_experiment(experiment, tmp_path, runs=1, progress=False)
    assert len(results.cells) == 8
    assert all(30 < cell.mean("accuracy") <= 100 for cell in results.cells)


def test_probabilities_of_the_noisy_choice():
    apart = np.array([0, 1e-6, 0.25, 1, 3])  # the score of the second expert below the first
    second = probabilities(np.stack([np.zeros(5), -apart], axis=1))[:, 1]
    np.testing.assert_allclose(second, np.clip(1 - apart, 0, 1) ** 2 / 2, atol=1e-14)
    scores = np.random.default_rng(0).normal(size=(50, 16)) * 0.3
    found = probabilities(scores)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(probabilities(scores, noise=False).argmax(1), scores.argmax(1))
    draws = scores[0] + np.random.default_rng(1).random((200_000, 16))
    chosen = np.bincount(draws.argmax(1), minlength=16) / len(draws)
    np.testing.assert_allclose(found[0], chosen, atol=0.004)


def test_theorem_is_put_to_the_test():
    errors = 50 - 50 * np.eye(4)[[0, 1, 2, 3, 0]]  # the last expert is unused
    errors[4] = [10, 20, 50, 50]
    dispatch = np.zeros((4, 5), int) + 100 * np.eye(4, 5, dtype=int)
    run = {"accuracy": 99.9, "train_accuracy": 100.0, "dispatch": dispatch.tolist()}
    run |= dict.fromkeys(("train_errors", "test_errors"), errors.tolist())
    run["early"] = early(np.linspace(0, 0.2, 40))
    experts = experts_of(run)
    assert experts.cluster.tolist() == [0, 1, 2, 3, 0]
    assert experts.own.tolist() == [0, 0, 0, 0, 10]
    np.testing.assert_allclose(experts.others, [50, 50, 50, 50, 40])
    assert experts.used.tolist() == [True] * 4 + [False]
    assert (experts.filled, experts.sent) == (4, 100)
    wrong = run | {"train_errors": np.roll(errors, 2, axis=0).tolist()}  # other M_k than at test
    assert (experts_of(wrong).filled, experts_of(wrong).sent) == (0, 0)
    # Experts have grown 50 times between the records at 48 and 52.
    assert uneven(run) == pytest.approx(100 * 0.2 * 11.5 / 39)
    assert uneven(run, 1000) == pytest.approx(20)
    assert (moved(run), moved(run, "_without")) == pytest.approx((1, 50))


def test_theorem_measures_a_run():
    cells = small(get_experiment("theorem", "paper"), 120).cells(1, device="cpu")
    measured = []
    for cell in (cells[0], cells[2]):  # with noise, and without
        cell.runs[0].estimator.set_params(max_iter=8)
        run = cell.runs[0].perform()
        assert np.shape(run["test_errors"]) == np.transpose(run["dispatch"]).shape
        assert np.sum(run["dispatch"]) == 60
        assert len(run["early"]["growth"]) == 8  # a record per step
        assert run["early"]["growth"] == sorted(run["early"]["growth"])
        measured.append(run["early"])
    noisy, quiet = measured
    assert max(noisy["uneven"]) < 0.01 < 0.5 < min(quiet["uneven"])
    assert quiet["moved"] == quiet["moved_without"]


def test_scaling_counts_covered_clusters():
    experiment = get_experiment("scaling", "paper")
    samples = Clusters(1, 60, 40, n_clusters=8, patch_size=20).draw(0)
    assert samples.X.shape == (100, 4, 20)
    assert set(samples.clusters) == set(range(8))

    class Fitted:  # the first expert is right, the second, which gets cluster 0, wrong
        classes_, expert_load_ = np.array([0, 1]), np.ones(2)

        def expert_proba(self, X):
            right = np.eye(2)[samples.y[60:]]
            return np.stack([right, 1 - right], axis=1)

        def apply(self, X):
            return (samples.clusters[60:] == 0).astype(int)

    problem = Clusters(1, 60, 40, n_clusters=8, patch_size=20)
    run = CoverageRun(problem, seeded(next(iter(experiment.models.values())), 0), 0)
    assert run.measure(Fitted(), samples) == {"learned": 8, "covered": 7}


def test_least_number_of_experts():
    assert [least_by_chance(k) for k in (2, 4)] == [5, 13]
    shares = {6: (share_interval(8, 10), share_interval(9, 10))}
    assert (least(shares), least(shares, learned=True)) == (None, 6)
