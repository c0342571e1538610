"""The command line says at once what it cannot do, not after the work."""

import pytest

from sklearn_moe.paper import __main__ as command
from sklearn_moe.paper import _ready


@pytest.mark.parametrize(
    ("name", "hint"), [("tabel1", "table1"), ("dmeo", "demo"), ("fig2", "fig"), ("xyz", "`list`")]
)
def test_a_misspelt_name_is_corrected(capsys, name, hint):
    with pytest.raises(SystemExit):
        command.main([name])
    error = capsys.readouterr().err
    assert repr(name) in error
    assert hint in error


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fail if any work begins."""
    for module, function in ((command, "run_experiments"), (command.demo, "run_demo")):
        monkeypatch.setattr(module, function, lambda *args, **options: pytest.fail("it began"))


@pytest.mark.parametrize(
    ("arguments", "extra", "missing"),
    [
        (["demo"], "plot", "matplotlib"),
        (["table1"], "paper", "jinja2"),
        (["baselines"], "baselines", "neural_trees"),
    ],
)
def test_a_missing_extra_is_found_before_the_work(
    nothing_runs, monkeypatch, tmp_path, arguments, extra, missing
):
    find = _ready.find_spec
    monkeypatch.setattr(_ready, "find_spec", lambda name: None if name == missing else find(name))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=rf"needs {missing}.*pip install 'sklearn_moe\[{extra}\]'"):
        command.main(arguments)


@pytest.mark.parametrize("option", ["--out", "--picture"])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(nothing_runs, tmp_path, option):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "more" / "x.png")
    arguments = ["demo", option, place] if option == "--picture" else ["table1", option, place]
    with pytest.raises(SystemExit, match=r"Nothing can be written to .*file"):
        command.main(arguments)
