"""A training that is stored while it runs, and goes on where it was stopped."""

import codecs
import glob
import hashlib
import inspect
import os
import tempfile
import threading
import time
import types
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import issparse
from skorch.history import History

from .._compat import __version__
from .._data.indexing import row_slices
from .._validation import warn
from .process_group import CURRENT_GROUP

_DIGEST = hashlib.sha256().digest_size
_PLAIN = (type(None), bool, int, float, str)
# What NumPy's arrays and scalars are made of in a file of torch, whatever the version of either.
_NUMPY_PARTS = [
    *(np.ndarray, np.dtype, bytes, codecs.encode),
    *(array.__reduce__()[0] for array in (np.zeros(1), np.float64(0))),
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFDSUMm"},
]


class DamagedFileError(Exception):
    """A file is not what was written."""


def is_storable(value):
    """Tell whether nested values can be written."""
    if isinstance(value, dict):
        return all(is_storable(k) and is_storable(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(is_storable(part) for part in value)
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return type(value) in _PLAIN or isinstance(value, np.generic | torch.Tensor)


def dump_state(state):
    """Return nested dicts, lists and tuples of numbers, texts, arrays and tensors as bytes.

    Raises
    ------
    TypeError
        If something else is among them.
    """
    if not is_storable(state):
        raise TypeError("it can hold numbers, texts, arrays and tensors only, no other objects")
    file = BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return hashlib.sha256(content).digest() + content


def load_state(path):
    """Return what was written; every bit is checked, and no code of the file is run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is no such file, or not whole.
    """
    data = Path(path).read_bytes()
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedFileError("its checksum is wrong")
    try:
        with torch.serialization.safe_globals(_NUMPY_PARTS):
            return dict(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
    except Exception as error:
        # Torch does not load it.
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


_FORMAT = 1
_SUFFIX = ".checkpoint"
_ANOTHER_FILE = (
    "Remove the file, pass another one, or a folder, in which every fit has a file of its own."
)
# Seconds after which a half-written file is that of a process that is gone.
_STALE = 3600


class FitFile:
    """What is stored of one fit.

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
        in_folder = path.is_dir() or not Path(place.path).suffix
        folder = path if in_folder else path.parent
        _check_writable(folder, path, place.path)
        shorter = []
        if in_folder:
            text = "\n".join(f"{name}: {value}" for name, value in sorted(identity.items()))
            stem = hashlib.sha256(text.encode()).hexdigest()[:20]
            # Sorted by name the files are in the order of their lengths.
            path = folder / f"{stem}-{max_iter:09}{_SUFFIX}"
            shorter = [other for other in folder.glob(f"{stem}-*{_SUFFIX}") if other < path]
        self.path = path
        self._sweep()
        sources = [path, *sorted(shorter, reverse=True)]
        self.state = next((state for state in map(self._read, sources) if state), None)

    def _read(self, path):
        """Return what the file holds, None if there is none."""
        try:
            state = load_state(path)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            raise ValueError(
                f"'{path}' is damaged, or no checkpoint of sklearn_moe ({error}). Nothing was "
                "changed. Remove it to begin the fit from the start, or pass another path."
            ) from error
        self._check(path, state)
        return state

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
                f"{_ANOTHER_FILE}"
            )
        if state["n_epochs"] > self.max_iter:
            raise ValueError(
                f"The checkpoint '{path}' holds {state['n_epochs']} epochs of this fit, more than "
                f"max_iter={self.max_iter}. {_ANOTHER_FILE}"
            )

    def pack(self, **state):
        """Return the bytes of a state with `n_epochs`, as they are written and read."""
        head = {"format": _FORMAT, "version": __version__, "identity": self.identity}
        return dump_state(head | state)

    def write(self, packed):
        """Store bytes in the file, which is whole at any moment."""
        part = Path(f"{self.path}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            with open(part, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
            _sync(self.path.parent)
        finally:
            part.unlink(missing_ok=True)

    def _sweep(self):
        """Remove what a killed process left half-written."""
        for part in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _STALE:
                    part.unlink()


def _check_writable(folder, path, name):
    """Make the folder, and see at once whether a file can be written there."""
    try:
        with suppress(FileNotFoundError):
            # It fails at a link that leads to itself.
            path.stat()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
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


# Characters of a description.
_LONGEST = 80
# What does not change the course of a training, or is described in a way of its own.
_IRRELEVANT = ("verbose", "callbacks", "checkpoint", "device", "warm_start")
# Modules of callbacks that only watch.
_OBSERVERS = ("skorch.callbacks.logging",)
_SCALARS = (type(None), bool, int, float, complex, str, bytes)


def identity_of(estimator, samples, plan, random_state, callbacks, weights=None):
    """Return what decides the course of a fit, by name, as short texts.

    Parameters
    ----------
    estimator : estimator instance
        Its parameters are read.
    samples : Samples
        As they are trained on.
    plan : Plan
    random_state : dict
        State of the generator that the fit draws from, at its start.
    callbacks : list of callbacks
        Those of skorch and of scikit-learn.
    weights : dict or None
        State of the module that a warm start goes on from.
    """
    identity = {"estimator": type(estimator).__name__}
    for name, array in zip(("X", "y", "sample_weight", "groups"), samples, strict=True):
        if array is None:
            continue
        identity[name] = f"{array.dtype} {array.shape} {digest(array)[:16]}"
    params = estimator.get_params(deep=True)
    parts = {name.partition("__")[0] for name in params if "__" in name}
    for name, value in params.items():
        if name not in _IRRELEVANT and name not in parts:
            name = name.removesuffix("__kind")
            # What "auto" becomes may change.
            identity[name] = describe(plan.resolved.get(name, value))
    if isinstance(estimator.random_state, np.random.RandomState):
        # The generator as it was.
        identity["random_state"] = f"RandomState {describe(random_state)}"
    if active := [callback for callback in callbacks if not _is_observer(callback)]:
        # These can end a fit, or change it.
        identity["callbacks"] = describe(active)
    if not plan.training.depends_on_max_iter:
        del identity["max_iter"]
    identity["start"] = "new weights" if weights is None else f"weights {describe(weights)}"
    return identity


def _is_observer(callback):
    """Tell a callback that changes nothing: loggers do not, and others may say so."""
    # It may have a name.
    callback = callback[1] if isinstance(callback, tuple | list) else callback
    kind = callback if isinstance(callback, type) else type(callback)
    return getattr(kind, "is_observer", kind.__module__.startswith(_OBSERVERS))


def digest(array):
    """Return the SHA-256 of an array, selected rows or a sparse matrix, without a copy of it."""
    parts = (array.data, array.indices, array.indptr) if issparse(array) else (array,)
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part.dtype} {part.shape} ".encode())
        part = part.reshape(1) if part.ndim == 0 else part
        for rows in row_slices(part) if len(part) else ():
            sha.update(part[rows].tobytes())
    return sha.hexdigest()


def describe(value):
    """Return a text that is equal for equal values: no addresses, and of much data a digest.

    A function or class of a module counts by its name; one that has no name of its own, such as a
    lambda, by its code, too.
    """
    text = _describe(value, ())
    if len(text) <= _LONGEST:
        return text
    name = value.__qualname__ if hasattr(value, "__qualname__") else type(value).__name__
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _describe(value, above):
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _SCALARS:
        return repr(value)
    if id(value) in above:
        return "..."
    above = (*above, id(value))
    if isinstance(value, torch.Tensor) and value.device.type != "meta":
        value = value.detach().cpu()
        value = value.numpy() if value.dtype != torch.bfloat16 else value.float().numpy()
    if issparse(value) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return f"array {value.dtype} {value.shape} {digest(value)}"
    if isinstance(value, dict):
        pairs = [(_describe(k, above), _describe(v, above)) for k, v in value.items()]
        return "{" + ", ".join(f"{k}: {v}" for k, v in sorted(pairs)) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_describe(part, above) for part in value]
        parts = sorted(parts) if isinstance(value, set | frozenset) else parts
        return f"{type(value).__name__}({', '.join(parts)})"
    # Of a callback its parameters count.
    if hasattr(type(value), "on_epoch_end"):
        kept, names = vars(value), inspect.signature(type(value)).parameters.keys()
        # They may have other names there.
        if not names <= kept.keys():
            names = [name for name in kept if not name.endswith("_")]
        return _describe((type(value), {name: kept[name] for name in names}), above)
    if isinstance(value, types.CodeType):
        return _describe((value.co_code, value.co_consts, value.co_names), above)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        name = f"{value.__module__}.{value.__qualname__}"
        has_name = value.__module__ != "__main__" and "<" not in value.__qualname__
        if has_name or not isinstance(value, types.FunctionType):
            return name
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inside = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        return name + _describe(inside, above)
    try:
        # What pickle would store.
        return _describe(value.__reduce_ex__(2), above)
    except TypeError:
        return type(value).__qualname__


# Forms in which attributes of callbacks are stored.
_VALUE, _STATE = "value", "state"
# Seconds between two snapshots in memory; Ctrl-C writes the last one.
_GLANCE = 1.0


class Checkpoint:
    """Store the state of a net at ends of epochs, and give it back.

    Parameters
    ----------
    file : FitFile
    random_state : dict
        State of the generator that the fit draws from, at its start.
    generator : RandomState or None
        The generator, if it is the caller's: it is put back if the fit fails or is interrupted.
    """

    def __init__(self, file, random_state, generator=None):
        self.file = file
        self.random_state = random_state
        self.generator = generator
        group = CURRENT_GROUP.get()
        # The first process stores what all have.
        self.enabled = group is None or group.rank == 0
        self.unwritten = None
        self.kept = self.written = time.monotonic()

    # -- what a training calls ------------------------------------------------------------

    def restore(self, training):
        """Give a training what was stored, if something was."""
        net, stored = training.net, self.file.state
        if stored is None:
            self.first = len(net.history)
            return
        callbacks = dict(net.callbacks_)
        known = {name: s for name, s in stored["callbacks"].items() if name in callbacks}
        for name, state in known.items():
            self._check(name, callbacks[name], state)
        for name in net.with_state:
            getattr(net, name).load_state_dict(stored["parts"][name])
        if training.schedule is not None:
            training.schedule.n_done = stored["n_steps"]
        _restore_draws(training, stored)
        for name, (values, states) in known.items():
            callback = callbacks[name]
            vars(callback).update(values)
            for key, state in states.items():
                # Objects are there once training has begun.
                if _form_of(callback, key) == _STATE:
                    getattr(callback, key).load_state_dict(state)
        net.history = History(stored["history"])
        self.first = len(net.history) - stored["n_epochs"]
        training.n_done, training.stopped = stored["n_epochs"], stored["stopped"]

    def epoch_ended(self, training):
        """Keep the state as it is, in memory or in the file, unless that was done just now."""
        now = time.monotonic()
        due = now - self.written >= self.file.every
        if len(training.net.history) > self.first and (due or now - self.kept >= _GLANCE):
            self._keep(training)
            if due:
                self.write()

    def rewind(self):
        """Let the caller's generator draw the same again, for a fit that goes on from here."""
        if self.generator is not None:
            self.generator.set_state(self.random_state)

    def ended(self, training):
        """Write the last state, if there is one that was not restored."""
        if len(training.net.history) - self.first > training.n_done:
            self._keep(training)
            self.write()

    def write(self):
        """Write the latest state that was kept: that of an epoch's end."""
        with self._warned():
            if self.unwritten is not None:
                self.file.write(self.unwritten)
                self.unwritten = None
        self.written = time.monotonic()

    # -- its parts ------------------------------------------------------------------------

    def _check(self, name, callback, stored):
        """Refuse what would not have been written of a callback: it could change what it does."""
        values, states = stored
        foreign = [key for key in values if _form_of(callback, key) != _VALUE]
        foreign += [key for key in states if _form_of(callback, key) is None]
        if foreign:
            raise ValueError(
                f"The checkpoint '{self.file.path}' holds {foreign} of the callback {name!r}. "
                "A checkpoint keeps only what a callback learns in training, so the file was "
                "changed or belongs to another callback. Remove it, or pass another path."
            )

    def _keep(self, training):
        if not self.enabled:
            return
        net = training.net
        # The state that was restored is no longer needed.
        self.file.state = None
        with self._warned():
            self.unwritten = self.file.pack(
                n_epochs=len(net.history) - self.first,
                stopped=training.stopped,
                random_state=self.random_state,
                parts={name: getattr(net, name).state_dict() for name in net.with_state},
                n_steps=training.schedule and training.schedule.n_done,
                draws=[generator.get_state() for generator in training.generators],
                device=torch.device(net.device).type,
                callbacks={name: _state_of(callback) for name, callback in net.callbacks_},
                history=list(net.history),
            )
        self.kept = time.monotonic()

    @contextmanager
    def _warned(self):
        """Warn of what goes wrong: it is no reason to lose what was learned."""
        try:
            yield
        except (OSError, TypeError) as error:
            # A full disk may be cleared.
            self.enabled = isinstance(error, OSError)
            warn(
                f"The checkpoint '{self.file.path}' could not be written ({error}). Training goes "
                "on; what was written before is kept.",
                UserWarning,
            )


def _restore_draws(training, stored):
    """Go on with the generators; with others on another kind of device, or for a process's own."""
    device = torch.device(training.net.device).type
    known = training.generators if device == stored["device"] else []
    for generator, state in zip(known, stored["draws"], strict=False):
        generator.set_state(state)
    for generator in {*training.generators, *training.draws}.difference(known):
        generator.manual_seed(generator.initial_seed() + stored["n_epochs"])


def _form_of(callback, name):
    """Return in which form an attribute of a callback is stored, None if it is not.

    This is the rule for writing and for reading. By skorch's convention the names of what a
    callback learns end with "_". One that is not there yet may be learned later.
    """
    if not isinstance(name, str) or not name.endswith("_") or name.startswith("_"):
        return None
    # Of a property this is the property itself.
    value = inspect.getattr_static(callback, name, None)
    if is_storable(value):
        return _VALUE
    is_object = hasattr(value, "load_state_dict") and not isinstance(value, type)
    # A schedule of torch has a state.
    return _STATE if is_object else None


def _state_of(callback):
    """Return what a callback has learned, the values and the states of objects."""
    values, states = {}, {}
    for name, value in vars(callback).items():
        form = _form_of(callback, name)
        if form == _VALUE:
            values[name] = value
        elif form == _STATE and is_storable(state := value.state_dict()):
            states[name] = state
    return values, states
