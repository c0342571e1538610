"""The file of a fit: which one it is, what is refused, and how it stays whole."""

import glob
import hashlib
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from ._state_file import DamagedFileError, dump_state, load_state
from ._version import __version__
from ._warnings import warn

__all__ = ["FitFile"]

_FORMAT = 1
_SUFFIX = ".checkpoint"
_STALE = 3600  # seconds after which a half-written file is that of a process that is gone


class FitFile:
    """What is stored of one fit, in two generations: `path` and `path` + ".previous".

    Parameters
    ----------
    place : FitCheckpoint
    identity : dict
        What decides the course of the fit, see `identity_of`.
    max_iter : int
        Epochs of the fit. Without "max_iter" in the identity a shorter fit is the beginning of a
        longer one.

    Attributes
    ----------
    state : dict or None
        What was stored, None if nothing was.

    Raises
    ------
    ValueError
        If the file is damaged, or that of another fit.
    OSError
        If nothing can be written there.
    """

    def __init__(self, place, identity, max_iter):
        self.every = place.every
        self.identity = identity
        self.max_iter = max_iter
        # What a symbolic link leads to: a new file would take the place of the link itself.
        path = Path(os.path.realpath(place.path))
        self.in_folder = path.is_dir() or not Path(place.path).suffix
        folder = path if self.in_folder else path.parent
        _check_writable(folder, path, place.path)
        if self.in_folder:
            text = "\n".join(f"{name}: {value}" for name, value in sorted(identity.items()))
            self.stem = hashlib.sha256(text.encode()).hexdigest()[:20]
            path = folder / f"{self.stem}-{max_iter}{_SUFFIX}"
        self.path = path
        self._sweep()
        self.state = next((state for state in map(self._read, self._sources()) if state), None)

    def _sources(self):
        """Yield the file of this fit, then those of shorter ones, the longest first."""
        yield self.path
        if self.in_folder and "max_iter" not in self.identity:
            found = self.path.parent.glob(f"{self.stem}-*{_SUFFIX}")
            lengths = (int(path.stem.split("-")[1]) for path in found)
            for length in sorted(lengths, reverse=True):
                if length < self.max_iter:
                    yield self.path.with_name(f"{self.stem}-{length}{_SUFFIX}")

    def _read(self, path):
        """Return what the newest generation that is whole holds, None if there is none."""
        damage = None
        for generation in (path, _add_suffix(path, ".previous")):
            try:
                state = load_state(generation)
            except FileNotFoundError:
                continue
            except DamagedFileError as error:
                damage = damage or error
                continue
            self._check(generation, state)
            if damage is not None:
                aside = _add_suffix(path, ".damaged")
                os.replace(path, aside)
                warn(
                    f"The checkpoint '{path}' is damaged ({damage}), and was moved to "
                    f"'{aside.name}'. The fit goes on from the one before it, of "
                    f"{state['n_epochs']} epochs.",
                    UserWarning,
                )
            return state
        if damage is not None:
            raise ValueError(
                f"'{path}' is damaged, or no checkpoint of sklearn_moe ({damage}), and there is no "
                "earlier one that is whole. Nothing was changed. Remove it to begin the fit from "
                "the start, or pass another path."
            )
        return None

    def _check(self, path, state):
        """Refuse what is stored of another fit."""
        if state.get("format") != _FORMAT:
            raise ValueError(
                f"The checkpoint '{path}' has format {state.get('format')} of sklearn_moe "
                f"{state.get('version')}; sklearn_moe {__version__} reads format {_FORMAT}."
            )
        if state["version"] != __version__:
            warn(
                f"The checkpoint '{path}' is of sklearn_moe {state['version']}, and this is "
                f"{__version__}: the fit goes on, and may differ from an uninterrupted one.",
                UserWarning,
            )
        wanted, stored = self.identity, state["identity"]
        differ = [name for name in {**stored, **wanted} if wanted.get(name) != stored.get(name)]
        if differ:
            changes = ", ".join(f"{n} (was {stored.get(n)}, is {wanted.get(n)})" for n in differ)
            why = " The course of this fit depends on max_iter." if "max_iter" in differ else ""
            raise ValueError(
                f"The checkpoint '{path}' is that of another fit. What differs: {changes}.{why} "
                "Remove the file, pass another one, or a folder, in which every fit has a file of "
                "its own."
            )
        if state["n_epochs"] > self.max_iter:
            raise ValueError(
                f"The checkpoint '{path}' holds {state['n_epochs']} epochs of this fit, more than "
                f"max_iter={self.max_iter}. Remove the file, pass another one, or a folder, in "
                "which every fit has a file of its own."
            )

    def pack(self, **state):
        """Return the bytes of a state with `n_epochs`, as they are written and read."""
        head = {"format": _FORMAT, "version": __version__, "identity": self.identity}
        return dump_state(head | state)

    def write(self, packed):
        """Store bytes in the place of the last ones, which are kept as the previous generation.

        The file is whole at any moment.
        """
        part = _add_suffix(self.path, f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            with open(part, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                os.replace(self.path, _add_suffix(self.path, ".previous"))
            os.replace(part, self.path)
            _sync(self.path.parent)
        finally:
            with suppress(OSError):
                part.unlink()

    def _sweep(self):
        """Remove what a killed process left half-written."""
        for part in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _STALE:
                    part.unlink()


def _add_suffix(path, suffix):
    return path.with_name(path.name + suffix)


def _check_writable(folder, path, name):
    """Make the folder, and see at once whether a file can be written there."""
    probe = folder / f".{os.getpid()}-{threading.get_ident()}.part"
    try:
        with suppress(FileNotFoundError):
            path.stat()  # fails at a link that leads to itself
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"checkpoint='{name}' cannot be written ({error}). Pass a file or folder in a place "
            "that you may write to."
        ) from error


def _sync(folder):
    """Make a renamed file survive a loss of power, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
