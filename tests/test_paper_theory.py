"""The experiments on what the paper proves: bound, stages, coverage, simplified."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_moe.paper._experiment import Finding
from sklearn_moe.paper._results import CellResult, Results
from sklearn_moe.paper._runner import run_experiment
from sklearn_moe.paper._statistics import UNDECIDED
from sklearn_moe.paper.experiments._theory import covered_by_chance, expected_covered
from sklearn_moe.paper.experiments.bound import bound
from sklearn_moe.paper.experiments.coverage import commitments, coverage
from sklearn_moe.paper.experiments.simplified import simplified
from sklearn_moe.paper.experiments.stages import crossing, stages, times

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

BUILDERS = {builder.__name__: builder for builder in (bound, stages, coverage, simplified)}


def tiny(experiment, models=None, grid=None):
    """Return an experiment that takes a second: few samples, few steps, some of the models."""
    names = models or list(experiment.models)
    return replace(
        experiment,
        problems=tuple(replace(p, n_train=120, n_test=80) for p in experiment.problems[-2:]),
        models={
            name: clone(experiment.models[name]).set_params(max_iter=6, callbacks=None)
            for name in names
        },
        grid=grid or experiment.grid,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    small = {
        "bound": tiny(bound(), models=["cubic, 16 filters", "tanh, 128 filters", "relu, default"]),
        "stages": tiny(
            stages(),
            grid={"learning_rate_init": [0.01, 0.02], "router_learning_rate_init": [0.1, 1]},
        ),
        "coverage": tiny(coverage(), models=["4 experts", "8 experts", "32 experts"]),
        "simplified": tiny(simplified()),
    }
    out = tmp_path_factory.mktemp("theory")
    return {name: run_experiment(e, out, runs=2, progress=False) for name, e in small.items()}


# -- all four --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("protocol", ["code", "paper"])
@pytest.mark.parametrize("data", ["fixed", "fresh"])
def test_builders(name, protocol, data):
    experiment = BUILDERS[name](protocol, data)
    assert experiment.name == name
    assert all((p.data_seed is None) == (data == "fresh") for p in experiment.problems)
    cells = experiment.cells(runs=10)
    assert all(len(cell.runs) <= experiment.max_runs for cell in cells)
    keys = [str(run.settings) for cell in cells for run in cell.runs]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", BUILDERS)
def test_findings_and_figures(name, results):
    findings = results[name].findings()
    assert findings
    for finding in findings:
        assert isinstance(finding, Finding)
        assert finding.text.endswith(".")
        assert finding.holds in (True, False, None, UNDECIDED)
    figure = results[name].experiment.draw(results[name])
    figure.canvas.draw()
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert all(ax.get_title() or ax.get_ylabel() for ax in figure.axes)
    assert figure.legends


@pytest.mark.parametrize("name", BUILDERS)
def test_one_run_is_enough(name, results):
    """Intervals of one run are not known: nothing is claimed of them, and nothing fails."""
    full = results[name]
    one = replace(full, cells=[replace(cell, runs=cell.runs[:1]) for cell in full.cells])
    assert one.findings()
    one.experiment.draw(one).canvas.draw()


@pytest.mark.parametrize("n_experts", [1, 4, 6, 12])
def test_coupon_collector(n_experts):
    draws = np.random.default_rng(0).integers(4, size=(20_000, n_experts))
    covered = (draws[:, :, None] == np.arange(4)).any(1).sum(1)
    assert covered_by_chance(4, n_experts) == pytest.approx((covered == 4).mean(), abs=0.012)
    assert expected_covered(4, n_experts) == pytest.approx(covered.mean(), abs=0.03)


# -- bound -----------------------------------------------------------------------------------


def with_accuracy(accuracy, hard):
    """Return results of `bound` in which every run has these accuracies."""
    experiment = bound()
    run = {"accuracy": accuracy, "train_accuracy": 100.0, "hard_accuracy": hard}
    return Results(experiment, [CellResult(c.labels, [run]) for c in experiment.cells(1)])


@pytest.mark.parametrize(
    ("accuracy", "hard", "expected"),
    [
        (87.5, 75, (True, True)),
        (88.2, 76.4, (True, True)),  # within three standard errors of 16,000 and of 8,000 samples
        (88.4, 76.6, (False, False)),
        (80, 90, (True, False)),
    ],
)
def test_bound_is_put_to_the_test(accuracy, hard, expected):
    findings = with_accuracy(accuracy, hard).findings()
    assert [finding.holds for finding in findings] == [*expected * 3, None, None]


def test_one_run_above_the_bound_is_one_too_many():
    results = with_accuracy(80.0, 60.0)
    above = replace(results.cells[3], runs=[*results.cells[3].runs, {"accuracy": 95.0}])
    above.runs[-1].update(hard_accuracy=90.0)
    cells = [*results.cells[:3], above, *results.cells[4:]]
    first, second, third, *_ = replace(results, cells=cells).findings()
    assert (first.holds, second.holds, third.holds) == (False, False, True)
    assert above.labels["model"] in first.text


# -- stages ----------------------------------------------------------------------------------


def test_crossing():
    steps = [0, 5, 10, 15]
    assert crossing(steps, [0, 1, 2, 1], 1.5) == 7.5
    assert crossing(steps, [2, 1, 2, 3], 1.5) == 0
    assert np.isnan(crossing(steps, [0, 1, 2, 1], 3))


def curve(entropy, centers, features=(1e-4, 0.01, 0.02, 0.03, 0.04)):
    return {
        "step": [0, 5, 10, 15, 20],
        "entropy": list(entropy),
        "router_centers": list(centers),
        "expert_features": list(features),
    }


def test_times():
    found = times(curve([1.4, 1.3, 1.0, 0.6, 0.1], [0, 0.001, 0.01, 0.1, 0.2]))
    assert 0 < found["commit"] < 5
    assert 10 < found["route"] < 15
    assert found["dispatch"] == 15


def test_stages_that_never_come():
    found = times(curve([1.4] * 5, [0.0] * 5, [1e-4] * 5))
    assert np.isnan(list(found.values())).all()


def test_entropy_that_rises_again_is_not_settled():
    assert np.isnan(times(curve([1.4, 0.5, 0.2, 0.3, 0.8], [0.1] * 5))["dispatch"])


def test_stages_without_any_router_time():
    experiment = stages()
    run = {"seed": 0, "curve": curve([1.4] * 5, [0.0] * 5)}
    results = Results(experiment, [CellResult(c.labels, [run]) for c in experiment.cells(1)])
    assert results.findings()[0].holds == UNDECIDED
    assert "12 (router outweighs the noise)" in results.findings()[-1].text
    experiment.draw(results).canvas.draw()


def test_exponents_are_found_again():
    """Experts that grow by eta in a step, a router that follows their cube."""
    steps = np.arange(0, 2000, 5.0)
    cells = []
    for cell in stages().cells(1):
        eta, eta_r = (cell.labels[name] for name in list(cell.labels)[-2:])
        run = {
            "seed": 0,
            "curve": {
                "step": steps,
                "entropy": np.where(steps < 100, 1.4, 0.1),
                "expert_features": 2e-4 + eta * steps,
                "router_centers": eta_r * eta**3 * steps**4,
            },
        }
        cells.append(CellResult(cell.labels, [run]))
    texts = {f.text: f.holds for f in Results(stages(), cells).findings()}
    (explored,) = (text for text in texts if text.startswith("Exploration"))
    assert "exponent -1.00" in explored
    assert texts[explored] is True
    (routed,) = (text for text in texts if text.startswith("The router takes"))
    assert "exponent -0.25" in routed
    assert texts[routed] is False


# -- coverage --------------------------------------------------------------------------------


def test_commitments():
    run = {
        "routing": [
            [50, 0, 0, 20, 0],
            [0, 60, 0, 20, 0],
            [0, 0, 70, 20, 0],
            [0, 5, 0, 10, 1],
        ],
        "initial_features": [[4, 1, 1, 1], [9, 3, 1, 1], [1, 1, 8, 1], [5, 1, 1, 1], [1, 1, 1, 2]],
        "expert_features": np.eye(4)[[0, 1, 2, 0, 0]].tolist(),
    }
    taken = commitments(run)
    assert taken.used.tolist() == [True, True, True, True, False]  # 1 of 256 samples
    assert taken.cluster.tolist() == [0, 1, 2, -1, -1]  # the fourth has no majority
    assert taken.covered == 3
    assert taken.start == pytest.approx(2 / 3)
    assert taken.end == 1


def test_commitments_of_an_expert_for_everything():
    run = {"routing": [[0, 5]] * 4, "initial_features": np.ones((2, 4)).tolist()}
    taken = commitments(run | {"expert_features": run["initial_features"]})
    assert taken.used.tolist() == [False, True]
    assert taken.covered == 0
    assert np.isnan([taken.start, taken.end]).all()


@pytest.mark.parametrize("protocol", ["code", "paper"])
def test_router_rate_follows_theorem_in_the_papers_form(protocol):
    models = coverage(protocol).models.values()
    rates = [model.router_learning_rate_init for model in models]
    numbers = [model.n_experts for model in models]
    expected = [0.001 * m**2 if protocol == "paper" else 0.1 for m in numbers]
    assert rates == pytest.approx(expected)
    assert all(a < b for a, b in pairwise(numbers))


# -- simplified ------------------------------------------------------------------------------


def test_simplified_leaves_out_what_it_says():
    for name, model in simplified().models.items():
        plain = name.startswith(("no normalization", "neither"))
        assert (model.solver == "sgd") == plain
        assert (model.router_noise is None) == name.startswith(("no noise", "neither"))


def test_plain_gradients_do_not_leave_the_start(results):
    stuck = [f for f in results["simplified"].findings() if "stay where they started" in f.text]
    assert [finding.holds for finding in stuck] == [True, True]
