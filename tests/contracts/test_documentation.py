"""README and documentation: what they show runs, links lead somewhere, nothing is left out."""

import doctest
import importlib
import inspect
import io
import re
import runpy
import textwrap
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier, MoERegressor, __version__

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
WORKS_WITH = ROOT / "docs" / "works_with.rst"


@pytest.fixture
def tool(monkeypatch):
    """Return a function that imports a file of the documentation."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of MLPClassifier
def test_the_examples_of_the_readme_print_what_it_says():
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testfile(str(README), module_relative=False, optionflags=flags)
    assert (failed, tried > 8) == (0, True)


def test_links_and_commands_of_the_readme_exist():
    text, makefile = README.read_text(), (ROOT / "Makefile").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 8
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link
    for target in set(re.findall(r"make ([a-z-]+)", text)):
        assert re.search(rf"^(.* )?{target}( .*)?:", makefile, re.MULTILINE), target


def test_changelog_and_citation_are_those_of_this_version():
    released = re.search(r"^## (\d.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert cited["version"] == __version__
    assert released == f"{__version__} ({cited['date-released']})"


def test_every_parameter_has_one_topic(tool):
    for estimator in (MoEClassifier, MoERegressor):
        topics = tool("parameter_topics").TOPICS[estimator.__name__]
        assert sorted(chain(*topics.values())) == sorted(inspect.signature(estimator).parameters)


def test_what_the_guide_tells_to_tune_is_what_most_people_set(tool):
    tuned = re.findall(r"^   \* - `(\w+)`$", (ROOT / "docs" / "choosing.rst").read_text(), re.M)
    assert len(tuned) > 5
    first, *_ = tool("parameter_topics").TOPICS["MoEClassifier"].values()
    assert {name.split("__")[0] for name in tuned} <= {*first}


def test_every_example_and_page_has_its_place(tool):
    place = tool("gallery_order").Course("examples")
    names = [path.name for path in (ROOT / "examples").glob("plot_*.py")]
    assert sorted(map(place, names)) == list(range(len(names)))
    pages = {path.stem for path in (ROOT / "docs").glob("*.*") if path.suffix in (".rst", ".md")}
    assert not pages & {"search", "genindex", "py-modindex"}  # which Sphinx writes itself


# What Sphinx shows first: entries of its index that begin with "!".
SEARCHES = {
    "confidence interval": ("regression", "pipelines", "MoERegressor.predict_interval"),
    "class weight": ("rare_classes", "MoEClassifier"),
    "regimes": ("regimes", "MixtureRegressor"),
    "feature importance": ("explain",),
    "missing values": ("tabular", "MoEClassifier"),
    "calibration": ("probabilities",),
    "stacking": ("trust", "MixtureClassifier"),
    "save": ("saving",),
    "GPU": ("gpu",),
    "counts": ("regression",),
    "images": ("images",),
}


@pytest.mark.parametrize("words", SEARCHES)
def test_a_search_finds_its_page(tool, words):
    entries = dict(tool("parameter_topics").INDEX_ENTRIES)
    for page in (ROOT / "docs").glob("*.rst"):
        entries[page.stem] = re.findall(r"^\.\. index:: ! (.+)$", page.read_text(), re.MULTILINE)
    assert {*SEARCHES[words]} <= {place for place, found in entries.items() if words in found}


def test_class_pages_show_the_first_sentence_of_each_entry(tool):
    pytest.importorskip("sphinx")
    nodes = importlib.import_module("docutils.nodes")
    text = "Least gain of ", nodes.literal("", "fit"), nodes.Text(" of .5 or more. It stops.")
    whole = nodes.definition("", nodes.paragraph("", "", nodes.Text(text[0]), *text[1:]))
    kind = nodes.classifier("", "float, default=0.1")
    item = nodes.definition_list_item("", nodes.term("", "tol"), kind, whole)
    shown = tool("class_pages")._first_sentence(item).astext()
    assert shown == "Least gain of fit of .5 or more. Default: 0.1"


def test_dead_links_are_found(tool, tmp_path):
    alive = ["b.html", "b.html#c", "#top-of-it", "https://nowhere.example/#x"]
    dead = ["c.html", "b.html#d", "#nothing", "picture.png"]
    links = "".join(f'<a href="{link}">there</a>' for link in alive + dead)
    (tmp_path / "a.html").write_text(f'<h1 id="top-of-it">A</h1>{links}')
    (tmp_path / "b.html").write_text('<p id="c">')
    found = tool("check_links").dead_links(tmp_path)
    assert sorted(found) == sorted((Path("a.html"), link) for link in dead)


def shown_texts(figure):
    """Yield the texts of a figure as it is saved, with their boxes; no ticks beyond an axis."""
    figure.savefig(io.BytesIO())
    beyond = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                beyond |= {tick.label1, tick.label2}
    for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
        if text.get_visible() and text.get_text().strip() and text not in beyond:
            yield text.get_text(), text.get_window_extent()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("examples/plot_*.py")))
def test_figures_of_the_examples_are_whole_and_their_texts_apart(name, pyplot, monkeypatch):
    path = ROOT / "examples" / f"{name}.py"
    if "fetch_cifar10" in path.read_text():
        pytest.skip("needs a download")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    runpy.run_path(str(path))
    for figure in map(pyplot.figure, pyplot.get_fignums()):
        texts = [*shown_texts(figure)]
        for index, (text, box) in enumerate(texts):
            assert box.x0 > -1, text
            assert box.y0 > -1, text
            assert box.x1 < figure.bbox.width + 1, text
            assert box.y1 < figure.bbox.height + 1, text
            for other, its in texts[:index]:
                width = min(box.x1, its.x1) - max(box.x0, its.x0)
                height = min(box.y1, its.y1) - max(box.y0, its.y0)
                assert text == other or min(width, height) < 2, (text, other)


def blocks():
    """Yield the title and the code of each section about other packages."""
    sections = re.split(r"^(.+)\n-+\n", WORKS_WITH.read_text(), flags=re.MULTILINE)[1:]
    for title, text in zip(sections[::2], sections[1::2], strict=True):
        for code in re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text):
            yield pytest.param(textwrap.dedent(code), id=title.split(":")[-1].strip())


@pytest.fixture
def generators_restored():
    """Put the global generators back: other packages draw from them."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's
@pytest.mark.usefixtures("generators_restored")
@pytest.mark.parametrize("code", [*blocks()])
def test_the_block_runs(code):
    for package in set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)):
        pytest.importorskip(package, exc_type=ImportError)
    exec(compile(code, str(WORKS_WITH), "exec"), {"__name__": "works_with"})
