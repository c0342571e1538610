"""A training that is stored while it runs, and goes on where it was stopped."""

import inspect
import time
from contextlib import contextmanager

import torch
from skorch.history import History

from .._state_file import is_storable
from .._warnings import warn
from .ranks import CURRENT
from .stored import WITH_STATE

__all__ = ["Resuming", "Unstored"]

_VALUE, _STATE = "value", "state"  # forms in which attributes of callbacks are stored
_GLANCE = 1.0  # seconds between two states kept in memory, which Ctrl-C writes


class Unstored:
    """A training without a checkpoint."""

    def restore(self, net):
        """Return that nothing was done before."""
        return 0, False

    def epoch_ended(self, net):
        """Store nothing."""

    def ended(self, net, *, stopped):
        """Store nothing."""

    def write(self):
        """Store nothing."""


class Resuming:
    """Store the state of a net at ends of epochs, and give it back.

    Parameters
    ----------
    file : FitFile
    random_state : dict or None
        Of the generator that the fit draws from, at its start.
    """

    def __init__(self, file, random_state=None):
        self.file = file
        self.random_state = random_state
        self.possible = CURRENT.get().rank == 0  # of several ranks one stores what all have
        self.latest, self.is_written = None, True
        self.kept = self.written = time.monotonic()

    # -- what a training calls ------------------------------------------------------------

    def restore(self, net):
        """Give a net what was stored, if something was.

        Returns
        -------
        n_done : int
            Epochs of this training that are done.
        stopped : bool
            Whether it wants no more.
        """
        stored = self.file.state
        if stored is None:
            self.first = len(net.history)
            return 0, False
        callbacks = dict(net.callbacks_)
        known = {name: s for name, s in stored["callbacks"].items() if name in callbacks}
        for name, state in known.items():
            self._check(name, callbacks[name], state)
        for name in WITH_STATE:
            getattr(net, name).load_state_dict(stored["parts"][name])
        net.module_.united = stored["united"]
        if net.schedule_ is not None:
            net.schedule_.n_done = stored["n_steps"]
        _restore_draws(net, stored)
        for name, state in known.items():
            _restore_callback(callbacks[name], state)
        net.history = History(stored["history"])
        self.first = len(net.history) - stored["n_epochs"]
        return stored["n_epochs"], stored["stopped"]

    def epoch_ended(self, net):
        """Keep the state as it is, in memory or in the file, unless that was done just now."""
        now = time.monotonic()
        due = now - self.written >= self.file.every
        if len(net.history) > self.first and (due or now - self.kept >= _GLANCE):
            self._keep(net)
            if due:
                self.write()

    def ended(self, net, *, stopped):
        """Write the last state; `stopped` says that more epochs are not wanted."""
        if len(net.history) - self.first > net.n_done_:
            self._keep(net, stopped=stopped)
            self.write()

    def write(self):
        """Write the latest state that was kept: that of an epoch's end."""
        with self._warned():
            if not self.is_written:
                self.file.write(self.latest)
                self.is_written = True
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

    def _keep(self, net, *, stopped=False):
        if not self.possible:
            return
        self.file.state = None  # of the past by now
        with self._warned():
            self.latest = self.file.pack(
                n_epochs=len(net.history) - self.first,
                stopped=stopped,
                random_state=self.random_state,
                parts={name: getattr(net, name).state_dict() for name in WITH_STATE},
                united=net.module_.united,
                n_steps=net.schedule_ and net.schedule_.n_done,
                draws=[generator.get_state() for generator in net.generators_],
                device=torch.device(net.device).type,
                callbacks={name: _state_of(callback) for name, callback in net.callbacks_},
                history=list(net.history),
            )
            self.is_written = False
        self.kept = time.monotonic()

    @contextmanager
    def _warned(self):
        """Warn of what goes wrong: it is no reason to lose what was learned."""
        try:
            yield
        except (OSError, TypeError) as error:
            self.possible = isinstance(error, OSError)  # a full disk may be cleared
            warn(
                f"The checkpoint '{self.file.path}' could not be written ({error}). Training goes "
                "on; what was written before is kept.",
                UserWarning,
            )


def _restore_draws(net, stored):
    """Go on with the generators; with others on another kind of device, or for a rank's own."""
    known = net.generators_ if torch.device(net.device).type == stored["device"] else []
    for generator, state in zip(known, stored["draws"], strict=False):
        generator.set_state(state)
    for generator in {*net.generators_, *net.draws_}.difference(known):
        generator.manual_seed(generator.initial_seed() + stored["n_epochs"])


def _form_of(callback, name):
    """Return in which form an attribute of a callback is stored, None if it is not.

    This is the rule for writing and for reading. By skorch's convention the names of what a
    callback learns end with "_". One that is not there yet may be learned later.
    """
    if not isinstance(name, str) or not name.endswith("_") or name.startswith("_"):
        return None
    value = inspect.getattr_static(callback, name, None)  # of a property the property itself
    if is_storable(value):
        return _VALUE
    is_object = hasattr(value, "load_state_dict") and not isinstance(value, type)
    return _STATE if is_object else None  # a schedule of torch has a state


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


def _restore_callback(callback, stored):
    values, states = stored
    vars(callback).update(values)
    for name, state in states.items():
        if _form_of(callback, name) == _STATE:  # once training has begun
            getattr(callback, name).load_state_dict(state)
