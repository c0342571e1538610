"""How an estimator is stored: with the version that did it, and checked when it is loaded."""

import inspect

from sklearn.exceptions import InconsistentVersionWarning
from torch import nn

from ._stored_module import StoredModule
from ._version import __version__
from ._warnings import warn

__all__ = ["FITTED", "Persistent"]

# What a fitted estimator has beside its net, and cannot predict without.
FITTED = (
    "_architecture",
    "_target",
    "input_shape_",
    "_format",
    "_dtype",
    "_weights_seen",
    "_predict_seed",
    "resolved_params_",
    "_scales",
    "_noise_at_predict",
)
_VERSION = "_sklearn_moe_version"


class Persistent:
    """The part of an estimator that knows how it is stored."""

    def __getstate__(self):
        """Return the attributes and the version; a network in a form that hashes by its values."""
        state = super().__getstate__() | {_VERSION: __version__}
        if isinstance(self.trunk, nn.Module):
            state = _swap_trunk(state, StoredModule(self.trunk))
        return state

    def __setstate__(self, state):
        """Take the attributes; warn of another version, refuse a state that lacks some."""
        version = state.get(_VERSION, "unknown")
        name = type(self).__name__
        if version != __version__:
            warning = InconsistentVersionWarning(
                estimator_name=f"{name} of sklearn_moe",
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            )
            warn(warning, InconsistentVersionWarning)
        missing = [key for key in FITTED if "net_" in state and key not in state]
        if missing:
            raise ValueError(
                f"The stored {name} cannot be read: it lacks {missing}. It was stored by "
                f"sklearn_moe {version}, this is {__version__}. Load it with the version that "
                "stored it, or fit it again."
            )
        # A pickle has restored the network by now; after `copy.copy` the trunk is still wrapped.
        if isinstance(state.get("trunk"), StoredModule):
            state = _swap_trunk(state, state["trunk"].module)
        parameters = inspect.signature(type(self)).parameters
        defaults = {key: value.default for key, value in parameters.items()}
        # A parameter that the other version did not have is at its default.
        super().__setstate__(defaults | {k: v for k, v in state.items() if k != _VERSION})


def _swap_trunk(state, trunk):
    """Return the state with another trunk, also where it is part of the architecture."""
    before, architecture = state["trunk"], state.get("_architecture", {})
    state = state | {"trunk": trunk}
    if architecture.get("trunk") is before:
        state["_architecture"] = architecture | {"trunk": trunk}
    return state
