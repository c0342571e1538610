"""The report says what came out, as Markdown and as JSON, and reads what it has written."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from sklearn_moe.paper import Experiment, Finding, Results, write_report
from sklearn_moe.paper._experiment import Cell
from sklearn_moe.paper._published import Published
from sklearn_moe.paper._report import from_json, to_json, to_markdown


def draw(results):
    figure = Figure(figsize=(6, 3))
    figure.subplots().plot([cell.mean("accuracy") for cell in results.cells])
    return figure


def findings(results):
    yield Finding("More is better: 1 < 2 | 3.", True)
    yield Finding("Less is better.", False)
    yield Finding("Enough is enough.", "undecided")
    yield Finding("So it is.")


def run(accuracy, seconds=90.0, **more):
    versions = {"python": "3.11", "torch": "2.4"}
    return {"accuracy": accuracy, "seconds": seconds, "device": "cpu", "versions": versions} | more


def make_results(name="fake", draw=draw):
    """Return a single expert that was run once, and mixtures of two runs each."""
    measures = ("accuracy", "entropy", "steps", "loss")
    mixture = {"setting": 1, "model": "<b>&"}
    mixed = [run(99.0, entropy=0.1, steps=501), run(100.0, entropy=0.3, steps=1502)]
    last = [run(90.123456789, entropy=-0.0, loss=1.23456), run(np.nan, entropy=-0.0, loss=2)]
    recorded, quoted = Published(79.5, grade="recorded"), Published(99.46, 0.55, 0.098, 0.02)
    cells = [
        Cell({"setting": 1, "model": "a | b"}, [run(68.0, seed=3)], recorded),
        Cell(mixture | {"balance": None, "rate": 0.001}, mixed, quoted),
        Cell(mixture | {"balance": True, "rate": np.float32(10)}, last),
    ]
    options = {"measures": measures, "draw": draw, "findings": findings}
    return Results(Experiment(name, "A <title> & more", "What is it?", (), {}, **options), cells)


def test_markdown():
    text = to_markdown(make_results())
    assert text.startswith("# A \\<title> & more\n\nWhat is it?\n\n|")
    assert r"| a \| b |" in text
    assert r"\<b>&" in text
    assert "- ✓ holds: More is better: 1 \\< 2 \\| 3.\n" in text
    assert "- ✗ does not hold: Less is better.\n- ? undecided: Enough is enough.\n" in text
    assert "\n- So it is.\n" in text
    assert "two published standard deviations" in text
    assert text.endswith("(fake.png)\n")


def test_json():
    results = make_results()
    data = json.loads(json.dumps(to_json(results), allow_nan=False))
    assert data["findings"][0] == {"text": "More is better: 1 < 2 | 3.", "holds": True}
    assert data["versions"] == {"python": "3.11", "torch": "2.4"}
    assert (data["device"], data["runs"], data["seconds"]) == ("cpu", 5, 450)
    single, mixture, balanced = data["cells"]
    assert single.pop("values") == {"accuracy": [68]}
    assert single == {"labels": {"setting": 1, "model": "a | b"}, "runs": 1, "seeds": [3]}
    assert mixture["labels"] == {"setting": 1, "model": "<b>&", "balance": None, "rate": 0.001}
    assert mixture["values"]["steps"] == [501, 1502]
    assert balanced["labels"]["rate"] == 10
    assert balanced["values"]["accuracy"] == [90.123456789, None]
    twice = Results(results.experiment, 2 * results.cells)
    assert to_json(twice)["seconds"] == 450  # a run that two cells share counts once


def test_files(tmp_path):
    all_results = [make_results(), make_results("other", draw=None)]
    paths = write_report(all_results, tmp_path / "new", "python --out=/home/me/x 'a' ~/b c/d")
    assert paths == [tmp_path / "new" / name for name in ("fake.md", "other.md")]
    names = {"fake.md", "fake.json", "fake.png", "other.md", "other.json"}
    assert {file.name for file in paths[0].parent.iterdir()} == names
    assert "Made by `python --out=…/x 'a' …/b c/d`." in paths[0].read_text("utf-8")
    text = (tmp_path / "new" / "fake.json").read_text("utf-8")
    data = json.loads(text)
    assert '"accuracy": [ 99.0, 100.0 ]' in text  # lists are on one line
    for cell in all_results[0].cells:
        cell.runs[0].setdefault("seed", 0)
    data = to_json(all_results[0])
    again = from_json(data, all_results[0].experiment, all_results[0].cells)
    assert to_json(again) == data
    with pytest.raises(ValueError, match="names of their own"):
        write_report([make_results(), make_results()], tmp_path / "same")
    assert not (tmp_path / "same").exists()
