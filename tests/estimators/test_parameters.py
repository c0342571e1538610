"""Parameters of the estimators and of the parts of a mixture, as scikit-learn knows them."""

import ast
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import raises
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_moe import BalanceParams, MoEClassifier, MoERegressor, RouterParams, SolverParams

BOTH = [MoEClassifier, MoERegressor]
PARTS = {"router": RouterParams, "balance": BalanceParams, "solver": SolverParams}
PARAMS = [RouterParams("topk", gate="logit"), BalanceParams("bias"), SolverParams(momentum=0.5)]


def test_the_signature_is_explicit_and_shared():
    shared = [dict(inspect.signature(model).parameters) for model in BOTH]
    for model, parameters in zip(BOTH, shared, strict=True):
        path = inspect.getsourcefile(inspect.unwrap(model.__init__))
        tree = ast.parse(Path(path).read_text())  # as an editor reads it
        written = next(n for n in ast.walk(tree) if getattr(n, "name", None) == "__init__")
        named = [*written.args.args[1:], *written.args.kwonlyargs]
        assert [arg.arg for arg in named] == [*parameters]
        assert all(arg.annotation for arg in named)
        assert [ast.unparse(line) for line in written.body] == [
            f"self.{name} = {name}" for name in parameters
        ]
        assert {*parameters} == {*model._parameter_constraints}
        assert len(parameters) <= 30
        kinds = [p.kind for p in parameters.values()]
        assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert {*kinds[1:]} == {inspect.Parameter.KEYWORD_ONLY}
        raises(TypeError, "n_expert", model, n_expert=2)
        wrong = model().set_params(balance__weight=-1.0)
        with pytest.raises(ValueError, match="'weight' parameter of BalanceParams"):
            wrong.partial_fit([[0.0], [1.0]], [0, 1])
    assert [*shared[0].items()] == [*shared[1].items()]
    X, y = [[0.0], [1.0]], [0.0, 1.0]
    raises(ValueError, "class_weight", MoERegressor(class_weight="balanced").fit, X, y)


@pytest.mark.parametrize("params", PARAMS, ids=lambda p: type(p).__name__)
def test_objects_of_parts_behave_as_those_of_scikit_learn(params):
    twin = clone(params)
    assert twin is not params
    assert twin == params == pickle.loads(pickle.dumps(params))
    assert params != type(params)()
    assert params != params.get_params()
    names = [*inspect.signature(type(params)).parameters]
    assert sorted(params.get_params()) == sorted(names)
    raises(TypeError, "positional", type(params), "auto", "auto")
    raises(TypeError, "unhashable", hash, params)
    with pytest.raises(ValueError, match="'nope'") as refused:
        params.set_params(nope=1)
    assert all(name in str(refused.value) for name in names)
    shown = repr(params)
    set_to = {k: v for k, v in params.get_params().items() if v != type(params)().get_params()[k]}
    assert all(f"{name}={value!r}" in shown for name, value in set_to.items())
    assert shown.count("=") == len(set_to)


@pytest.mark.parametrize("model", BOTH)
def test_parameters_of_parts_are_read_and_set_from_names_and_objects(model):
    params = model(router="topk").get_params()
    assert params["router"] == params["router__kind"] == "topk"
    assert (params["router__noise"], params["balance__weight"]) == ("auto", 0.01)
    assert not [name for name in model().get_params(deep=False) if "__" in name]
    moe = model(router="topk").set_params(router__gate="logit", solver__weight_decay=0.5)
    assert moe.router == RouterParams("topk", gate="logit")
    assert moe.solver == SolverParams("auto", weight_decay=0.5)
    own = RouterParams("topk", n_shared_experts=1)
    moe = model(router=own).set_params(router__noise="gumbel")
    assert moe.router is own
    assert own == RouterParams("topk", noise="gumbel", n_shared_experts=1)
    # A new kind with its options, in any order.
    moe.set_params(router__gate="softmax", router="sampled", router__kind="soft")
    assert moe.router == RouterParams("soft", gate="softmax")
    assert moe.set_params(router="top1").router == "top1"
    twin = clone(make_pipeline(model(router=own)))
    assert own == twin[0].router is not own
    assert twin.set_params(**{f"{model.__name__.lower()}__router__kind": "soft"})


@pytest.mark.parametrize("model", BOTH)
def test_what_is_no_parameter_is_refused_with_those_that_are(model):
    for name, known in (("router__nope", "n_shared_experts"), ("nope", "n_experts")):
        raises(ValueError, rf"(?s)'nope'.*'{known}'", model().set_params, **{name: 1})
    raises(ValueError, "'nope'", model().set_params, trunk__nope=1, nope=1)


def test_an_object_and_its_name_make_the_same_model():
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = X[:, 0] > 0
    options = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0}
    parts = {"router": "top1", "balance": "switch", "solver": "adam"}
    names = MoEClassifier(**options, **parts)
    objects = MoEClassifier(**options, **{part: PARTS[part](kind) for part, kind in parts.items()})
    found, expected = (moe.fit(X, y).predict_proba(X) for moe in (objects, names))
    np.testing.assert_array_equal(found, expected)
    assert names.resolved_params_ | {"router": 0} == objects.resolved_params_ | {"router": 0}
