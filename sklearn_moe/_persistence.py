"""How models are stored: pickles that depend on what they hold alone, and types for skops."""

import copy
import functools
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import nn as parts_of_mixtures
from .nn.seeding import use_generator
from .optim import SOLVERS

__all__ = ["ModuleBlueprint", "StoredModule", "pack_net", "trusted_types", "unpack_net"]

_NUMPY_TYPES = {torch.from_numpy(np.zeros(1, kind)).dtype for kind in "?bBhilefdFD"}

_REGISTRIES = [SOLVERS, *(p for p in vars(parts_of_mixtures).values() if type(p) is type(SOLVERS))]
# Beside what is registered: by name, as these modules are above this one.
_OTHERS = """
_estimators.classifier.MoEClassifier _estimators.regressor.MoERegressor
_training.net.MoENet optim.SolverSpec.build
_parameters.estimator_params.BalanceParams _parameters.estimator_params.FitCheckpoint
_parameters.estimator_params.RouterParams _parameters.estimator_params.SolverParams
_data.tables.Categories
_mixtures._classifier.MixtureClassifier _mixtures._regressor.MixtureRegressor
_mixtures._defaults.ColumnEncoder
_mixtures._families.Gaussian _mixtures._families.LogLoss _mixtures._families.OwnDensity
_mixtures._families.Poisson
_data.targets.ClassTarget _data.targets.LabelTarget _data.targets.NumberTarget
_data.targets.RateTarget
_data.validation.InputFormat _data.validation.WeightsSeen nn.mixture.build_mixture
nn.encoders.ChannelStatistics nn.encoders.FeatureStatistics nn.heads._make_head
"""
_OURS = ("functools.partial", "pathlib.", "sklearn_moe.", "torch.device", "torch.optim.")


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


# -- nets: the recipe by which they are built, their weights, and the state of the optimizer ------


def pack_net(net):
    """Return what is stored of a net; of equal nets equal bytes."""
    # What skorch has by default is not stored.
    defaults = inspect.signature(type(net).__base__).parameters
    recipe = {
        name: value
        for name, value in net.get_params(deep=False).items()
        if name not in defaults or value is not defaults[name].default
    }
    state = {"recipe": recipe | {"callbacks": None, "device": str(net.device)}}
    if net.initialized_:
        parts = [name for name in net.with_state if name != "optimizer_" or net.optimizer_.state]
        state["parts"] = {
            name: _map_nested(_as_array, getattr(net, name).state_dict()) for name in parts
        }
        # The rows of a history are dicts: blocks of equal keys, and a column for each.
        blocks = [(keys, list(rows)) for keys, rows in groupby(net.history, key=tuple)]
        state["history"] = [
            (keys, [[row[key] for row in rows] for key in keys]) for keys, rows in blocks
        ]
    return state


def unpack_net(net, state, device):
    """Build the parts of a net anew, on a device, and give them their weights."""
    net.__init__(**state["recipe"] | {"device": device})
    if "parts" not in state:
        return
    with use_generator(torch.Generator().manual_seed(0)):
        net.initialize()
    for name, arrays in state["parts"].items():
        getattr(net, name).load_state_dict(_map_nested(_from_array, arrays))
    for keys, columns in state["history"]:
        net.history.extend(
            dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)
        )
    net.module_.eval()


def _map_nested(function, value):
    """Return a nested state with each of its values replaced."""
    if isinstance(value, dict):
        return {key: _map_nested(function, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_nested(function, part) for part in value)
    return function(value)


def _as_array(value):
    """Return a tensor as an array, other values as they are.

    A pickled tensor holds addresses and devices: equal ones differ, byte by byte.
    """
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    # NumPy has no bfloat16.
    return value.numpy().copy() if value.dtype in _NUMPY_TYPES else value


def _from_array(value):
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


# -- types of stored models ----------------------------------------------------------------------


def trusted_types() -> list[str]:
    """Return the names of all types and functions that a stored model of this library may hold.

    For `skops.io.load`, which runs nothing that is not named. What you have registered or passed
    as a parameter yourself is not among them.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> import sklearn_moe
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn.datasets import load_iris
    >>> from skops.io import dumps, loads
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = MoEClassifier(n_experts=3, max_iter=10, random_state=0).fit(X, y)
    >>> again = loads(dumps(clf), trusted=sklearn_moe.trusted_types())
    >>> bool((again.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    names = {name for registry in _REGISTRIES for name in _names(registry)}
    names.update(f"sklearn_moe.{name}" for name in _OTHERS.split())
    names.update(_names(torch.device), _names(type(Path())))
    ours = (name for name in names if name.startswith(_OURS))
    # Imputers and trees of scikit-learn hold one each.
    return sorted([*ours, "numpy.dtype", "sklearn.tree._tree.Tree"])


def _names(part):
    """Yield the names of a part and of all that it consists of."""
    if isinstance(part, Mapping):
        inner = part.values()
    elif isinstance(part, functools.partial):
        inner = [functools.partial, part.func, *part.args, *part.keywords.values()]
    elif is_dataclass(part) and not isinstance(part, type):
        inner = [type(part), *(getattr(part, field.name) for field in fields(part))]
    else:
        inner = ()
        if callable(part):
            yield f"{part.__module__}.{part.__qualname__}"
    for one in inner:
        yield from _names(one)
