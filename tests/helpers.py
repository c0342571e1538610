"""What tests of several files share: samples that an expert takes, what is slow, seeds."""

import re
import signal
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier
from sklearn_moe._validation import accepts_argument
from sklearn_moe.nn import EXPERTS, RouterSpec, build_mixture
from sklearn_moe.nn.heads import choose_head
from sklearn_moe.nn.seeding import use_generator

SHAPES = {2: (6,), 3: (4, 6), 4: (3, 9, 8)}  # of a sample, by the axes of X
_MANY_LAYERS = 20
brief_fits = pytest.mark.filterwarnings(
    "ignore::sklearn_moe.exceptions.ExpertCollapseWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def named(options):
    """Return options as the name of a test: the same in every process, so without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(options))


def slow(names, *those):
    """Return names for the parameters of a test, of which those take long."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in those)) for name in names]


def brief(model=MoEClassifier, **parameters):
    """Return an estimator for a brief fit."""
    options = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0}
    return model().set_params(**options | parameters)


def hook(name, function):
    """Return a callback that calls a function with the net in one hook."""
    call = {name: lambda self, net, **kwargs: function(net)}
    return type("Hook", (Callback,), call | {"is_observer": True})()


def at(epoch, action, name="on_batch_end"):
    """Return a callback that does something in an epoch, which count from 1 on."""
    return hook(name, lambda net: len(net.history) == epoch and action())


def throw(error):
    raise error


press = partial(signal.raise_signal, signal.SIGINT)  # Ctrl-C


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def predictions(model, X):
    """Return probabilities, or the numbers of a regressor."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def weights_of(model):
    """Return the weights of a fitted model, one after the other."""
    return torch.nn.utils.parameters_to_vector(model.module_.parameters()).detach()


def raises(error, match, call, *args, **options):
    """Check that a call raises an error with a message."""
    with pytest.raises(error, match=match):
        call(*args, **options)


def refuses(label, match, call, *args, **options):
    """Check that a call fails with a message; `label` says which of many it was."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(*args, **options)
    assert re.search(match, str(caught.value)), f"{label}: {caught.value}"


def names(name, label, call, *args, **options):
    """Check that a call fails with an error that names an argument; `label` tells the case."""
    refuses(f"{name}, {label}", rf"\b{name}(?!\w)", call, *args, **options)


def assert_equal_gradients(output, expected, parameters):
    """Compare the gradients of two outputs, in a direction drawn at random."""
    target = torch.randn(output.shape, generator=seeded(3), dtype=torch.float64)
    ours, reference = (
        torch.autograd.grad((values * target).sum(), parameters, materialize_grads=True)
        for values in (output, expected)
    )
    torch.testing.assert_close(ours, reference, rtol=1e-6, atol=1e-9)


def legend_texts(ax):
    from matplotlib.legend import Legend

    legends = ax.findobj(Legend)
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def noise_images(n_samples, channels=3, height=32, width=32, dtype=np.uint8):
    """Return random images: uint8, or floats in [0, 1]."""
    shape = (n_samples, channels, height, width)
    X = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    return X if dtype == np.uint8 else (X / 255).astype(dtype)


def draw_routes(n_selected=None, n_samples=200):
    """Draw 4 clusters, and routes to 6 experts that follow them half of the time."""
    rng = np.random.RandomState(0)
    clusters = rng.randint(4, size=(n_samples, 1))
    experts = rng.randint(6, size=(n_samples, n_selected or 1))
    experts = np.where(rng.uniform(size=experts.shape) < 0.5, clusters, experts)
    return clusters[:, 0], experts if n_selected else experts[:, 0]


def shape_for(expert):
    """Return a shape of samples that a registered expert takes."""
    return SHAPES[EXPERTS[expert].ndim or 3]


def samples_for(expert, n=23, seed=1):
    return torch.randn(n, *shape_for(expert), generator=seeded(seed), dtype=torch.float64)


def as_kind(X, expert):
    """Return patches, (n, 4, 50), in the shape that the expert takes."""
    shapes = {2: (200,), 3: (4, 50), 4: (2, 10, 10)}
    return X.reshape(len(X), *shapes[EXPERTS[expert].ndim or 3])


def options_for(expert, **options):
    """Return those of the options that the expert takes."""
    factory = EXPERTS[expert].factory
    return {name: value for name, value in options.items() if accepts_argument(factory, name)}


def gates_of(router):
    """Return the gates of a `RouterSpec` that have a gradient, the usual one first."""
    without = "renormalized" if router.single_choice else None
    return [gate for gate in router.router_class.gates if gate != without]


def narrow(expert, width):
    """Return the parameters of an estimator for an expert of that width, if it has one."""
    return {"expert": expert, "expert_width": options_for(expert, width=width).get("width")}


@cache
def _example(expert):
    with use_generator(seeded()):
        return EXPERTS[expert].build(shape_for(expert), 3, **options_for(expert, width=4))


def is_deep(expert):
    """Tell an expert whose many layers make every combination with others a matter of minutes."""
    return len(list(_example(expert).modules())) > _MANY_LAYERS


def has_statistics(expert):
    """Tell an expert that keeps statistics of its training samples, as BatchNorm does."""
    return any(True for _ in _example(expert).buffers())


def specified(router="top1", **options):
    """Return the spec of a router with the parts among the options, and the other options."""
    parts = options.keys() & {"network", "top_k", "gate", "noise"}
    spec = RouterSpec.of(router).with_options(**{name: options.pop(name) for name in parts})
    return spec, options


def make_mixture(
    expert="patch", n_experts=4, *, shape=None, n_targets=3, dtype="float64", seed=0, **parts
):
    """Return a mixture that tells classes apart; `parts` are those of `build_mixture`."""
    router = specified(parts.pop("router", "top1"), **parts.pop("router_options", {}))
    parts = {"router": router[0], "router_options": router[1]} | parts
    kinds = [(EXPERTS[expert], parts.pop("expert_options", {}))]
    head = choose_head("log_loss", "classes")(n_targets)
    shape = shape_for(expert) if shape is None else shape
    with use_generator(seeded(seed)):
        return build_mixture(shape, n_experts, head=head, kinds=kinds, dtype=dtype, **parts)


TABLES = ("frame", "two columns", "codes", "NaN", "sparse")  # that are no arrays of numbers


def make_table(kind, n=90):
    """Return a table that is encoded before it is learned, classes, and parameters to fit it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) * [1, 1, 100, 1]
    places = rng.integers(3, size=n)
    y = (X[:, 0] + places > 1).astype(int)
    names = np.array(["Bonn", "Oslo", "Rome"])[places]
    with_holes = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    if kind == "frame":
        return pd.DataFrame(with_holes, columns=list("abcd")).assign(city=names), y, {}
    if kind == "two columns":
        return pd.DataFrame({"a": X[:, 0], "city": names}), y, {}
    if kind == "codes":
        return np.column_stack([X[:, 0], places]), y, {"categorical_features": [1]}
    return with_holes if kind == "NaN" else csr_matrix(np.maximum(X, 0)), y, {}
