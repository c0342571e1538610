"""Bars are for those who watch: named, honest about early ends, quiet elsewhere."""

import subprocess
import sys

import numpy as np
import pytest

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._compat import progress_bar

X = np.random.default_rng(0).normal(size=(100, 3))
y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def terminal(capsys, monkeypatch):
    """Return a function that returns what was shown on a terminal."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    return lambda: capsys.readouterr().err


def test_a_bar_is_named_and_full_in_the_end(terminal):
    MoERegressor(n_experts=3, tol=None, max_iter=5, verbose=1, random_state=0).fit(X, X[:, 0])
    shown = terminal()
    assert "MoERegressor, 3 experts: 100%" in shown
    assert "5/5" in shown
    assert "loss=" in shown


def test_no_end_is_promised_where_training_may_stop(terminal):
    options = {"max_iter": 1000, "early_stopping": True, "random_state": 0}
    clf = MoEClassifier(n_experts=2, verbose=1, **options).fit(X, y)
    shown = terminal()
    assert "1000" not in shown
    assert f"{clf.n_iter_}/{clf.n_iter_}" in shown


def test_a_file_gets_a_line_per_fit(capsys):
    MoEClassifier(n_experts=2, max_iter=3, tol=None, verbose=1, random_state=0).fit(X, y)
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("MoEClassifier, 2 experts: 3 epochs, training loss 0.")


def test_a_notebook_gets_a_bar_and_no_warning(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert list(progress_bar(range(3), desc="here")) == [0, 1, 2]
    assert "here: 100%" in capsys.readouterr().err


def test_an_import_in_a_notebook_without_widgets_does_not_warn():
    code = (
        "import sys, types, warnings\n"
        "warnings.simplefilter('error')\n"
        "shell = types.ModuleType('ipykernel.zmqshell')\n"
        "sys.modules |= {'ipykernel': types.ModuleType('ipykernel'), 'ipykernel.zmqshell': shell}\n"
        "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: object())\n"
        "sys.modules['ipywidgets'] = None\n"
        "import sklearn_moe.datasets, sklearn_moe.paper\n"
        "from sklearn_moe._compat import progress_bar\n"
        "list(progress_bar(range(3)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "3/3" in shown.stderr
