"""A fit that is stored while it runs, and goes on where it was stopped."""

import copy
import hashlib
import json
import os
import pickle
import tempfile
import threading
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import joblib
import numpy as np
import torch
from scipy.sparse import issparse
from skorch.history import History

from .._compat import __version__
from .._persistence import as_array, map_nested
from .._validation import warn

# Seconds between two writes, at least; the end of a training is always written.
_SECONDS = 60.0
_DIGEST = hashlib.sha256().digest_size
# What does not change the course of a training.
_IRRELEVANT = {"verbose", "callbacks", "checkpoint", "device", "warm_start"}


def identity_of(estimator, data, plan, random_state, weights=None):
    """Return a hash of what decides the course of a fit.

    Parameters
    ----------
    estimator : estimator instance
        Its parameters are read.
    data : tuple
        The samples as they are trained on, X first, and how X is read.
    plan : Plan
    random_state : RandomState
        The generator that the fit draws from, at its start.
    weights : dict or None
        State of the module that a warm start goes on from.

    Raises
    ------
    ValueError
        If a parameter cannot be pickled.
    """
    params = estimator.get_params(deep=True)
    groups = {name.partition("__")[0] for name in params if "__" in name}
    # What "auto" becomes may change.
    params = {k.removesuffix("__kind"): v for k, v in params.items() if k not in groups}
    params |= plan.resolved
    if isinstance(estimator.random_state, np.random.RandomState):
        params["random_state"] = random_state.get_state(legacy=False)
    params = {name: _as_values(v) for name, v in params.items() if name not in _IRRELEVANT}
    X, *rest = data
    data = [(X.data, X.indices, X.indptr) if issparse(X) else X, *rest]
    callbacks = [_describe(callback) for callback in estimator.callbacks or ()]
    start = map_nested(as_array, weights)
    try:
        return joblib.hash(
            (__version__, type(estimator).__name__, params, data, [*filter(None, callbacks)], start)
        )
    except (pickle.PicklingError, TypeError) as error:
        raise ValueError(
            "checkpoint tells fits apart by a hash of their parameters and callbacks, of which "
            f"some cannot be pickled ({error}). Define functions and classes in a module, or leave "
            "checkpoint=None."
        ) from error


def _as_values(param):
    """Return a parameter, a network as its parts and weights: it has no hash of its own."""
    if not isinstance(param, torch.nn.Module):
        return param
    return repr(param), map_nested(as_array, dict(param.state_dict()))


def _describe(callback):
    """Return class and parameters of a callback that may end a fit or change it, else None."""
    callback = callback[1] if isinstance(callback, tuple | list) else callback
    kind = callback if isinstance(callback, type) else type(callback)
    # Loggers of skorch change nothing, and others may say so.
    if getattr(kind, "is_observer", kind.__module__ == "skorch.callbacks.logging"):
        return None
    params = {} if callback is kind else vars(callback)
    # By skorch's convention what is learned in a training ends with "_".
    return kind, {name: value for name, value in params.items() if not name.endswith("_")}


class Checkpoint:
    """The file of a fit, which stores the state of each of its trainings as a part of its own.

    Parameters
    ----------
    estimator, data, plan, random_state, weights
        As in `identity_of`.

    Attributes
    ----------
    random_state : RandomState
        What the fit is to draw from. Of an unseeded fit a copy of NumPy's generator, as it was when
        the stored fit began.

    Raises
    ------
    ValueError
        If the file is damaged, or that of another fit.
    OSError
        If nothing can be written there.
    """

    name = ""

    def __init__(self, estimator, data, plan, random_state, weights=None):
        place = estimator.checkpoint
        if not os.fspath(place):
            raise ValueError("checkpoint must be the path of a file or folder, got ''.")
        identity = identity_of(estimator, data, plan, random_state, weights)
        # What a symbolic link leads to: a new file would take the place of the link itself.
        path = Path(os.path.realpath(place))
        if path.is_dir() or not Path(place).suffix:
            path = path / f"{identity}.checkpoint"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise OSError(
                f"checkpoint='{place}' cannot be written ({error}). Pass a file or folder in "
                "a place that you may write to."
            ) from error
        start = json.dumps(random_state.get_state(legacy=False), default=np.ndarray.tolist)
        self.state = {"identity": identity, "parts": {}, "start": start}
        self.path = path
        if path.exists():
            self.state = self._read(identity)
        self.random_state = random_state
        if estimator.random_state is None:
            self.random_state = np.random.RandomState()
            self.random_state.set_state(json.loads(self.state["start"]))
        self.written_at = time.monotonic()

    def part(self, name):
        """Return what stores one training of a fit of several; each has a name of its own.

        A part that was not begun starts anew. One that has ended gets its weights, the state of
        its optimizer, its history and what its callbacks have learned, and ends at once.
        """
        part = copy.copy(self)
        part.name = name
        return part

    def _read(self, identity):
        """Return what the file holds; no code of it is run."""
        content = self.path.read_bytes()
        digest, content = content[:_DIGEST], content[_DIGEST:]
        state = {}
        # Whatever torch does not load is no checkpoint.
        with suppress(Exception):
            if hashlib.sha256(content).digest() == digest:
                state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        if state.get("identity") != identity:
            raise ValueError(
                f"The checkpoint '{self.path}' belongs to another fit: other data or parameters, "
                "or another version of sklearn_moe; or it is damaged. Nothing was changed. Remove "
                "the file, pass another one, or a folder, in which every fit has a file of its own."
            )
        return state

    # -- what a training calls ----------------------------------------------------------------

    def restore(self, training):
        """Give a training what was stored, if something was."""
        stored, net = self.state["parts"].get(self.name), training.net
        if stored is None:
            return
        # The training changes what it is given.
        stored = map_nested(_copy, stored)
        for name in net.with_state:
            getattr(net, name).load_state_dict(stored[name])
        for name, callback in net.callbacks_:
            if _is_ours(callback):
                learned = stored["callbacks"].get(name, {})
                vars(callback).update({key: as_array(value) for key, value in learned.items()})
        net.history = History(json.loads(stored["history"]))
        training.n_done, training.stopped = stored["n_done"], stored["stopped"]
        training.n_steps_done = stored["n_steps_done"]
        # On another kind of device, and in further processes, others are drawn.
        is_same = stored["device"] == torch.device(net.device).type
        known = training.generators if is_same else []
        for generator, state in zip(known, stored["draws"], strict=False):
            generator.set_state(state)
        for generator in {*training.generators, *training.draws}.difference(known):
            generator.manual_seed(generator.initial_seed() + stored["n_done"])

    def epoch_ended(self, training):
        """Write the state, unless that was done just now."""
        if training.n_epochs > 0 and time.monotonic() - self.written_at >= _SECONDS:
            self._write(training)

    def ended(self, training):
        """Write the last state, unless it is the one that was restored."""
        if training.n_epochs > training.n_done:
            self._write(training)

    def _write(self, training):
        """Store the state of a training in the file, which is whole at any moment."""
        # The first process stores what all have.
        if getattr(training.group, "rank", 0):
            return
        net = training.net
        state = {name: getattr(net, name).state_dict() for name in net.with_state}
        state |= {
            "n_done": training.n_epochs,
            "stopped": training.stopped,
            "n_steps_done": training.n_steps_done,
            "draws": [generator.get_state() for generator in training.generators],
            "device": torch.device(net.device).type,
            # Of what is no number of NumPy or torch, the text stays.
            "history": json.dumps(
                list(net.history), default=lambda v: v.item() if hasattr(v, "item") else str(v)
            ),
            "callbacks": {
                name: {k: v for k, v in vars(callback).items() if k.endswith("_")}
                for name, callback in net.callbacks_
                if _is_ours(callback)
            },
        }
        self.state["parts"][self.name] = map_nested(_copy, state)
        buffer = BytesIO()
        torch.save(self.state, buffer)
        content = buffer.getvalue()
        half = Path(f"{self.path}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            with open(half, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, self.path)
        except OSError as error:
            # That is no reason to lose what was learned.
            warn(
                f"The checkpoint '{self.path}' could not be written ({error}). Training goes on; "
                "what was written before is kept.",
                UserWarning,
            )
        self.written_at = time.monotonic()


def _is_ours(callback):
    """Tell whether what a callback has learned is stored; those of others begin anew."""
    return type(callback).__module__.startswith("sklearn_moe.")


def _copy(value):
    """Return a copy of a tensor on the host, an array as a tensor, other values as they are."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    return torch.as_tensor(value) if isinstance(value, np.ndarray | np.generic) else value
