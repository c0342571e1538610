"""The same row, in any batch and any order: the same experts, the same probabilities."""

import numpy as np
import pytest
import torch
from helpers import as_kind, has_statistics, is_deep, make_mixture, narrow, shape_for
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_moe import MoEClassifier
from sklearn_moe.nn import BALANCES, EXPERTS, ROUTERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

SMALL, DEEP = ([name for name in EXPERTS if is_deep(name) == deep] for deep in (False, True))
# Statistics of a batch are what merging refuses; patches are no pictures.
PLAIN = [name for name in DEEP if not has_statistics(name)]
FITTING = [("top1", expert) for expert in DEEP]
FITTING += [(r, PLAIN[0]) for r in ROUTERS if r not in ("top1", "patch_choice")]


def goes_with(preset, balance):
    """Tell whether a balance has something to act on."""
    if balance is None:
        return True
    needs = BALANCES[balance].needs
    learned = preset.network is None
    return {
        "gradient": learned,
        "choice": preset.router_class.sparse,
        "noise": preset.router_class.sparse and learned,
    }[needs]


EVERY = [
    (router, gate, balance)
    for router, preset in ROUTERS.items()
    for gate in preset.gates
    for balance in (None, *BALANCES)
    if goes_with(preset, balance)
]


def fit(X, y, router, gate, balance, max_iter=8, **options):
    top_k = 2 if gate == "renormalized" else 1
    return MoEClassifier(
        n_experts=4,
        router=router,
        top_k=top_k,
        gate=gate,
        balance=balance,
        max_iter=max_iter,
        tol=None,
        random_state=0,
        **options,
    ).fit(X, y)


def check_rows(clf, X, n_examples, tolerance):
    """Compare any selection of rows with all of them."""
    proba, experts, gate = clf.predict_proba(X), clf.apply(X), clf.gate_proba(X)
    each = clf.expert_proba(X)

    @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=40))
    def check(rows):
        np.testing.assert_array_equal(clf.apply(X[rows]), experts[rows])
        np.testing.assert_allclose(clf.predict_proba(X[rows]), proba[rows], **tolerance)
        np.testing.assert_allclose(clf.gate_proba(X[rows]), gate[rows], **tolerance)
        np.testing.assert_allclose(clf.expert_proba(X[rows]), each[rows], **tolerance)

    check()


def check_no_samples(expert, router):
    mixture = make_mixture(expert, router=router).eval()
    x = torch.zeros(0, *shape_for(expert), dtype=torch.float64)
    with torch.no_grad():
        assert mixture(x).output.shape == (0, 3)
        assert mixture.forward_each(x).shape == (0, 4, 3)
        assert len(mixture.route(x).ranking()) == len(mixture.route(x).shares()) == 0


@pytest.mark.parametrize("expert", EXPERTS)
def test_no_samples(expert):
    routers = [router for router in ROUTERS if router != "patch_choice" or expert == "patch"]
    for router in routers if expert in SMALL else ["top1", "soft"]:
        check_no_samples(expert, router)


def check_combination(patches, combination, n_examples):
    (X, y, _), (X_test, _, _) = patches
    clf = fit(X[:600], y[:600], *combination)
    check_rows(clf, X_test[:400], n_examples, {"rtol": 0, "atol": 1e-5})


@pytest.mark.parametrize("combination", EVERY, ids=lambda c: "-".join(map(str, c)))
def test_every_router_gate_and_balance(patches, combination):
    check_combination(patches, combination, 3)


@pytest.mark.slow
@pytest.mark.parametrize("combination", EVERY, ids=lambda c: "-".join(map(str, c)))
def test_every_router_gate_and_balance_at_length(patches, combination):
    check_combination(patches, combination, 200)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("router", "expert"),
    [(r, e) for r in ROUTERS for e in SMALL if (r, e) != ("patch_choice", "cnn")],
)
def test_every_kind_of_sample(patches, router, expert, dtype):
    (X, y, _), (X_test, _, _) = patches
    X, X_test = (as_kind(a, expert).astype(dtype) for a in (X[:200], X_test[:200]))
    gate = "sigmoid" if router == "patch_choice" else "auto"
    clf = fit(X, y[:200], router, gate, None, **narrow(expert, 8))
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == np.float32 else 1e-11}
    check_rows(clf, X_test, 3, tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("router", "expert"), FITTING)
def test_deep_experts(patches, router, expert, dtype):
    (X, y, _), (X_test, _, _) = patches
    X, X_test = (as_kind(a, expert).astype(dtype) for a in (X[:40], X_test[:50]))
    clf = fit(X, y[:40], router, "auto", None, max_iter=2, **narrow(expert, 2))
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == np.float32 else 1e-11}
    check_rows(clf, X_test, 3, tolerance)


def test_the_combinations_are_all_of_those_that_fit(patches):
    (X, y, _), _ = patches
    refused = 0
    for router, preset in ROUTERS.items():
        for balance in BALANCES:
            if not goes_with(preset, balance):
                refused += 1
                with pytest.raises(ValueError, match=f"router='{router}'"):
                    fit(X[:50], y[:50], router, "auto", balance)
    assert 0 < refused < len(ROUTERS) * len(BALANCES)
