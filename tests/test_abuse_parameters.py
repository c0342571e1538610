"""Values that no parameter takes, or only some: a clear error that names it, or a finite model."""

from decimal import Decimal

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import EXPERTS, Balance, Head
from sklearn_moe.optim import SOLVERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let strings that are taken for the path of a checkpoint write there."""
    monkeypatch.chdir(tmp_path)


N_SAMPLES = 24
RNG = np.random.default_rng(0)
SAMPLES = {
    "table": RNG.normal(size=(N_SAMPLES, 3)).astype(np.float32),
    "patches": RNG.normal(size=(N_SAMPLES, 4, 5)).astype(np.float32),
    "pictures": RNG.normal(size=(N_SAMPLES, 1, 8, 8)).astype(np.float32),
}
CLASSES = RNG.integers(2, size=N_SAMPLES)
TARGETS = {MoEClassifier: CLASSES, MoERegressor: SAMPLES["table"][:, 0]}


class Thing:
    """A class that has nothing to do with the library."""


def takes_none():
    return None


def takes_one(a):
    return a


def takes_two(a, b):
    return a


def takes_three(a, b, c):
    return a


VALUES = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "-1": -1,
    "0": 0,
    "2": 2,
    "3.0": 3.0,
    "0.5": 0.5,
    "1e308": 1e308,
    "1e-308": 1e-308,
    "True": True,
    "False": False,
    "np.True_": np.True_,
    "np.int64": np.int64(3),
    "np.float32": np.float32(0.5),
    "np.float32 nan": np.float32("nan"),
    "None": None,
    "empty string": "",
    "nonsense": "nonsense",
    "AUTO": "AUTO",
    "bytes": b"auto",
    "list": [],
    "tuple": (),
    "dict": {},
    "list of a number": [1],
    "list of a string": ["auto"],
    "set": {1},
    "0-d array": np.array(1),
    "array": np.arange(3),
    "tensor": torch.tensor(1.0),
    "object": object(),
    "class": Thing,
    "module": np,
    "takes none": takes_none,
    "takes one": takes_one,
    "takes two": takes_two,
    "takes three": takes_three,
    "complex": 1j,
    "Decimal": Decimal("0.1"),
    "...": ...,
}
ESTIMATORS = [MoEClassifier, MoERegressor]
PARAMETERS = [(cls, name) for cls in ESTIMATORS for name in sorted(cls._parameter_constraints)]
SHARED = set(MoEClassifier._parameter_constraints) & set(MoERegressor._parameter_constraints)


def fit(cls, kind="table", **parameters):
    parameters = {"max_iter": 2, "random_state": 0, "n_experts": 3} | parameters
    return cls(**parameters).fit(SAMPLES[kind], TARGETS[cls])


def is_finite(model, X):
    answers = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return np.isfinite(answers).all() and np.isfinite(model.gate_proba(X)).all()


def assert_finite_or_named(cls, kind, parameter, value, name=None, **parameters):
    message = parameter
    try:
        model = fit(cls, kind, **parameters | {parameter: value})
    except (TypeError, ValueError) as error:
        message = str(error)
    else:
        assert is_finite(model, SAMPLES[kind]), name
    assert parameter in message, name


def values_for(cls, parameter):
    """Yield what no constraint of a parameter takes, and what one does."""
    constraints = [make_constraint(c) for c in cls._parameter_constraints[parameter]]
    values = dict(VALUES)
    for constraint in constraints:
        try:
            values[f"invalid for {constraint}"] = generate_invalid_param_val(constraint)
        except NotImplementedError:
            pass
    for name, value in values.items():
        yield name, value, any(c.is_satisfied_by(value) for c in constraints)


@pytest.mark.parametrize(("cls", "parameter"), PARAMETERS)
def test_what_a_parameter_does_not_take_is_named(cls, parameter):
    refused = [value for _, value, is_taken in values_for(cls, parameter) if not is_taken]
    assert len(refused) > 5
    for value in refused:
        with pytest.raises((TypeError, ValueError), match=parameter):
            fit(cls, **{parameter: value})


@pytest.mark.parametrize(
    ("cls", "parameter"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] * (pair[0] is MoERegressor and shared))
        for pair in PARAMETERS
        for shared in [pair[1] in SHARED]
    ],
)
def test_what_a_parameter_takes_is_refused_by_name_or_makes_a_finite_model(cls, parameter):
    for name, value, is_taken in values_for(cls, parameter):
        if not is_taken or (parameter == "random_state" and value in (None, np.random)):
            continue  # those draw from NumPy's global generator
        assert_finite_or_named(cls, "table", parameter, value, name)


def linear(n_inputs, n_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, n_outputs))


class Returning(nn.Module):
    """An expert that returns what a function makes of its samples."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.function = function

    def forward(self, x):
        return self.function(x)


def returning(function):
    return lambda *shape: Returning(function)


def of_two(x):
    return torch.zeros(len(x), 2)


class Quiet(Balance):
    """A balance that returns what is no loss."""

    def loss(self, router, route, weight):
        return "nothing"


FUNCTIONS = {
    "an expert of other outputs": ({"expert": lambda s, n: linear(3, n + 1)}, "expert=.*must make"),
    "an expert of one axis": ({"expert": returning(lambda x: x[:, 0])}, r"expert=.*shape \(1,\)"),
    "an expert of three axes": ({"expert": returning(lambda x: x[:, None])}, "expert=.*shape"),
    "an expert of numbers": ({"expert": returning(lambda x: 3)}, "expert=.*returned 3"),
    "an expert of arrays": ({"expert": returning(lambda x: x.numpy())}, "expert=.*returned array"),
    "an expert of pairs": ({"expert": returning(lambda x: (x, x))}, "expert=.*returned"),
    "an expert of nothing": ({"expert": returning(lambda x: None)}, "expert=.*returned None"),
    "an expert of other inputs": ({"expert": lambda s, n: linear(7, n)}, "expert=.*RuntimeError"),
    "an expert that fails": ({"expert": returning(lambda x: {}["k"])}, "expert=.*raised KeyError"),
    "an expert of NaN": ({"expert": returning(lambda x: of_two(x) * torch.nan)}, "loss became nan"),
    "an expert that is a module": ({"expert": nn.Linear(3, 2)}, "expert"),
    "an expert of no module": ({"expert": lambda s, n: "no"}, "expert=.*it returned str"),
    "an activation of numbers": ({"activation": lambda z: 0.0}, "activation=.*returned 0.0"),
    "an activation of a sum": ({"activation": lambda z: z.sum()}, r"activation=.*shape \(\)"),
    "an activation along rows": ({"activation": lambda z: z[:, :1]}, "activation=.*shape"),
    "an activation that fails": ({"activation": lambda z: z.nothing}, "activation=.*Attribute"),
    "a trunk of no module": ({"trunk": lambda s: s}, "trunk=.*it returned tuple"),
    "a trunk of nothing": ({"trunk": Returning(lambda x: None)}, "trunk must map.*NoneType"),
    "a trunk of a sum": ({"trunk": Returning(lambda x: x.sum())}, "trunk must map"),
    "a trunk of other samples": ({"trunk": Returning(lambda x: x.repeat(2, 1))}, "trunk must map"),
    "a trunk of many axes": ({"trunk": Returning(lambda x: x[None, None, None])}, "trunk must map"),
    "a network of other scores": ({"router_network": lambda s, n: linear(3, n + 1)}, "router_netw"),
    "a network of nothing": ({"router_network": returning(lambda x: None)}, "router_network must"),
    "a network of no module": ({"router_network": lambda s, n: n}, "router_network=.*returned int"),
    "noise of nothing": ({"router_noise": lambda x, s, g: None}, "router_noise=.*returned None"),
    "noise of another shape": ({"router_noise": lambda x, s, g: s[:, :1]}, "router_noise=.*shape"),
    "noise of one argument": ({"router_noise": takes_one}, "router_noise=.*TypeError"),
    "noise that is a class": ({"router_noise": Thing}, "router_noise=.*must be"),
    "a gate of nothing": ({"gate": lambda s, n, c: None}, "gate=.*returned None"),
    "a gate of all experts": ({"gate": lambda s, n, c: s}, r"gate=.*\(1, 1\) was expected"),
    "a gate of two arguments": ({"gate": takes_two}, "gate=.*TypeError"),
    "a balance of no arguments": ({"balance": takes_none}, "balance=.*takes 0 positional"),
    "a balance of one argument": ({"balance": takes_one}, "balance=.*takes 1 positional"),
    "a balance that is none": ({"balance": takes_two}, "balance=.*it returned int"),
    "a loss of no arguments": ({"loss": takes_none}, "loss=.*takes 0 positional"),
    "a loss of torch": ({"loss": nn.CrossEntropyLoss}, "loss=.*must be"),
    "a loss without methods": ({"loss": lambda n: Head(n)}, "loss=.*is not made for classes"),
    "a solver of one argument": ({"solver": takes_one}, "solver=.*unexpected keyword"),
    "a solver of nothing": ({"solver": lambda p, lr: None}, "solver=.*it returned NoneType"),
    "a transform of no arguments": ({"train_transform": takes_none}, "train_transform.*takes 0"),
    "a transform of nothing": ({"train_transform": lambda x: None}, "train_transform.*NoneType"),
    "a transform of arrays": ({"train_transform": lambda x: x.numpy()}, "train_transform.*ndarray"),
    "a transform of float64": ({"train_transform": lambda x: x.double()}, "train_transform.*64"),
    "a transform of less": ({"train_transform": lambda x: x[:1]}, r"train_transform.*\(1, 3\)"),
    "a callback that is a string": ({"callbacks": ["a"]}, "callbacks must be"),
    "a callback that is a class": ({"callbacks": [Thing]}, "callbacks must be"),
    "a callback that is an empty pair": ({"callbacks": [()]}, "callbacks must be"),
    "callbacks by name": ({"callbacks": {"a": 1}}, "'callbacks' parameter"),
}


@pytest.mark.parametrize(("parameters", "match"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_does_not_fit_is_named(parameters, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fit(MoEClassifier, **{"router": "top1"} | parameters)


def test_what_goes_wrong_inside_a_factory_is_its_own_matter():
    def factory(input_shape, n_outputs):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fit(MoEClassifier, expert=factory)


CONTRADICTIONS = {
    "more experts than there are": ({"router": "topk", "top_k": 4}, "top_k=4.*n_experts=3"),
    "several for one": ({"router": "top1", "top_k": 2}, "top_k=2"),
    "several of all": ({"router": "soft", "top_k": 2}, "top_k=2"),
    "a gate of one": ({"router": "top1", "gate": "renormalized"}, "gate"),
    "another router's gate": ({"router": "soft", "gate": "relu"}, "gate='relu'"),
    "noise without choice": ({"router": "soft", "router_noise": "uniform"}, "router_noise"),
    "learned noise without any": ({"router": "noisy_topk", "router_noise": None}, "noise"),
    "a network of its own": ({"router": "random", "router_network": "mlp"}, "router_network"),
    "a network for pictures": ({"router_network": "cnn"}, "router_network='cnn'"),
    "a balance for choices": ({"router": "soft", "balance": "bias"}, "balance='bias'"),
    "a balance of noise": ({"router": "top1", "router_noise": None, "balance": "load"}, "balance"),
    "a balance of all": ({"router": "topk", "top_k": 3, "balance": "load"}, "balance='load'"),
    "shared experts of mixtures": ({"router": "soft", "n_shared_experts": 1}, "n_shared_experts"),
    "one that is split": ({"router": "soft", "upcycle": 0.5}, "upcycle"),
    "one split in one": ({"router": "top1", "upcycle": 0.5, "n_experts": 1}, "upcycle"),
    "out of bag": ({"router": "top1", "early_stopping": "out_of_bag"}, "early_stopping"),
    "out of one": ({"n_experts": 1, "early_stopping": "out_of_bag"}, "early_stopping"),
    "own loss": ({"router": "top1", "expert_loss_weight": 0.5}, "expert_loss_weight"),
    "width": ({"expert": lambda s, n: linear(3, n), "expert_width": 3}, "expert_width=3"),
    "activation": ({"expert": lambda s, n: linear(3, n), "activation": "relu"}, "activation"),
    "momentum": ({"solver": "adam", "momentum": 0.5}, "momentum=0.5"),
    "decay": ({"solver": lambda p, lr: torch.optim.SGD(p, lr), "weight_decay": 1.0}, "weight_dec"),
    "residuals": ({"solver": "adam", "learning_rate": "residual"}, "learning_rate='residual'"),
    "half precision": ({"precision": "bf16"}, "precision='bf16'"),
    "a trunk for pictures": ({"trunk": "cnn"}, "trunk='cnn'"),
    "an expert for pictures": ({"expert": "cnn"}, "expert='cnn'"),
    "an expert for patches": ({"expert": "patch"}, "expert='patch'"),
    "patches in a row": ({"sample_shape": (2, 2)}, "sample_shape"),
    "a shape of one side": ({"sample_shape": (3,)}, "sample_shape"),
    "two free sides": ({"sample_shape": (-1, -1)}, "sample_shape"),
    "a side of 0": ({"sample_shape": (0, 3)}, "sample_shape"),
    "a side of words": ({"sample_shape": ("a", "b")}, "sample_shape"),
    "columns not there": ({"categorical_features": [7]}, "categorical_features"),
    "columns by name": ({"categorical_features": ["a"]}, "categorical_features"),
    "a mask too long": ({"categorical_features": [True] * 9}, "categorical_features"),
    "a device not there": ({"device": "cuda:99"}, "device='cuda:99'"),
    "a device that is none": ({"device": "gpu7"}, "device='gpu7'"),
    "a margin of numbers": ({"loss": "squared_error"}, "loss='squared_error'"),
    "classes that are not there": ({"class_weight": {7: 1.0}}, "class_weight|weight 0"),
}


@pytest.mark.parametrize(("parameters", "match"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_parameters_that_contradict_each_other_are_named(parameters, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fit(MoEClassifier, **parameters)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("rate", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("parameter", ["learning_rate_init", "router_learning_rate_init"])
def test_any_rate_ends_in_a_finite_model_or_an_error_that_names_it(kind, rate, parameter):
    assert_finite_or_named(MoEClassifier, kind, parameter, rate, max_iter=1)


@pytest.mark.parametrize("registry", [EXPERTS, SOLVERS])
def test_specs_can_be_members_of_sets(registry):
    specs = list(registry.values())
    assert set(specs) == {*specs, *specs}
    assert all(hash(spec) == hash(spec) for spec in specs)
