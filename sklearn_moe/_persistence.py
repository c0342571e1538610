"""How models are stored, and the types that skops is to trust."""

import functools
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import torch

from . import nn as parts_of_mixtures
from .nn.seeding import use_generator
from .optim import SOLVERS

__all__ = ["as_array", "map_nested", "pack_net", "trusted_types", "unpack_net"]

_REGISTRIES = [SOLVERS, *(p for p in vars(parts_of_mixtures).values() if type(p) is type(SOLVERS))]
# Beside what is registered: by name, as these modules are above this one.
_OTHERS = """
_estimators.classifier.MoEClassifier _estimators.regressor.MoERegressor
_training.net.MoENet optim.SolverSpec.build
_parameters.parts.BalanceParams _parameters.parts.RouterParams
_parameters.parts.SolverParams
_data.tables.Categories _data.target_means.TargetMeans
_training.estimators.Member nn.trees.FittedMembers
_mixtures._classifier.MixtureClassifier _mixtures._regressor.MixtureRegressor
_mixtures._defaults.ColumnEncoder _mixtures._model_tree.SplitColumns
_mixtures._families.Gaussian _mixtures._families.LogLoss
_mixtures._families.Poisson
_data.targets.ClassTarget _data.targets.LabelTarget _data.targets.NumberTarget
_data.targets.RateTarget
_data.validation.InputFormat _data.validation.WeightsSeen nn.mixture.build_mixture
nn.encoders.ChannelStatistics nn.encoders.FeatureStatistics nn.heads._make_head
"""
_OURS = ("functools.partial", "pathlib.", "sklearn_moe.", "torch.device", "torch.optim.")


# -- nets: the recipe by which they are built, their weights, and the state of the optimizer ------


def pack_net(net):
    """Return what is stored of a net: parts that skops knows, too, so no tensors."""
    # What skorch has by default is not stored.
    defaults = inspect.signature(type(net).__base__).parameters
    recipe = {
        name: value
        for name, value in net.get_params(deep=False).items()
        if name not in defaults or value is not defaults[name].default
    }
    state = {"recipe": recipe | {"callbacks": None, "device": str(net.device)}}
    if net.initialized_:
        parts = {name: getattr(net, name).state_dict() for name in net.with_state}
        state |= {"parts": map_nested(as_array, parts), "history": list(net.history)}
    return state


def unpack_net(net, state, device):
    """Build the parts of a net anew, on a device, and give them their weights."""
    net.__init__(**state["recipe"] | {"device": device})
    if "parts" not in state:
        return
    with use_generator(torch.Generator().manual_seed(0)):
        net.initialize()
    for name, arrays in state["parts"].items():
        getattr(net, name).load_state_dict(map_nested(_as_tensor, arrays))
    net.history.extend(state["history"])
    net.module_.eval()


def map_nested(function, value):
    """Return a nested state with each of its values replaced."""
    if isinstance(value, dict):
        return {key: map_nested(function, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_nested(function, part) for part in value)
    return function(value)


def as_array(value):
    """Return a tensor as an array that depends on its values alone, others as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    # NumPy has no bfloat16.
    return value.numpy().copy() if value.dtype != torch.bfloat16 else value


def _as_tensor(value):
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
    for member in inner:
        yield from _names(member)
