"""What the commands share: types of options, and checks before the work begins."""

import argparse
from importlib.util import find_spec
from tempfile import NamedTemporaryFile


def positive(text):
    """Return a whole number of at least 1."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


# What each extra of the project brings that the experiments import.
_EXTRAS = {
    "plot": ("matplotlib",),
    "paper": ("matplotlib", "jinja2"),
    "baselines": ("neural_trees",),
}


def require_extra(extra):
    """Refuse to begin without the packages of an extra.

    Raises
    ------
    SystemExit
        With what is missing, and how it is installed.
    """
    missing = [package for package in _EXTRAS[extra] if find_spec(package) is None]
    if missing:
        raise SystemExit(
            f"This needs {' and '.join(missing)}, which cannot be found. Install with "
            f"`pip install 'sklearn_moe[{extra}]'`."
        )


def require_folder(folder):
    """Make a folder, and refuse to begin if nothing can be written there.

    Raises
    ------
    SystemExit
        With the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SystemExit(f"Nothing can be written to {folder}: {error}.") from None
