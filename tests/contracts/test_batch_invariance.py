"""The same sample, in any batch and any order: the same experts, the same probabilities."""

from itertools import cycle

import numpy as np
import pytest
import torch
from helpers import as_kind, gates_of, has_statistics, is_deep, make_mixture, narrow, shape_for
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_moe import MoEClassifier
from sklearn_moe.nn import BALANCES, EXPERTS, ROUTERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
# Trees are experts of pools alone.
TRAINED = [name for name in EXPERTS if name != "trees"]
SMALL = [name for name in TRAINED if not is_deep(name)]


def goes_with(router, balance):
    """Tell whether a balance has something to act on."""
    spec = ROUTERS[router]
    learned, sparse = spec.network is None, spec.router_class.sparse
    has = {"gradient": learned, "choice": sparse, "noise": sparse and learned}
    return balance is None or has[BALANCES[balance].needs]


def fit(X, y, router, gate="auto", balance=None, **options):
    clf = MoEClassifier(4, router=router, balance=balance, tol=None, random_state=0)
    options = {"max_iter": 8, "top_k": 2 if gate == "renormalized" else 1} | options
    return clf.set_params(router__gate=gate, **options).fit(X, y)


def check_rows(clf, X, n_examples, atol):
    """Compare any selection of rows with all of them, which are shares of 1."""
    functions = clf.predict_proba, clf.gate_proba, clf.expert_proba
    experts, expected = clf.apply(X), [function(X) for function in functions]
    for shares in (*expected[:2], clf.expert_load_[np.newaxis]):
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert expected[2].shape == (len(X), clf.n_experts, 2)
    assert experts.shape == ((len(X), 2) if clf.top_k == 2 else (len(X),))

    @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=40))
    def check(rows):
        np.testing.assert_array_equal(clf.apply(X[rows]), experts[rows])
        for function, of_all in zip(functions, expected, strict=True):
            np.testing.assert_allclose(function(X[rows]), of_all[rows], rtol=0, atol=atol)

    check()


@pytest.mark.parametrize("router", ROUTERS)
def test_routers_gates_and_balances(patches, router):
    """Every gate and every balance, but not all pairs of them."""
    (X, y, _), (X_test, _, _) = patches
    gates = gates_of(ROUTERS[router])
    balances = [balance for balance in (None, *BALANCES) if goes_with(router, balance)]
    for i in range(max(len(gates), len(balances))):
        options = {"gate": gates[i % len(gates)], "balance": balances[i % len(balances)]}
        clf = fit(X[:300], y[:300], router, **options)
        check_rows(clf, X_test[:200], 3, 1e-5)


@pytest.mark.parametrize("expert", TRAINED)
def test_experts_and_types(patches, expert):
    (X, y, _), (X_test, _, _) = patches
    n, n_test, max_iter, width = (99, 200, 8, 8) if expert in SMALL else (40, 50, 2, 2)
    routers = ["top1", "soft", "sigmoid"]
    routers = routers if expert in SMALL else routers[: 1 if has_statistics(expert) else 2]
    for router, dtype in zip(routers, cycle([np.float32, np.float64]), strict=False):
        X_fit, X_new = (as_kind(a, expert).astype(dtype) for a in (X[:n], X_test[:n_test]))
        clf = fit(X_fit, y[:n], router, max_iter=max_iter, **narrow(expert, width))
        check_rows(clf, X_new, 3, 1e-5 if dtype == np.float32 else 1e-11)


def test_no_samples():
    for expert in (*SMALL, "resnet18"):
        for router in ROUTERS if expert in SMALL else ["soft"]:
            mixture = make_mixture(expert, router=router).eval()
            x = torch.zeros(0, *shape_for(expert), dtype=torch.float64)
            with torch.no_grad():
                assert mixture(x).output.shape == (0, 3)
                assert [each.shape for each in mixture.forward_each(x)] == 4 * [(0, 3)]
                route = mixture.route(x)
            assert len(route.ranking()) == len(route.shares()) == 0
