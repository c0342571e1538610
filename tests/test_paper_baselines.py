"""Learning curves beside other models: all of them run, and the findings say what came out."""

import sys
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from sklearn_moe.paper import CellResult, Results, run_experiment
from sklearn_moe.paper.experiments.baselines import baselines

SIZES = (125, 500)


def made_up(accuracies):
    """Return results in which the models named have these accuracies, and all others 70 %."""
    experiment = baselines()
    experiment = replace(
        experiment, problems=tuple(p for p in experiment.problems if p.n_train in SIZES)
    )
    cells = [
        CellResult(
            cell.labels,
            [
                {"accuracy": accuracies.get(cell.labels["model"], {}).get(n, 70) + noise}
                for noise in (-0.5, 0.5)
                for n in [cell.labels["n_train"]]
            ],
        )
        for cell in experiment.cells(runs=2)
    ]
    return Results(experiment, cells)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_every_model_runs(tmp_path):
    experiment = baselines()
    tiny = [replace(experiment.problems[0], n_train=n, n_test=60) for n in (60, 125)]
    experiment = replace(experiment, problems=tuple(tiny))
    with torch.random.fork_rng(devices=[]):  # neural-trees seeds the global generator
        results = run_experiment(experiment, tmp_path, runs=1, progress=False)
    assert len(results.cells) == 2 * 8
    assert all(30 < cell.summary("accuracy").mean <= 100 for cell in results.cells)
    assert len(results.findings()) == 4
    assert isinstance(experiment.draw(results), Figure)


def test_problems_are_fresh_and_shared_by_all_models():
    cells = baselines().cells()
    assert {len(cell.runs) for cell in cells} == {5}
    assert all(run.problem.data_seed is None for cell in cells for run in cell.runs)
    assert max(c.labels["n_train"] for c in cells if c.labels["setting"] == 1) == 16_000
    takes_patches = {
        cell.labels["model"]
        for cell in cells
        if cell.runs[0].estimator.__sklearn_tags__().input_tags.three_d_array
    }
    assert takes_patches == {"mixture", "single expert", "deep set"}


@pytest.mark.parametrize(
    ("mixture", "deep_set", "holds"),
    [
        ({125: 99, 500: 99.5}, {500: 99.5}, True),
        ({500: 99.5}, {125: 90, 500: 99.4}, False),  # no fewer
        ({}, {}, False),  # none of them ever
    ],
)
def test_findings(mixture, deep_set, holds):
    claim, needed, few, many = made_up({"mixture": mixture, "deep set": deep_set}).findings()[:4]
    assert claim.holds is holds
    assert claim.text.startswith("Setting 1: the mixture reaches 99 % with fewer samples")
    assert all(finding.holds is None for finding in (needed, few, many))
    assert f"deep set {500 if deep_set else 'never'}" in needed.text
    assert "SVC never" in needed.text
    assert "with 125 samples the best are" in few.text
    solved = "1 of 6 generic models reach 99 % (deep set)" if deep_set else "0 of 6"
    assert f"with 500 samples {solved}" in many.text


def test_picture_shows_every_model_in_every_setting():
    results = made_up({"mixture": {125: 99, 500: 99.5}})
    figure = results.experiment.draw(results)
    names = [*results.experiment.models, "99 %"]
    assert [ax.get_title() for ax in figure.axes] == ["Setting 1", "Setting 2"]
    for ax in figure.axes:
        assert [line.get_label() for line in ax.lines] == names
        assert len(ax.collections) == 8  # the intervals
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names


def test_without_neural_trees(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_trees", None)
    experiment = baselines()
    assert "hierarchical mixture" not in experiment.models
    assert "pip install sklearn_moe[baselines]" in experiment.question
