"""The pages of the documentation list all that there is, and their checks find what is wrong."""

import importlib
import inspect
import shutil
from itertools import chain
from pathlib import Path

import pytest

from sklearn_moe import MoEClassifier, MoERegressor

ROOT = Path(__file__).parent.parent


@pytest.fixture
def tool(monkeypatch):
    """Return a function that imports a file of the documentation."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module


@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
def test_every_parameter_has_one_topic_in_the_order_of_the_signature(tool, estimator):
    topics = tool("parameter_topics").TOPICS[estimator.__name__]
    assert [*chain(*topics.values())] == [*inspect.signature(estimator).parameters]


def test_every_example_has_its_place(tool):
    place = tool("gallery_order").Course("examples")
    names = [path.name for path in (ROOT / "examples").glob("plot_*.py")]
    assert sorted(map(place, names)) == list(range(len(names)))


PAGE = '<h1 id="top-of-it">A</h1><a href="{}">there</a>'


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("b.html", False),
        ("b.html#c", False),
        ("#top-of-it", False),
        ("https://nowhere.example/#x", False),
        ("c.html", True),
        ("b.html#d", True),
        ("#nothing", True),
        ("picture.png", True),
    ],
)
def test_dead_links_are_found(tool, tmp_path, link, dead):
    (tmp_path / "a.html").write_text(PAGE.format(link))
    (tmp_path / "b.html").write_text('<p id="c">')
    found = [(Path("a.html"), link)] if dead else []
    assert list(tool("check_links").dead_links(tmp_path)) == found


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_pages_that_scroll_sideways_are_found(tool, tmp_path, capsys):
    pytest.importorskip("playwright")
    for width in (300, 800, 1500):
        (tmp_path / f"{width}.html").write_text(f'<div style="width: {width}px">a</div>')
    assert tool("check_widths").main(tmp_path) == 3
    said = capsys.readouterr().out
    assert "800.html" in said
    assert "1500.html" in said
    assert "300.html" not in said


def test_no_page_takes_the_place_of_one_that_sphinx_writes():
    names = {path.stem for path in (ROOT / "docs").glob("*.*") if path.suffix in (".rst", ".md")}
    assert not names & {"search", "genindex", "py-modindex"}
