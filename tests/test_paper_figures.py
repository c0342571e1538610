"""The experiments that draw the paper's figures."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_moe.paper import CellResult, Problem, Results, run_experiment
from sklearn_moe.paper._published import ENTROPY_CURVES
from sklearn_moe.paper.experiments.fig1 import _order, fig1
from sklearn_moe.paper.experiments.fig3 import _alike, _crossing, fig3, runs_over_steps
from sklearn_moe.paper.experiments.innerproducts import innerproducts
from sklearn_moe.paper.experiments.tables import table1

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

BUILDERS = (fig1, fig3, innerproducts)


def tiny(experiment, max_iter=10):
    """Return the experiment with few samples and few steps."""
    problems = tuple(replace(p, n_train=200, n_test=50) for p in experiment.problems)
    if "max_iter" in experiment.grid:
        return replace(experiment, problems=problems, grid={"max_iter": [1, 5, max_iter]})
    models = {n: clone(m).set_params(max_iter=max_iter) for n, m in experiment.models.items()}
    return replace(experiment, problems=problems, models=models)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs an experiment; what two of them share is run once."""
    out = tmp_path_factory.mktemp("runs")

    def run(experiment, runs=2):
        return run_experiment(experiment, out, runs=runs, device="cpu", progress=False)

    return run


def keys(experiment, runs=10):
    return [repr(r.settings) for cell in experiment.cells(runs) for r in cell.runs]


def drawn(results):
    """Return the figure, after it was laid out as for a file."""
    pytest.importorskip("matplotlib")
    figure = results.experiment.draw(results)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("protocol", ["code", "paper"])
@pytest.mark.parametrize("data", ["fixed", "fresh"])
def test_builders(build, protocol, data):
    experiment = build(protocol, data)
    assert experiment.name == build.__name__
    labels = [tuple(cell.labels.values()) for cell in experiment.cells(1)]
    assert set(experiment.published) <= set(labels)
    assert len(set(keys(experiment))) == len(keys(experiment))


@pytest.mark.parametrize("build", [fig3, innerproducts])
@pytest.mark.parametrize("protocol", ["code", "paper"])
def test_runs_are_those_of_table1(build, protocol):
    assert set(keys(build(protocol))) <= set(keys(table1(protocol)))


def test_stopped_runs_keep_their_last_value():
    long = {"curve": {"step": [0, 5, 10, 15], "entropy": [1.4, 1.0, 0.6, 0.2]}}
    short = {"curve": {"step": [0, 5], "entropy": [1.4, 0.8]}}
    steps, values = runs_over_steps(CellResult({}, [short, long]), "entropy")
    np.testing.assert_array_equal(steps, [0, 5, 10, 15])
    np.testing.assert_allclose(values, [[1.4, 0.8, 0.8, 0.8], [1.4, 1.0, 0.6, 0.2]])


def test_crossing():
    assert _crossing([0, 10, 20, 30], [1.4, 1.0, 0.5, 0.9], 0.7) == pytest.approx(16)
    assert _crossing([0, 10], [0.5, 0.4], 0.7) == 0
    assert _crossing([0, 10], [1.4, 1.2], 0.7) is None
    assert _crossing(*ENTROPY_CURVES[1, "cubic"]) == pytest.approx(50.35, abs=0.01)


@pytest.mark.parametrize(
    ("step", "other", "alike"),
    [(45.0, 52.0, True), (40.0, 52.0, False), (None, None, True), (None, 52.0, False)],
)
def test_alike(step, other, alike):
    assert _alike(step, other) is alike


def recorded(experiment, delay=0):
    """Return results whose curves are the authors' own, later by some steps."""
    cells = []
    for cell in experiment.cells(1):
        activation = cell.labels["model"].removeprefix("mixture ")
        steps, entropy = ENTROPY_CURVES[cell.labels["setting"], activation]
        curve = {"step": [0, *np.add(steps, delay)], "entropy": [entropy[0], *entropy]}
        cells.append(CellResult(cell.labels, [{"curve": curve, "steps": 501}]))
    return Results(experiment, cells)


@pytest.mark.parametrize(
    ("protocol", "delay", "holds"),
    [
        ("code", 5, [True, True, True, True]),
        ("code", 15, [False, True, False, True]),
        ("paper", 5, [None, None, None, None]),
    ],
)
def test_fig3_findings(protocol, delay, holds):
    findings = recorded(fig3(protocol), delay).findings()
    assert [finding.holds for finding in findings] == holds
    assert f"at step {50 + delay}; in the authors' record it falls to 0.7 at step 50." in (
        findings[0].text
    )
    assert "linear experts never falls to 0.7" in findings[1].text


def test_fig3_tells_of_stopped_runs():
    results = recorded(fig3())
    results.cells[0].runs[0]["steps"] = 123
    assert results.findings()[-1].text.startswith("1 of 4 runs stopped before step 501, the first")


@pytest.mark.parametrize("runs", [1, 2])
def test_fig3_draws(run, runs):
    results = run(tiny(fig3()), runs)
    figure = drawn(results)
    assert [ax.get_title() for ax in figure.axes] == ["Setting 1", "Setting 2"]
    for ax in figure.axes:
        assert len(ax.lines) == 5  # twice ours and the record, and the maximum
        assert len(ax.collections) == (0 if runs == 1 else 2)
        assert ax.get_legend() is None
    (legend,) = figure.legends
    assert legend.get_texts()[1].get_text() == "nonlinear, authors' record"


@pytest.mark.parametrize("runs", [1, 2])
def test_innerproducts_draws(run, runs):
    results = run(tiny(innerproducts()), runs)
    figure = drawn(results)
    above, below = figure.subfigs
    assert len(above.axes) == 4 + 2  # matrices and their color bars
    assert [len(ax.lines) for ax in below.axes] == [4, 4]
    findings = results.findings()
    assert len(findings) == 4
    claims, linear = findings[:2], findings[2:]
    assert all(finding.holds is not None for finding in claims)
    assert runs > 1 or all(finding.holds == "undecided" for finding in claims)
    assert [finding.holds for finding in linear] == [None, None]


def test_innerproducts_ratios():
    experiment = innerproducts()
    ends = [(0.1, 0.4, 0.3, 0.01), (0.2, 0.4, 0.3, 0.02)]
    names = ("router_features", "router_centers", "expert_features", "expert_centers")
    runs = [{"curve": {name: [0, end] for name, end in zip(names, e, strict=True)}} for e in ends]
    cells = [CellResult({"model": model}, runs) for model in experiment.models]
    router, experts, *linear = Results(experiment, cells).findings()
    assert "centers c_k are 2.83 times as large as those with the features v_k" in router.text
    assert "features v_k are 21.2 times as large as those with the centers c_k" in experts.text
    assert router.holds == "undecided"  # two runs that differ that much tell nothing
    assert [finding.holds for finding in linear] == [None, None]


def test_fig1_orders_patches():
    samples = Problem("visualization", n_train=100, n_test=50).draw(0)
    order = _order(samples.X, samples.clusters, samples.dictionary)
    assert (np.sort(order, axis=1) == np.arange(4)).all()
    patches = np.take_along_axis(samples.X, order[..., None], axis=1)
    features, centers = samples.dictionary
    sign = np.where(samples.y == samples.y.max(), 1, -1)
    np.testing.assert_allclose(  # alpha = 1, scale = 10
        patches[:, 0], 10 * sign[:, None] * features[samples.clusters], atol=1e-4
    )
    beta = (patches[:, 1] * centers[samples.clusters]).sum(1)
    assert (beta >= 12).all()
    np.testing.assert_allclose(np.linalg.norm(patches[:, 2], axis=1), 30, rtol=1e-4)


def test_fig1_draws(run):
    results = run(tiny(fig1()))
    figure = drawn(results)
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == [
        f"{name}, step {step}" for name in ("Linear", "Nonlinear") for step in (1, 5, 10)
    ]
    assert all(not ax.artists and ax.get_legend() is None for ax in figure.axes)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections[-2:]) == 200
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][3:] == [
        "expert 3",
        "class 0",
        "class 1",
        "predicted class 0",
        "predicted class 1",
    ]


def test_fig1_shows_the_most_specialized_run(run, monkeypatch):
    results = run(tiny(fig1()))
    last = results.cell(model="mixture cubic", max_iter=10)
    last.runs[0]["entropy"], last.runs[1]["entropy"] = 1.0, 0.5
    seen = []

    def draw_moment(run, samples, points, ax):
        seen.append(run.seed)

    monkeypatch.setattr("sklearn_moe.paper.experiments.fig1._draw_moment", draw_moment)
    drawn(results)
    assert seen == [1] * 6
    claim, specialized, _ = results.findings()
    assert claim.holds == "undecided"  # of two runs that differ that much
    assert specialized.text.startswith("0 of 2 nonlinear runs")
