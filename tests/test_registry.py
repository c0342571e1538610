"""Names: all known, none overwritten, each documented where its parameter is."""

import inspect
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._registry import Registry, require, takes
from sklearn_moe.nn import (
    ACTIVATIONS,
    BALANCES,
    EXPERTS,
    GATES,
    LOSSES,
    NETWORKS,
    NOISES,
    ROUTERS,
    TRUNKS,
)
from sklearn_moe.optim import SOLVERS

REGISTRIES = {
    registry.parameter: registry
    for registry in (
        EXPERTS,
        TRUNKS,
        ROUTERS,
        BALANCES,
        ACTIVATIONS,
        LOSSES,
        NOISES,
        GATES,
        NETWORKS,
        SOLVERS,
    )
}
ESTIMATORS = {MoEClassifier: ("classes", "multilabel"), MoERegressor: ("regression",)}
DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_no_name_is_given_twice(registry):
    name, entry = next(iter(registry.items()))
    with pytest.raises(ValueError, match=f"{registry.parameter}='{name}' is registered already"):
        registry.register(name, entry)
    with pytest.raises(ValueError, match="Choose another name"):
        registry.register(name, None)
    assert registry[name] is entry


def test_a_new_name_comes_last_and_is_known_from_then_on():
    names = {"b": 1}
    registry = Registry("letter", "a callable of your own", names)
    registry.register("a", 2)
    assert dict(registry) == {"b": 1, "a": 2}
    assert list(registry) == ["b", "a"]
    assert names == {"b": 1}
    assert registry.resolve("a") == 2
    assert registry.resolve(len) is len
    assert repr(registry) == "Registry('letter', ['b', 'a'])"
    message = r"Unknown letter='c': pass one of \['a', 'b'\] or a callable of your own\."
    with pytest.raises(ValueError, match=message):
        registry.resolve("c")


@pytest.mark.parametrize("n_experts", [1, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("parameter", REGISTRIES)
def test_unknown_names_list_the_known_ones(parameter, estimator, n_experts):
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    model = estimator(n_experts, random_state=0, **{parameter: "nope"})
    known = sorted(REGISTRIES[parameter])
    if parameter == "loss":  # those that the estimator would not refuse
        kind = ESTIMATORS[estimator][0]
        known = [name for name in known if getattr(LOSSES[name], kind)]
    known = re.escape(f"pass one of {known} or ")
    with pytest.raises(ValueError, match=f"Unknown {parameter}='nope': {known}"):
        model.fit(X, y)


@pytest.mark.parametrize("parameter", REGISTRIES)
def test_every_registry_has_its_parameter(parameter):
    for estimator in ESTIMATORS:
        assert parameter in inspect.signature(estimator).parameters


def entry_of(estimator, parameter):
    """Return what the docstring of an estimator says of a parameter."""
    documentation = inspect.getdoc(estimator)
    return re.search(rf"^{parameter} : .*\n((?:    .*\n|\n)*)", documentation, re.M).group()


def applies(estimator, parameter, name):
    return parameter != "loss" or any(getattr(LOSSES[name], k) for k in ESTIMATORS[estimator])


@pytest.mark.parametrize(
    ("estimator", "parameter", "name"),
    [
        (estimator, parameter, name)
        for estimator in ESTIMATORS
        for parameter, registry in REGISTRIES.items()
        for name in registry
        if applies(estimator, parameter, name)
    ],
)
def test_every_name_is_in_the_documentation_of_its_parameter(estimator, parameter, name):
    assert f'"{name}"' in entry_of(estimator, parameter)


@pytest.mark.parametrize(
    ("parameter", "name"),
    [(parameter, name) for parameter, registry in REGISTRIES.items() for name in registry],
)
def test_every_name_is_in_the_guide(parameter, name):
    guide = "".join(path.read_text() for path in DOCS.glob("*.rst"))
    assert f'"{name}"' in guide


def test_what_a_function_takes():
    def some(shape, *, width=1):
        return None

    def any_of_them(shape, **options):
        return None

    class Made:
        def __init__(self, width):
            self.width = width

    assert takes(some, "width")
    assert not takes(some, "activation")
    assert takes(any_of_them, "activation")
    assert takes(Made, "width")
    assert takes(partial(some, width=2), "width")
    assert not takes(partial(some, width=2), "activation")


def test_an_argument_without_a_keyword_is_not_taken():
    def by_position(shape, width, /, *activation):
        return None

    assert not takes(by_position, "width")
    assert not takes(by_position, "activation")


@pytest.mark.parametrize("function", [torch.relu, dict])
def test_what_does_not_tell_its_arguments_takes_none(function):
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(function)
    assert not takes(function, "width")


def test_a_missing_method_is_named_with_what_needs_it():
    class Base:
        def speak(self):
            raise NotImplementedError

    class Mute(Base):
        pass

    class Loud(Mute):
        def speak(self):
            return "!"

    require(Loud(), Base, "speak", "talk=True")
    message = (
        r"^Mute has no method 'speak', which talk=True needs\. Write it as Base\.speak describes\.$"
    )
    with pytest.raises(TypeError, match=message):
        require(Mute(), Base, "speak", "talk=True")
