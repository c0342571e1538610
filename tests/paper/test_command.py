"""The command line: what it runs, writes and lists, and what it refuses before any work."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers import raises
from sklearn.linear_model import LogisticRegression

from sklearn_moe.paper import EXPERIMENTS, Experiment, Problem, get_experiment
from sklearn_moe.paper import __main__ as command
from sklearn_moe.paper._run import Run
from sklearn_moe.paper.experiments import names_of

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_names(capsys):
    assert names_of(["table1", "all"])[0] == "table1"
    alone = {"demo", "table2", "shares", "sentiment"}
    assert set(EXPERIMENTS) - set(names_of(["all", "later"])) == alone
    for arguments, wrong in (
        (("table3",), "table3"),
        (("table1", "text"), "text"),
        (("table2", "paper"), "paper"),
        (("table1", "code", "old"), "old"),
    ):
        raises(ValueError, f"'{wrong}' is not known, choose from", get_experiment, *arguments)
    for arguments, message in (([], "NAME"), (["tabel1"], "'tabel1' (choose from")):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert message in capsys.readouterr().err


def test_results_are_written_checked_and_drawn_again(tmp_path, monkeypatch, capsys):
    def get(name, protocol, data):
        assert (protocol, data) == ("paper", "fresh")
        models = {"linear": LogisticRegression()}
        return Experiment(name, "", "", (Problem(n_train=40, n_test=40),), models)

    def check(*complaints, folder=tmp_path):
        capsys.readouterr()
        with pytest.raises(SystemExit) if complaints else nullcontext():
            command.main(["check", str(folder)])
        lines = capsys.readouterr().out.splitlines()
        for name, text in complaints:
            assert any(f"{name}.json: {text}" in line for line in lines), lines
        return lines

    monkeypatch.setattr(command, "get_experiment", get)
    out = tmp_path / "below"
    options = ["--runs", "2", "--jobs", "1", "--seed", "7", "--out", str(out)]
    arguments = ["table1", "fig3", "table1", "--protocol", "paper", "--data", "fresh"]
    command.main([*arguments, *options])
    assert str(out / "table1.md") in capsys.readouterr().out
    names = {"runs", "table1.md", "table1.json", "fig3.md", "fig3.json"}
    assert {path.name for path in out.iterdir()} == names
    assert "--protocol paper" in (out / "fig3.md").read_text()
    data = json.loads((out / "table1.json").read_text())
    assert data["cells"][0]["seeds"] == [7, 8]
    assert sum("json: equal; setting 1, model linear, seed " in line for line in check()) == 2

    text = (out / "fig3.md").read_text()
    (out / "fig3.md").write_text(text.replace("linear", "best"))
    check(("fig3", "its texts are not those"))
    command.main(["redraw", str(tmp_path)])
    assert (out / "fig3.md").read_text() == text
    assert json.loads((out / "table1.json").read_text()) == data

    cell = data["cells"][0]
    wrong = cell["values"] | {"accuracy": [1.0, 2.0]}
    for change, reason in (
        ({"cells": [cell | {"values": wrong}]}, "OTHERWISE; accuracy "),
        ({"cells": [cell | {"seeds": [7, 9]}]}, "its command makes other runs here"),
        ({"command": "table1 --precision bf16"}, "its command has an option, or a name,"),
    ):
        (out / "table1.json").write_text(json.dumps(data | change))
        command.main(["redraw", str(tmp_path)])
        refused = "table1.json: its cells are not those of today" in capsys.readouterr().out
        assert refused == ("OTHERWISE" not in reason)
        check(("table1", reason))


@pytest.mark.parametrize(
    ("result", "missing"),
    [
        ("sentiment", "texts by --texts"),
        ("table2-cnn", "images by --images or SKLEARN_MOE_CIFAR10"),
    ],
)
def test_what_cannot_be_repeated_is_named(result, missing, tmp_path, capsys):
    folders = ["--texts", str(tmp_path), "--images", str(tmp_path)]
    command.main(["check", str(RESULTS / result), *folders])
    assert f"not repeated, name the folder of the {missing}: " in capsys.readouterr().out
    command.main(["check", str(RESULTS / result), *folders, "--longest", "0"])
    assert "not repeated, as its quickest run took" in capsys.readouterr().out


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "perform", interrupt)
    with pytest.raises(SystemExit, match="the same command resumes"):
        command.main(["fig1", "--jobs", "1", "--out", str(tmp_path)])


def test_a_missing_package_is_found_before_the_work(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(
        command, "run_experiments", lambda *args, **options: pytest.fail("it began")
    )
    raises(SystemExit, r"needs matplotlib.*sklearn_moe\[paper\]'", command.main, ["table1"])
