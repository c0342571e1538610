"""The report on real tables, from fits of which some are missing."""

import importlib
import json
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

LOSSES = {"MoE": 0.2, "MLP": 0.4, "MLP, stopped": 0.8}


@pytest.fixture
def report(monkeypatch, tmp_path, capsys):
    """Return a function that writes fits and returns the rows of the report, by their start."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("tables")
    (tmp_path / "classification").mkdir()
    for name in "ab":
        frame = pd.DataFrame({"x": [0, 1], "target": [0, 1]})
        frame.to_csv(tmp_path / "classification" / f"{name}.csv", index=False)

    def run(lines, models):
        (tmp_path / "fits.jsonl").write_text("\n".join(map(json.dumps, lines)))
        where = ["--data", str(tmp_path), "--out", str(tmp_path / "fits.jsonl")]
        options = ["--no-fit", "--repeats", "1", "--report", str(tmp_path / "report")]
        monkeypatch.setattr(sys, "argv", ["tables.py", *where, *options, "--models", models])
        module.main()
        assert "MoE over each model" in (tmp_path / "report" / "tables.inc").read_text()
        return capsys.readouterr().out

    return run


def line(model, table, fold, **scores):
    """Return a fit: on the second table every model has twice the loss."""
    loss = LOSSES[model] * (1 + (table == "b"))
    found = {"accuracy": 1 - loss / 2, "log_loss": loss, "brier": loss, "fit_seconds": 1.0}
    where = {"kind": "classification", "table": table, "model": model, "repeat": 0, "fold": fold}
    return where | found | {"predict_seconds": 1.0} | scores


def test_models_that_lack_fits_are_compared_on_the_folds_that_both_have(report):
    lines = [line(*of) for of in product(("MoE", "MLP"), "ab", range(5))]
    # There is only one stopped fit, in a fold where the mixture is three times as bad as elsewhere.
    lines[0] = line("MoE", "a", 0, log_loss=0.6, fit_seconds=3.0)
    lines.append(line("MLP, stopped", "a", 0))
    text = report(lines, 'MoE,MLP,"MLP, stopped"')
    # Geometric mean of (.6 + 4 * .2) / 5 / .4 and .5.
    assert "| MLP | 10 | 2 of 2 | 0.592 [" in text
    assert "| MLP, stopped | 1 | 1 of 1 | 0.750 |" in text
    assert text.count("| 3.00, 1.00 |") == 1  # times of fit and predict, of the stopped one
    assert text.count("MLP, stopped") == 1  # not among means over other folds
    assert "| MLP, better of both | 5 | 1 of 1 | 0.700 |" in text
