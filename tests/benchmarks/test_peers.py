"""The command that shows our estimators beside others, on the smallest table that there is."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

ARGUMENTS = ("--data", "wine", "--folds", "2")


@pytest.fixture
def global_generators_untouched():
    """Replace our own fixture: the plain mixture seeds torch's global generator."""


@pytest.fixture
def command(monkeypatch, tmp_path):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # what the command sets itself would stay
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("peers")

    def run(*arguments):
        out = ["--out", str(tmp_path / "peers.jsonl")]
        monkeypatch.setattr(sys, "argv", ["peers.py", *ARGUMENTS, *out, *arguments])
        module.main()

    return run, module, tmp_path


def cells(text, start):
    """Return the cells of the first row of a printed table that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_two_peers_side_by_side(command, capsys):
    run, _, folder = command
    arguments = ("--peers", "MLP,plain mixture", "--no-checks")
    run(*arguments, "--report", str(folder / "peers.inc"))
    text = capsys.readouterr().out
    for name, dead in (("MLP", "n/a"), ("plain mixture", " of 8")):
        _, accuracy, loss, seconds, experts = cells(text, name)
        assert float(accuracy.split(" ± ")[0]) > 90
        assert float(loss.split(" ± ")[0]) < 0.3
        assert float(seconds) > 0
        assert experts.endswith(dead)
    assert "plain mixture" in (folder / "peers.inc").read_text()
    lines = [json.loads(line) for line in (folder / "peers.jsonl").read_text().splitlines()]
    assert {line["fold"] for line in lines} == {0, 1}

    run(*arguments)  # all is there
    again = capsys.readouterr()
    assert again.out == text
    assert not again.err


def test_what_fails_and_what_is_not_installed_is_said(command, capsys, monkeypatch):
    run, module, _ = command

    class Broken(DummyClassifier):
        def fit(self, X, y, sample_weight=None):
            raise RuntimeError("no.\nAnd why not")

    monkeypatch.setitem(module.PEERS["classification"], "MLP", lambda seed: Broken())
    monkeypatch.setitem(module.PEERS["regression"], "MLP", lambda seed: DummyRegressor())
    monkeypatch.setitem(module.PACKAGES, "cgmm", "not-there")
    run("--peers", "MLP,cgmm")
    text = capsys.readouterr().out
    assert "Left out: cgmm (not installed: pip install not-there)." in text
    assert cells(text, "MLP")[1] == "fails: RuntimeError: no."
    _, total, failed, which = cells(text, "MLP, classification")
    assert 0 < int(failed) <= int(total)
    assert "check_" in which
    assert cells(text, "MLP, regression")[2:] == ["0", "n/a"]
