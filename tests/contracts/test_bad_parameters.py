"""Values of parameters and arguments: an error that names the one that is wrong, or a result."""

from decimal import Decimal
from inspect import signature
from itertools import cycle

import numpy as np
import pytest
import torch
from helpers import brief_fits, names, predictions, raises, refuses
from representatives import SAMPLES, target_of
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, datasets, metrics, preprocessing
from sklearn_moe._parameters.parts import PARTS
from sklearn_moe.datasets import PAPER_SETTINGS
from sklearn_moe.nn import Head

pytestmark = [brief_fits, pytest.mark.filterwarnings("ignore:Casting complex values")]


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


VALUES = [np.nan, np.inf, -1, 0, 2, 3.0, 0.5, 1e308, 1e-308, True, np.True_, np.int64(3)]
VALUES += [np.float32(0.5), np.float32("nan"), 1j, Decimal("0.1")]
VALUES += [None, "", "nonsense", "AUTO", b"auto", [], (), {}, [1], ["auto"], {1}, np.array(1)]
VALUES += [np.arange(3), torch.tensor(1.0), object(), Thing, np, ..., takes_none, takes_two]


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


# -- estimators ---------------------------------------------------------------------------


def constraints(cls):
    """Return the constraints of all parameters, those of the parts as `router__gate`."""
    found = dict(cls._parameter_constraints)
    for part, kind in PARTS.items():
        found |= {f"{part}__{name}": c for name, c in kind._parameter_constraints.items()}
    return {name: [*map(make_constraint, c)] for name, c in sorted(found.items())}


def fit(cls, kind="table", **parameters):
    parameters = {"max_iter": 2, "random_state": 0, "n_experts": 3} | parameters
    return cls().set_params(**parameters).fit(SAMPLES[kind], target_of(cls))


def assert_named_or_finite(cls, kind, name, value, *, is_taken=True, **parameters):
    """Check that a fit makes a finite model, or an error that names the parameter.

    `router__kind` is named `router`.
    """
    parameters, X = parameters | {name: value}, SAMPLES[kind]
    try:
        model = fit(cls, kind, **parameters)
    except (TypeError, ValueError) as error:
        message, found = str(error), []
    else:
        assert is_taken, f"{name}={value!r}"
        message, found = name, [predictions(model, X), model.gate_proba(X)]
    known_as = [name.rpartition("__")[2], *([name[: -len("__kind")]] if "__kind" in name else [])]
    assert any(known in message for known in known_as), f"{name}={value!r}: {message}"
    assert all(np.isfinite(array).all() for array in found), value


# The two estimators share all parameters but two: they are tried in turn.
CASES = [(MoEClassifier, "loss"), (MoEClassifier, "class_weight")]
CASES += [*zip(cycle([MoERegressor, MoEClassifier]), constraints(MoERegressor), strict=False)]


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_a_value_is_refused_by_name_or_makes_a_finite_model(cls, name):
    cases = [*values_for(constraints(cls)[name])]
    assert sum(not is_taken for _, is_taken in cases) > 5
    for value, is_taken in cases:
        if name != "random_state" or (value is not None and value is not np.random):
            assert_named_or_finite(cls, "table", name, value, is_taken=is_taken)


MEANT = [
    (MoERegressor, {"loss": "squared_eror"}, "Did you mean 'squared_error'"),
    (MoERegressor, {"router__gate": "softmx"}, "Did you mean 'softmax'"),
    (MoERegressor, {"early_stopping": "outofbag"}, "Did you mean 'out_of_bag'"),
    (MoEClassifier, {"router": nn.Linear(3, 2)}, r"RouterParams\(network=\.\.\.\)"),
    (MoEClassifier, {"expert": nn.Linear}, r"expert=.*\(input_shape, n_outputs\)"),
    (MoERegressor, {"loss": "mse"}, "Did you mean 'squared_error'"),
    (MoERegressor, {"loss": "log_loss"}, "loss='log_loss' is not made for regression. Use one of"),
]


@pytest.mark.parametrize(("cls", "parameters", "match"), MEANT)
def test_what_was_meant_is_told(cls, parameters, match):
    refuses(parameters, match, fit, cls, **parameters)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: MoEClassifier(alpha=0.1), r"SolverParams\(weight_decay=\.\.\.\)"),
        (lambda: MoEClassifier(hidden_layer_sizes=(9,)), "'expert_width'"),
        (lambda: RouterParams(top_k=2), r"MoEClassifier\(top_k=\.\.\.\)"),
        (lambda: MoERegressor().set_params(n_expert=2), r"\]\. Did you mean 'n_experts'\?$"),
        (
            lambda: MoEClassifier(router=RouterParams()).set_params(router__learningrate=1),
            r"\]\. Did you mean 'learning_rate'\?$",
        ),
        (lambda: PAPER_SETTINGS[5], r"setting 5: pass one of \[1, 2, 3, 4"),
    ],
)
def test_words_of_other_libraries_lead_to_ours(call, match):
    with pytest.raises((TypeError, ValueError, KeyError), match=match):
        call()


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


UNFIT = [  # functions, and what is seen of them
    ("expert", lambda s, n: linear(3, n + 1), r"\(1, 3\)"),
    ("expert", returning(lambda x: x[:, 0]), r"shape \(1,\)"),
    ("expert", returning(lambda x: {}["k"]), "raised KeyError"),
    ("expert", nn.Linear(3, 2), ""),
    ("activation", lambda z: z.sum(), r"shape \(\)"),
    ("trunk", Returning(lambda x: x.repeat(2, 1)), r"\(2, 3\)"),
    ("router__network", lambda s, n: linear(3, n + 1), ""),
    ("router__network", lambda s, n: n, "returned int"),
    ("router__noise", lambda x, s, g: s[:, :1], "shape"),
    ("balance", takes_none, "takes 0 positional"),
    ("balance", takes_two, "returned int"),
    ("loss", takes_none, "takes 0 positional"),
    ("loss", nn.CrossEntropyLoss, ""),
    ("loss", lambda n: Head(n), "is not made for classes"),
    ("solver", takes_two, "unexpected keyword"),
    ("solver", lambda p, lr: None, "returned NoneType"),
    ("train_transform", lambda x: None, "NoneType"),
    ("train_transform", lambda x: x.masked_fill(x > 1, torch.nan), "returns NaN"),
    ("train_transform", lambda x: x[:1], r"\(1, 3\)"),
    ("callbacks", ["a"], ""),
]


def test_functions_that_do_not_fit_are_named():
    for name, function, seen in UNFIT:
        parameters = {"router": "top1", name: function}
        names(f"{name}.*{seen}", function, fit, MoEClassifier, **parameters)
    nan = returning(lambda x: torch.zeros(len(x), 2) * torch.nan)
    refuses("nan", "loss became nan", fit, MoEClassifier, router="top1", expert=nan)


def test_what_goes_wrong_inside_a_factory_is_its_own_matter():
    def factory(input_shape, n_outputs):
        raise KeyError("mine")

    raises(KeyError, "mine", fit, MoEClassifier, expert=factory)


# The last of the parameters is named.
CONTRADICTIONS = [{"router": "top1", "top_k": 2}, {"router": "soft", "balance": "bias"}]
CONTRADICTIONS += [{"router": "soft", "top_k": 2}, {"router": "topk", "top_k": 5}]
CONTRADICTIONS += [{"router": "random", "balance": "switch"}]
CONTRADICTIONS += [{"router": "topk", "router__gate": "renormalized"}]
CONTRADICTIONS += [{"router": "soft", "router__gate": "sigmoid"}]
CONTRADICTIONS += [{"router": "soft", "router__noise": "uniform"}]
CONTRADICTIONS += [{"router": "random", "router__network": "linear"}]
CONTRADICTIONS += [{"router": "soft", "router__n_shared_experts": 1}]
CONTRADICTIONS += [{"router": "top1", "early_stopping": "out_of_bag"}]
CONTRADICTIONS += [{"router": "top1", "expert_loss_weight": 0.5}]
CONTRADICTIONS += [{"expert": takes_two, "expert_width": 3}]
CONTRADICTIONS += [{"expert": takes_two, "activation": "relu"}]
CONTRADICTIONS += [{"solver": "adam", "solver__momentum": 0.5}]
CONTRADICTIONS += [{"solver": takes_two, "solver__weight_decay": 1.0}]
CONTRADICTIONS += [{"solver": "adam", "solver__schedule": "residual"}]
CONTRADICTIONS += [{"trunk": "cnn"}, {"expert": "cnn"}, {"device": "cuda:99"}]
CONTRADICTIONS += [{"sample_shape": s} for s in ((2, 2), (3,), (-1, -1), (0, 3), "ab", (1, 3.0))]
CONTRADICTIONS += [{"categorical_features": places} for places in ([7], [True] * 9)]
CONTRADICTIONS += [{"loss": "squared_error"}, {"class_weight": {7: 1.0}}]


def test_parameters_that_contradict_each_other_are_named():
    for parameters in CONTRADICTIONS:
        names([*parameters][-1], parameters, fit, MoEClassifier, **parameters)


# -- functions and transformers -----------------------------------------------------------

IMAGES = np.random.default_rng(0).random((12, 3, 8, 8)).astype(np.float32)
BY_CLUSTER = {"clusters": np.arange(12) % 3, "experts": np.arange(12) % 4}


def features(X, **parameters):
    return preprocessing.PatchKMeansFeatures(**parameters).fit_transform(X)


FUNCTIONS = {
    metrics.dispatch_entropy: BY_CLUSTER,
    metrics.routing_matrix: BY_CLUSTER,
    datasets.make_cluster_patches: {"n_samples": 12, "n_clusters": 2, "patch_size": 10},
    datasets.make_rotation_task: {"images": IMAGES, "random_state": 0},
    features: {"X": IMAGES, "n_clusters": 4, "patch_size": 3, "n_patches": 50},
}
ARRAYS = [
    [[1], [1, 2]],
    np.array([object() for _ in range(12)]),
    np.ones((12, 9)),
    np.ones(12) * 1j,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_bad_argument_is_named_or_harmless(function):
    given, n_refused = FUNCTIONS[function], 0
    if function is features:
        allowed = {"X": []} | preprocessing.PatchKMeansFeatures._parameter_constraints
    else:
        found = function._skl_parameter_constraints
        allowed = {name: found.get(name, []) for name in signature(function).parameters}
    if "random_state" in allowed:
        given = given | {"random_state": 0}
    function(**given)
    for name, of_name in allowed.items():
        rules = map(make_constraint, of_name if isinstance(of_name, list) else [])
        for value in [*(value for value, _ in values_for([*rules])), *ARRAYS]:
            if name == "random_state" and value is None:  # which draws from NumPy's generator
                continue
            message = name
            try:
                function(**given | {name: value})
            except (TypeError, ValueError) as error:
                n_refused += 1
                message = str(error)
            assert name in message, f"{value!r}: {message}"
    assert n_refused > 20
