"""How an estimator is stored: its pickles, those of its networks, and checks when it is loaded."""

import copy
import inspect

import numpy as np
import torch
from sklearn.exceptions import InconsistentVersionWarning
from torch import nn

from ._compat import __version__, warn

__all__ = ["FITTED", "ModuleBlueprint", "Persistent", "StoredModule"]

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


def _shell(tensor, device="meta"):
    """Return what stands for a tensor where only its shape matters."""
    shell = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(shell, requires_grad=tensor.requires_grad)
    return shell


def _as_bytes(tensor):
    """Return the values of a tensor; NumPy does not know all types of torch."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _fill(shell, values):
    """Return the tensor that a shell stands for."""
    tensor = torch.from_numpy(np.array(values)).view(shell.dtype).view(shell.shape)
    if isinstance(shell, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=shell.requires_grad)
    return tensor


def _restore(structure, shells, values):
    """Return the network; what pickles of a StoredModule call."""
    tensors = map(_fill, shells, values)
    return copy.deepcopy(structure, dict(zip(map(id, shells), tensors, strict=True)))


class StoredModule:
    """A network that pickles to itself, on the CPU, and that joblib hashes by its values.

    A pickle of a tensor holds the address of its memory, so that joblib.Memory would take a copy
    of a network for another one. Here it holds the network without values, and these as arrays.

    Parameters
    ----------
    module : torch.nn.Module
        The network. Its parameters and buffers, and tensors that its parts have as attributes.
    """

    def __init__(self, module):
        self.module = module

    def __reduce__(self):
        """Take the tensors out; sharing stays, as one shell stands for each."""
        tensors = {
            id(value): value
            for part in self.module.modules()
            for holder in (vars(part), part._parameters, part._buffers)
            for value in holder.values()
            if isinstance(value, torch.Tensor) and value.layout == torch.strided
            if not value.is_meta
        }
        shells = {key: _shell(tensor) for key, tensor in tensors.items()}
        structure = copy.deepcopy(self.module, dict(shells))
        return _restore, (structure, [*shells.values()], [*map(_as_bytes, tensors.values())])


class ModuleBlueprint:
    """How a network is built whose weights are kept elsewhere: its pickles hold none.

    Called as a trunk it returns a copy of the network, after unpickling one with weights of 0,
    which are to be filled by a state dict.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module):
        self.module = module

    def __call__(self, input_shape):
        """Return a network of its own."""
        return self._copy("cpu", lambda tensor: tensor.is_meta)

    def __getstate__(self):
        """Leave out what a state dict holds."""
        return {"module": StoredModule(self._copy("meta", lambda tensor: True))}

    def __deepcopy__(self, memo):
        """Return itself: nothing changes it, and pickles alone are without weights."""
        return self

    def _copy(self, device, is_replaced):
        state = self.module.state_dict(keep_vars=True).values()
        tensors = [value for value in state if isinstance(value, torch.Tensor)]
        shells = {id(t): _shell(t, device) for t in tensors if is_replaced(t)}
        return copy.deepcopy(self.module, shells)
