"""The parameters of the estimators by topic, in the order of their signatures.

Those of a part (router, balance, solver) are documented by its own class, on a page of its own.
"""

import inspect

from sklearn_moe import MoEClassifier, MoERegressor

__all__ = ["TOPICS"]

_NAMES = {
    "What most people need": (
        *("n_experts", "expert", "router", "loss", "balance", "learning_rate_init", "max_iter"),
        *("early_stopping", "batch_size", "class_weight", "verbose", "random_state"),
    ),
    "The experts": ("activation", "expert_width", "trunk"),
    "Tables, patches, images": ("sample_shape", "categorical_features", "standardize"),
    "Router, loss and solver": ("top_k", "expert_loss_weight", "solver"),
    "When to stop": ("validation_fraction", "n_iter_no_change", "tol"),
    "The course of a fit": ("n_init", "warm_start", "train_transform", "callbacks", "checkpoint"),
    "The machine": ("device",),
}


def _of(estimator):
    own = inspect.signature(estimator).parameters
    return {topic: [name for name in names if name in own] for topic, names in _NAMES.items()}


# By the name of the estimator: its topics, and the names of each.
TOPICS = {estimator.__name__: _of(estimator) for estimator in (MoEClassifier, MoERegressor)}
