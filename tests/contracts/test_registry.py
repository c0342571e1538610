"""Names: all known, none overwritten, each documented where its parameter is."""

import inspect
import re

import numpy as np
from helpers import raises
from house import ROOT

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, nn
from sklearn_moe._validation import Registry
from sklearn_moe.nn.router_parts import GATES, NOISES
from sklearn_moe.optim import SOLVERS

REGISTRIES = {
    **{"expert": nn.EXPERTS, "trunk": nn.TRUNKS, "router": nn.ROUTERS, "balance": nn.BALANCES},
    **{"activation": nn.ACTIVATIONS, "loss": nn.LOSSES, "solver": SOLVERS},
    "router__network": nn.NETWORKS,
}
# Those of which nobody registers more, too.
NAMES = {**REGISTRIES, "router__noise": NOISES, "router__gate": GATES}
# Before an example of the pages registers another one in this process.
OWN = {parameter: [*registry] for parameter, registry in NAMES.items()}
KINDS = {MoEClassifier: ("classes", "multilabel"), MoERegressor: ("regression",)}


def names_of(estimator, parameter, kinds=None):
    """Return the names of a parameter; of a loss those that the estimator would not refuse."""
    kinds, names = kinds or KINDS[estimator], NAMES[parameter]
    return [n for n in names if parameter != "loss" or any(getattr(names[n], k) for k in kinds)]


def test_no_name_is_given_twice():
    for registry in REGISTRIES.values():
        name, entry = next(iter(registry.items()))
        raises(ValueError, f"{registry.parameter}='{name}'", registry.register, name, None)
        assert registry[name] is entry


def test_a_new_name_comes_last_and_is_known_from_then_on():
    names = {"b": 1}
    registry = Registry("letter", "a callable of your own", names)
    registry.register("a", 2)
    assert list(registry.items()) == [("b", 1), ("a", 2)]
    assert (len(registry), names) == (2, {"b": 1})
    assert registry.resolve("a") == 2
    assert registry.resolve(len) is len
    for offered, known in ((None, "'a', 'b'"), (lambda: ["b"], "'b'")):
        message = rf"letter='c': pass one of \[{known}\] or a callable of your own\."
        raises(ValueError, message, registry.resolve, "c", offered)


def test_unknown_names_list_the_known_ones():
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    for parameter in REGISTRIES:
        for estimator, (kind, *_) in KINDS.items():
            known = re.escape(
                f"='nope': pass one of {sorted(names_of(estimator, parameter, [kind]))}"
            )
            for n_experts in (1, 3):
                model = estimator(n_experts, random_state=0).set_params(**{parameter: "nope"})
                raises(ValueError, f"{parameter.split('__')[-1]}{known}", model.fit, X, y)


def test_every_name_is_documented():
    guide = "".join(path.read_text() for path in (ROOT / "docs").glob("*.rst"))
    missing = []
    for parameter, own in OWN.items():
        missing += [f"{parameter}={name}, guide" for name in own if f'"{name}"' not in guide]
        for estimator in KINDS:
            part = RouterParams if "__" in parameter else estimator
            entry = rf"^{parameter.split('__')[-1]} : .*\n((?:    .*\n|\n)*)"
            entry = re.search(entry, inspect.getdoc(part), re.M).group()
            names = {*own} & {*names_of(estimator, parameter)}
            missing += [f"{parameter}={name}" for name in names if f'"{name}"' not in entry]
    assert not missing
