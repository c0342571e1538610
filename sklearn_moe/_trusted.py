"""What files of skops name when they hold a model of this library."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path

import torch

from ._classifier import MoEClassifier
from ._data.categories import Categories
from ._data.targets import ClassTarget, LabelTarget, NumberTarget
from ._data.validation import InputFormat, WeightsSeen
from ._regressor import MoERegressor
from ._training import MoENet
from .checkpoints import FitCheckpoint
from .nn import (
    ACTIVATIONS,
    BALANCES,
    EXPERTS,
    GATES,
    LOSSES,
    NETWORKS,
    NOISES,
    ROUTERS,
    TRUNKS,
    Channels,
    Columns,
    build_mixture,
    choose_head,
)
from .optim import SOLVERS, SolverSpec

__all__ = ["trusted_types"]

_REGISTRIES = (
    *(ACTIVATIONS, BALANCES, EXPERTS, GATES, LOSSES, NETWORKS, NOISES, ROUTERS, SOLVERS),
    TRUNKS,
)
_OTHERS = (
    *(FitCheckpoint, MoEClassifier, MoERegressor, MoENet, SolverSpec.build, torch.device),
    *(
        Categories,
        Channels,
        ClassTarget,
        Columns,
        InputFormat,
        LabelTarget,
        NumberTarget,
        WeightsSeen,
    ),
    *(build_mixture, choose_head("log_loss", "classes"), type(Path())),
)
_OURS = ("functools.partial", "pathlib.", "sklearn_moe.", "torch.device", "torch.optim.")


def trusted_types():
    """Return the names of all types and functions of this library that a stored model may hold.

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
    names.update(name for part in _OTHERS for name in _names(part))
    return sorted(name for name in names if name.startswith(_OURS))


def _names(part):
    """Yield the names of a part and of all that it consists of."""
    if isinstance(part, Mapping):
        inner = part.values()
    elif isinstance(part, partial):
        inner = [partial, part.func, *part.args, *part.keywords.values()]
    elif is_dataclass(part) and not isinstance(part, type):
        inner = [type(part), *(getattr(part, field.name) for field in fields(part))]
    else:
        inner = ()
        if callable(part):
            yield f"{part.__module__}.{part.__qualname__}"
    for one in inner:
        yield from _names(one)
