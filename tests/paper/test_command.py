"""The command line: what it runs, writes and lists, and what it refuses before any work."""

import json
import re

import pytest
from helpers import raises
from sklearn.linear_model import LogisticRegression

from sklearn_moe.paper import EXPERIMENTS, Experiment, Problem, _command, get_experiment
from sklearn_moe.paper import __main__ as command
from sklearn_moe.paper._run import Run
from sklearn_moe.paper.experiments import GROUPS, names_of


def test_names():
    assert names_of(["table1", "all"])[0] == "table1"
    assert set(EXPERIMENTS) - set(names_of(["all", "later"])) == {"table2", "sentiment"}
    for arguments, wrong in (
        (("table3",), "table3"),
        (("table1", "text"), "text"),
        (("table2", "paper"), "paper"),
        (("table1", "code", "old"), "old"),
    ):
        raises(ValueError, f"'{wrong}' is not known, choose from", get_experiment, *arguments)


def test_names_are_listed_and_corrected(capsys):
    command.main(["list"])
    listed = capsys.readouterr().out
    for name in (*EXPERIMENTS, *GROUPS, "demo"):
        assert f"\n{name} " in f"\n{listed}"
    with_data = {"table2", "sentiment"}  # which have parsers of their own
    assert all(command._name(name) == name for name in {*EXPERIMENTS, *GROUPS} - with_data)
    for arguments, hint in (
        (["tabel1"], "'tabel1': did you mean table1?"),
        (["dmeo"], "demo?"),
        (["xyz"], "`list`"),
        (["table1", "--runs", "0"], "expected a whole number of at least 1, got '0'"),
    ):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert hint in capsys.readouterr().err


def test_a_report_is_written(tmp_path, monkeypatch, capsys):
    def get(name, protocol, data):
        assert (protocol, data) == ("paper", "fresh")
        models = {"linear": LogisticRegression()}
        return Experiment(name, "", "", (Problem(n_train=40, n_test=40),), models)

    monkeypatch.setattr(command, "get_experiment", get)
    options = ["--runs", "2", "--jobs", "1", "--seed", "7", "--out", str(tmp_path)]
    arguments = ["table1", "fig3", "table1", "--protocol", "paper", "--data", "fresh"]
    command.main([*arguments, *options])
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"runs", "report.html", "table1.md", "table1.json", "fig3.md", "fig3.json"}
    (cell,) = json.loads((tmp_path / "table1.json").read_text())["cells"]
    assert cell["seeds"] == [7, 8]
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert "--protocol paper" in (tmp_path / "report.html").read_text()
    command.main(["check", str(tmp_path)])

    text, table = (tmp_path / "fig3.md").read_text(), tmp_path / "table1.json"
    (tmp_path / "fig3.md").write_text(text.replace("linear", "best"))
    table.write_text(table.read_text().replace(cell["keys"][1], "0" * 16))
    with pytest.raises(SystemExit) as stopped:
        command.main(["check", str(tmp_path)])
    (first, second) = str(stopped.value).splitlines()
    assert "fig3.json: its texts" in first
    assert "table1.json: stale, made by commit " in second
    assert "the command has changed since" in second
    command.main(["redraw", str(tmp_path)])
    assert (tmp_path / "fig3.md").read_text() == text
    raises(SystemExit, r"^[^\n]*table1.json: stale[^\n]*$", command.main, ["check", str(tmp_path)])

    for line in ('"code": ".*"', '"command": ".*"'):  # of other code; of an option that is no more
        text = re.sub(line, line.replace(".*", "table1 --precision bf16"), table.read_text())
        table.write_text(text)
        with pytest.raises(SystemExit, match=r"^.*table1.json: stale.*; the code that .*$"):
            command.main(["check", str(tmp_path)])
    command.main(["redraw", str(tmp_path)])
    assert "table1.json: its cells are not those of today, run it again" in capsys.readouterr().out


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "perform", interrupt)
    with pytest.raises(SystemExit, match="the same command goes on"):
        command.main(["fig1", "--jobs", "1", "--out", str(tmp_path)])


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fail if any work begins."""
    for module, function in ((command, "run_experiments"), (command.demo, "run_demo")):
        monkeypatch.setattr(module, function, lambda *args, **options: pytest.fail("it began"))


def test_a_missing_extra_is_found_before_the_work(nothing_runs, monkeypatch, tmp_path):
    find = _command.find_spec
    monkeypatch.chdir(tmp_path)
    for name, extra, missing in (
        ("demo", "plot", "matplotlib"),
        ("table1", "paper", "jinja2"),
        ("baselines", "baselines", "neural_trees"),
    ):
        hide = {missing: None}
        monkeypatch.setattr(_command, "find_spec", lambda n, hide=hide: hide.get(n, find(n)))
        raises(SystemExit, rf"needs {missing}.*sklearn_moe\[{extra}\]'", command.main, [name])


def test_a_folder_that_cannot_be_written_is_found_before_the_work(nothing_runs, tmp_path):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "more" / "x.png")
    for arguments in (["demo", "--image", place], ["table1", "--out", place]):
        raises(SystemExit, r"Nothing can be written to .*file", command.main, arguments)
