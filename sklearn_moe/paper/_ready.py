"""What a command needs, looked for before the work and not after it."""

from importlib.util import find_spec
from tempfile import NamedTemporaryFile

__all__ = ["require_extra", "require_folder"]

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
