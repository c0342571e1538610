"""The blocks of docs/works_with.rst run, each by itself, where its packages are installed."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "works_with.rst"


@pytest.fixture(autouse=True)
def global_generators_untouched():
    """Put NumPy's global generator back: others draw from it."""
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


def blocks():
    """Yield the title and the code of each section."""
    sections = re.split(r"^(.+)\n-+\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    for title, text in zip(sections[::2], sections[1::2], strict=True):
        for code in re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text):
            yield pytest.param(textwrap.dedent(code), id=title.split(":")[-1].strip())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's
@pytest.mark.parametrize("code", [*blocks()])
def test_the_block_runs(code):
    for package in set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)):
        pytest.importorskip(package, exc_type=ImportError)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "works_with"})
