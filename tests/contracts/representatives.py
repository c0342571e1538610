"""Estimators that stand for all others, with samples for each."""

import numpy as np

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams

__all__ = ["REPRESENTATIVES", "SAMPLES", "target_of"]

N_SAMPLES = 24
_RNG = np.random.default_rng(0)
SAMPLES = {
    "table": _RNG.normal(size=(N_SAMPLES, 3)).astype(np.float32),
    "patches": _RNG.normal(size=(N_SAMPLES, 4, 5)).astype(np.float32),
    "images": _RNG.normal(size=(N_SAMPLES, 1, 8, 8)).astype(np.float32),
}
CLASSES = _RNG.integers(2, size=N_SAMPLES)
NUMBERS = _RNG.normal(size=N_SAMPLES)

# The kind of samples and an estimator: together all that a fit may depend on.
REPRESENTATIVES = {
    "default": ("table", MoEClassifier()),
    "one expert": ("table", MoEClassifier(1, solver=SolverParams(weight_decay=1e-3))),
    "switch": ("table", MoEClassifier(router="top1", balance="switch")),
    "two of three": (
        "table",
        MoEClassifier(router=RouterParams("topk", gate="renormalized"), top_k=2, balance="switch"),
    ),
    "sgd": (
        "table",
        MoEClassifier(
            solver=SolverParams("sgd", momentum=0.9), learning_rate_init=0.1, activation="tanh"
        ),
    ),
    "numbers": ("table", MoERegressor()),
    "gaussian": ("table", MoERegressor(loss="gaussian", early_stopping=False)),
    "normalized": ("table", MoERegressor(router="top1", solver="normalized_sgd")),
    "patches": ("patches", MoEClassifier()),
    "images": ("images", MoEClassifier()),
    "experts for images": ("images", MoERegressor(expert="cnn", expert_width=4)),
}


def target_of(model):
    """Return classes or numbers, as the class of an estimator takes them."""
    return CLASSES if model is MoEClassifier else NUMBERS
