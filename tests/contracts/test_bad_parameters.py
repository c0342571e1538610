"""Values that no parameter takes, or only some: a clear error that names it, or a finite model."""

from decimal import Decimal
from itertools import cycle

import numpy as np
import pytest
import torch
from helpers import brief_fits, predictions, raises, refuses
from representatives import SAMPLES, target_of
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._parameters.estimator_params import PARTS
from sklearn_moe.nn import Head

pytestmark = brief_fits


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let strings that are taken for the path of a checkpoint write there."""
    monkeypatch.chdir(tmp_path)


class Thing:
    """A class that has nothing to do with the library."""


def takes_none():
    return None


def takes_two(a, b):
    return a


NUMBERS = [np.nan, np.inf, -1, 0, 2, 3.0, 0.5, 1e308, 1e-308, True, np.True_, np.int64(3)]
NUMBERS += [np.float32(0.5), np.float32("nan"), 1j, Decimal("0.1")]
OBJECTS = [None, "", "nonsense", "AUTO", b"auto", [], (), {}, [1], ["auto"], {1}, np.array(1)]
OBJECTS += [np.arange(3), torch.tensor(1.0), object(), Thing, np, ...]
VALUES = [*NUMBERS, *OBJECTS, takes_none, takes_two]


def constraints(cls):
    """Return the constraints of all parameters, those of the parts as `router__gate`."""
    found = dict(cls._parameter_constraints)
    for part, kind in PARTS.items():
        found |= {f"{part}__{name}": c for name, c in kind._parameter_constraints.items()}
    return {name: [*map(make_constraint, c)] for name, c in sorted(found.items())}


def fit(cls, kind="table", **parameters):
    parameters = {"max_iter": 2, "random_state": 0, "n_experts": 3} | parameters
    return cls().set_params(**parameters).fit(SAMPLES[kind], target_of(cls))


def is_named(name, error):
    """Tell whether a message names a parameter; that of `router__kind` is `router`."""
    part, _, own = name.rpartition("__")
    return (own or name) in str(error) or (own == "kind" and part in str(error))


def assert_finite_or_named(cls, kind, name, value, **parameters):
    try:
        model = fit(cls, kind, **parameters | {name: value})
    except (TypeError, ValueError) as refusal:
        error, found = refusal, [0.0]
    else:
        error, found = name, [predictions(model, SAMPLES[kind]), model.gate_proba(SAMPLES[kind])]
    assert error == name or is_named(name, error), f"{value!r}: {error}"
    assert all(np.isfinite(array).all() for array in found), value


def values_for(allowed):
    """Yield values, and whether the constraints of a parameter allow them."""
    values = list(VALUES)
    for constraint in allowed:
        try:
            values.append(generate_invalid_param_val(constraint))
        except NotImplementedError:
            pass
    for value in values:
        yield value, any(constraint.is_satisfied_by(value) for constraint in allowed)


# The two estimators share all parameters but two: they are tried in turn.
CASES = [(MoEClassifier, "loss"), (MoEClassifier, "class_weight")]
CASES += [*zip(cycle([MoERegressor, MoEClassifier]), constraints(MoERegressor), strict=False)]


def test_what_a_parameter_does_not_take_is_named():
    for cls, name in CASES:
        refused = [v for v, is_taken in values_for(constraints(cls)[name]) if not is_taken]
        assert len(refused) > 5
        for value in refused:
            with pytest.raises((TypeError, ValueError)) as caught:
                fit(cls, **{name: value})
            assert is_named(name, caught.value), f"{name}={value!r}: {caught.value}"


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_what_a_parameter_takes_is_refused_by_name_or_makes_a_finite_model(cls, name):
    for value, is_taken in values_for(constraints(cls)[name]):
        if is_taken and (name != "random_state" or value not in (None, np.random)):
            assert_finite_or_named(cls, "table", name, value)  # those draw from NumPy's generator


MEANT = {
    "loss": (MoERegressor, {"loss": "squared_eror"}, "Did you mean 'squared_error'"),
    "gate": (MoERegressor, {"router__gate": "softmx"}, "Did you mean 'softmax'"),
    "name": (MoERegressor, {"early_stopping": "outofbag"}, "Did you mean 'out_of_bag'"),
    "module": (MoEClassifier, {"router": nn.Linear(3, 2)}, r"RouterParams\(network=\.\.\.\)"),
    "torch's class": (MoEClassifier, {"expert": nn.Linear}, r"expert=.*\(input_shape, n_outputs\)"),
}


@pytest.mark.parametrize("case", MEANT)
def test_what_was_meant_is_told(case):
    cls, parameters, message = MEANT[case]
    with pytest.raises((TypeError, ValueError), match=message):
        fit(cls, **parameters)


def linear(n_inputs, n_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, n_outputs))


class Returning(nn.Module):
    """A module that returns what a function makes of its samples."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.function = function

    def forward(self, x):
        return self.function(x)


def returning(function):
    return lambda *shape: Returning(function)


OWN = [  # functions that do not fit, and what is said of them after the name
    ("expert", lambda s, n: linear(3, n + 1), "must make"),
    ("expert", returning(lambda x: x[:, 0]), r"shape \(1,\)"),
    ("expert", returning(lambda x: None), "returned None"),
    ("expert", lambda s, n: linear(7, n), "RuntimeError"),
    ("expert", returning(lambda x: {}["k"]), "raised KeyError"),
    ("expert", nn.Linear(3, 2), ""),
    ("activation", lambda z: z.sum(), r"shape \(\)"),
    ("activation", lambda z: z[:, :1], "shape"),
    ("trunk", Returning(lambda x: None), "must map.*NoneType"),
    ("trunk", Returning(lambda x: x.repeat(2, 1)), "must map"),
    ("router__network", lambda s, n: linear(3, n + 1), ""),
    ("router__network", lambda s, n: n, "returned int"),
    ("router__noise", lambda x, s, g: s[:, :1], "shape"),
    ("router__noise", Thing, "must be"),
    ("router__gate", lambda s, n, c: s, r"\(1, 1\) was expected"),
    ("balance", takes_none, "takes 0 positional"),
    ("balance", takes_two, "returned int"),
    ("loss", takes_none, "takes 0 positional"),
    ("loss", nn.CrossEntropyLoss, "must be"),
    ("loss", lambda n: Head(n), "is not made for classes"),
    ("solver", takes_two, "unexpected keyword"),
    ("solver", lambda p, lr: None, "returned NoneType"),
    ("train_transform", lambda x: None, "NoneType"),
    ("train_transform", lambda x: x.double(), "64"),
    ("train_transform", lambda x: x.masked_fill(x > 1, torch.nan), "returns NaN"),
    ("train_transform", lambda x: x[:1], r"\(1, 3\)"),
    ("callbacks", ["a"], "must be"),
    ("callbacks", [()], "must be"),
]


def refused(match, cls=MoEClassifier, **parameters):
    refuses(parameters, match, fit, cls, **parameters)


def test_functions_that_do_not_fit_are_named():
    for name, function, match in OWN:
        refused(f"{name.split('__')[-1]}.*{match}", **{"router": "top1", name: function})
    nan = returning(lambda x: torch.zeros(len(x), 2) * torch.nan)
    refused("loss became nan", router="top1", expert=nan)


def test_what_goes_wrong_inside_a_factory_is_its_own_matter():
    def factory(input_shape, n_outputs):
        raise KeyError("mine")

    raises(KeyError, "mine", fit, MoEClassifier, expert=factory)


CONTRADICTIONS = [  # the last of the parameters is named
    ({"router": "top1", "top_k": 2}, "=2|router='top1'"),
    ({"router": "topk", "router__gate": "renormalized"}, ".* no gradient"),
    ({"router": "random", "router__network": "mlp"}, "='mlp'"),
    ({"router": "soft", "balance": "bias"}, "='bias'"),
    ({"router": "soft", "router__n_shared_experts": 1}, "=1"),
    ({"router": "top1", "early_stopping": "out_of_bag"}, "='out_of_bag' needs.*router='soft'"),
    ({"router": "top1", "expert_loss_weight": 0.5}, ".* needs.*router='soft'"),
    ({"expert": lambda s, n: linear(3, n), "expert_width": 3}, "=3 would be ignored"),
    ({"expert": lambda s, n: linear(3, n), "activation": "relu"}, "='relu' would be.*'auto'"),
    ({"solver": "adam", "solver__momentum": 0.5}, "=0.5 would be ignored: solver='adam'"),
    ({"solver": lambda params, lr: None, "solver__weight_decay": 1.0}, "=1.0 would be ignored"),
    ({"solver": "adam", "solver__schedule": "residual"}, "='residual' is made for solver='norm"),
    ({"trunk": "cnn"}, "='cnn'"),
    ({"expert": "cnn"}, "='cnn' takes samples"),
    *(
        ({"sample_shape": shape}, r".* cannot be read from X of shape \(24, 3\)")
        for shape in [(2, 2), (3,), (-1, -1), (0, 3), ("a", "b"), (1, 3.0)]
    ),
    ({"categorical_features": [7]}, ""),
    ({"categorical_features": [True] * 9}, ""),
    ({"device": "cuda:99"}, "='cuda:99'"),
    ({"loss": "squared_error"}, "='squared_error' is not made for classes"),
    ({"class_weight": {7: 1.0}}, "|weight 0"),
]


def test_parameters_that_contradict_each_other_are_named():
    for parameters, match in CONTRADICTIONS:
        name = [*parameters][-1].split("__")[-1]
        refused(f"{name}({match})" if match else name, **parameters)
    message = "loss='log_loss' is not made for regression. Use one of"
    refused(message, MoERegressor, loss="log_loss")


@pytest.mark.parametrize("kind", SAMPLES)
def test_any_rate_ends_in_a_finite_model_or_an_error_that_names_it(kind):
    for name in ("learning_rate_init", "router__learning_rate"):
        for rate in (1e-300, 1e-30, 1e30, 1e300):
            assert_finite_or_named(MoEClassifier, kind, name, rate, max_iter=1)
