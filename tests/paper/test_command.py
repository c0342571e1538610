"""The command line: what it runs, writes and lists, and what it refuses before any work."""

import json

import pytest
from helpers import raises
from sklearn.linear_model import LogisticRegression

from sklearn_moe.paper import EXPERIMENTS, Experiment, Problem, get_experiment
from sklearn_moe.paper import __main__ as command
from sklearn_moe.paper._run import Run
from sklearn_moe.paper.experiments import names_of


def test_names(capsys):
    assert names_of(["table1", "all"])[0] == "table1"
    assert set(EXPERIMENTS) - set(names_of(["all", "later"])) == {"demo", "table2", "sentiment"}
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

    def check(*complaints):
        with pytest.raises(SystemExit) as stopped:
            command.main(["check", str(tmp_path)])
        for line, (name, text) in zip(str(stopped.value).splitlines(), complaints, strict=True):
            assert f"{name}: {text}" in line

    monkeypatch.setattr(command, "get_experiment", get)
    options = ["--runs", "2", "--jobs", "1", "--seed", "7", "--out", str(tmp_path)]
    arguments = ["table1", "fig3", "table1", "--protocol", "paper", "--data", "fresh"]
    command.main([*arguments, *options])
    assert str(tmp_path / "table1.md") in capsys.readouterr().out
    names = {"runs", "functions", "table1.md", "table1.json", "fig3.md", "fig3.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "--protocol paper" in (tmp_path / "fig3.md").read_text()
    data = json.loads((tmp_path / "table1.json").read_text())
    assert data["cells"][0]["seeds"] == [7, 8]
    command.main(["check", str(tmp_path)])

    text = (tmp_path / "fig3.md").read_text()
    (tmp_path / "fig3.md").write_text(text.replace("linear", "best"))
    check(("fig3.json", "its texts are not those"))
    command.main(["redraw", str(tmp_path)])
    assert (tmp_path / "fig3.md").read_text() == text
    assert json.loads((tmp_path / "table1.json").read_text()) == data

    functions, cells = data["functions"], data["cells"]
    changed = {"paper/_run": functions["paper/_run"] | {"Run.fit": "0", "lost": "1"}}
    reasons = "changed: paper/_run: Run.fit; gone: paper/_run: lost"
    for change, reason in (
        ({"functions": functions | changed}, reasons),
        ({"functions": None}, "it does not say which functions"),
        ({"cells": [cells[0] | {"keys": ["0", "1"]}]}, "its command makes other runs now"),
        ({"command": "table1 --precision bf16"}, "its command has an option, or a name,"),
    ):
        made = f"stale, made by commit {data['commit']}; {reason}"
        (tmp_path / "table1.json").write_text(json.dumps(data | change))
        check(("table1.json", made))
    command.main(["redraw", str(tmp_path)])
    assert "table1.json: its cells are not those of today, run it again" in capsys.readouterr().out


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "perform", interrupt)
    with pytest.raises(SystemExit, match="the same command goes on"):
        command.main(["fig1", "--jobs", "1", "--out", str(tmp_path)])


def test_a_missing_package_is_found_before_the_work(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(
        command, "run_experiments", lambda *args, **options: pytest.fail("it began")
    )
    raises(SystemExit, r"needs matplotlib.*sklearn_moe\[paper\]'", command.main, ["table1"])
