"""README and documentation: what they show runs, links lead somewhere, nothing is left out."""

import importlib
import inspect
import re
import runpy
import textwrap
from functools import wraps
from itertools import chain

import numpy as np
import pytest
import torch
from house import ROOT
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

from sklearn_moe import (
    MixtureClassifier,
    MixtureRegressor,
    MoEClassifier,
    MoERegressor,
    __version__,
)
from sklearn_moe.preprocessing import PatchKMeansFeatures

README = ROOT / "README.md"
SAVING = ROOT / "docs" / "saving.rst"


@pytest.fixture
def tool(monkeypatch):
    """Return a function that imports a file of the documentation."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module


def test_links_and_commands_of_the_readme_exist():
    text, makefile = README.read_text(), (ROOT / "Makefile").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 8
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link
    for target in set(re.findall(r"make ([a-z-]+)", text)):
        assert re.search(rf"^(.* )?{target}( .*)?:", makefile, re.MULTILINE), target


def test_the_readme_names_the_line_that_draws_its_picture(tool, pyplot):
    """Its words are those that the code above it prints."""
    figure = tool("make_figures").draw_rules()
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    printed = re.findall(r"^Expert (\d): .+\n    (.+)$", README.read_text(), re.MULTILINE)
    assert words[:-1] == [f"expert {k}: {where.replace('<=', '≤')}" for k, where in printed]
    assert len(figure.axes[0].lines) == 3


def test_changelog_and_citation_are_those_of_this_version():
    released = re.search(r"^## (\d.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert cited["version"] == __version__
    assert released == f"{__version__} ({cited['date-released']})"


def test_every_parameter_has_one_topic(tool):
    for estimator in (MoEClassifier, MoERegressor):
        topics = tool("parameter_topics").TOPICS[estimator.__name__]
        assert sorted(chain(*topics.values())) == sorted(inspect.signature(estimator).parameters)


def test_tables_of_pages_are_those_of_the_stored_results(tool):
    tables = tool("fill_tables")
    results = tables.stored()
    for page in tables.PAGES:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert re.search("Filled by docs/fill_tables.py: ", text)
        assert tables.filled(text, results) == text
    wrong = ".. Filled by docs/fill_tables.py: Means\n\n   MoE | .5 | 1\n   of no model | 2 | 3"
    right = tables.filled(wrong, {"Means": {"MoE": ["0.250 [-0.1, 1.0]", "10.0"]}})
    assert right.splitlines()[2:] == ["   MoE | .250 (-.1 to 1.0) | 10.0", "   of no model | 2 | 3"]


def test_every_example_and_page_has_its_place(tool):
    place = tool("gallery_order").Course("examples")
    names = [path.name for path in (ROOT / "examples").glob("plot_*.py")]
    assert sorted(map(place, names)) == list(range(len(names)))
    pages = {path.stem for path in (ROOT / "docs").glob("*.*") if path.suffix in (".rst", ".md")}
    assert not pages & {"search", "genindex", "py-modindex"}  # which Sphinx writes itself


FEW = {"max_iter": 2}
BRIEF = dict.fromkeys([MoEClassifier, MoERegressor, MLPClassifier, MLPRegressor], FEW)
BRIEF[MixtureClassifier] = BRIEF[MixtureRegressor] = {"max_iter": 30, "n_init": 1}
BRIEF |= {RandomForestClassifier: {"n_estimators": 10}, PatchKMeansFeatures: {"n_patches": 500}}


def briefly(fit, **options):
    """Return the method with other parameters: at the figures of examples nobody looks here."""

    @wraps(fit)
    def brief_fit(model, *data, **named):
        given = model.get_params(deep=False)
        if given.get("method") == "stack":
            data = [part[:90] for part in data]
        elif given.get("n_components") != "auto" or given["estimator"] is not None:
            model.set_params(**options)
        fit(model, *data, **named)
        return model.set_params(**{name: given[name] for name in options})

    return brief_fit


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("examples/plot_*.py")))
def test_the_example_runs(name, pyplot, monkeypatch):
    path = ROOT / "examples" / f"{name}.py"
    monkeypatch.setattr(pyplot, "show", lambda: None)
    for model, options in BRIEF.items():
        monkeypatch.setattr(model, "fit", briefly(model.fit, **options))
    runpy.run_path(str(path))
    assert pyplot.get_fignums()


def blocks():
    """Yield the title and the code of each section about other packages."""
    text = SAVING.read_text().partition(".. _works-with:")[2]
    sections = re.split(r"^(.+)\n~+\n", text, flags=re.MULTILINE)[1:]
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        for code in re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", section):
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
    exec(compile(code, str(SAVING), "exec"), {"__name__": "works_with"})
