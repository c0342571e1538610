"""scikit-learn's own checks, without an exception and without a skip."""

import os
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_moe import MoEClassifier
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.nn import BALANCES, NOISES, ROUTERS

BRIEF = {"max_iter": 100}


NEEDS = {
    "patch_choice": {"gate": "sigmoid"},  # a vector is one patch: no other gate has a gradient
    "relu": BRIEF,  # slower than 25 epochs
}
ROUTING = [
    *({"router": router} | NEEDS.get(router, {}) for router in ROUTERS),
    *({"balance": balance} for balance in BALANCES),
    *({"router_noise": noise} for noise in (*NOISES, None)),
    {"router": "topk", "top_k": 2, "gate": "renormalized", "balance": "switch"},
    {"router_network": "mlp", "router_max_iter": 5},
    {"dense_gradient": True},
]
CONFIGURATIONS = [
    MoEClassifier(),
    MoEClassifier(n_experts=1, **BRIEF),
    *(MoEClassifier(n_experts=3, **({"max_iter": 25} | routing)) for routing in ROUTING),
    MoEClassifier(
        n_experts=3, solver="normalized_sgd", learning_rate_init=0.05, router_noise=None, **BRIEF
    ),
    MoEClassifier(
        n_experts=3,
        solver="sgd",
        momentum=0.9,
        learning_rate_init=0.1,
        activation="tanh",
        **BRIEF,
    ),
    MoEClassifier(n_experts=2, head="probabilities", weight_decay=1e-3, **BRIEF),
]


@pytest.fixture
def global_generators_untouched():
    """Replace our own fixture: scikit-learn's checks draw from NumPy's global generator."""


@parametrize_with_checks(CONFIGURATIONS)
def test_check_estimator(estimator, check):
    with warnings.catch_warnings():
        # A few epochs on thirty samples converge nowhere, and the checks say nothing about it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ExpertCollapseWarning)
        check(estimator)


@pytest.mark.skipif(
    "SCIPY_ARRAY_API" not in os.environ,
    reason="SciPy reads SCIPY_ARRAY_API=1 at import; `make test` and .ci/run set it",
)
@pytest.mark.parametrize(
    "routing", [{}, *(pytest.param(r, marks=pytest.mark.slow) for r in ROUTING)], ids=str
)
def test_nothing_is_skipped(routing):
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = MoEClassifier(**({"max_iter": 25} | routing))
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert not [result for result in results if result["status"] == "skipped"]
