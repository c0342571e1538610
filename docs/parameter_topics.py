"""The parameters of the estimators by topic, and what people search for: for the pages of the API.

The first topic has what the guide tells to tune, and what any estimator has. The parameters of a
part (router, balance, solver) are documented by its class, on a page of its own.
"""

import inspect

from sklearn_moe import MoEClassifier, MoERegressor

__all__ = ["INDEX_ENTRIES", "TOPICS"]

_NAMES = {
    "What most people set": (
        *("n_experts", "expert", "expert_loss_weight", "expert_width", "activation", "router"),
        *("balance", "solver", "loss", "class_weight", "verbose", "random_state"),
    ),
    "Tables, patches, images": ("categorical_features", "standardize", "sample_shape"),
    "The network": ("trunk", "top_k"),
    "Steps and stopping": (
        *("learning_rate_init", "batch_size", "max_iter", "early_stopping"),
        *("validation_fraction", "n_iter_no_change", "tol"),
    ),
    "Starts, callbacks, checkpoints": (
        "warm_start",
        "train_transform",
        "callbacks",
        "checkpoint",
    ),
    "Device": ("device",),
}


def _of(estimator):
    own = inspect.signature(estimator).parameters
    return {topic: [name for name in names if name in own] for topic, names in _NAMES.items()}


# By the name of the estimator: its topics, and the names of each.
TOPICS = {estimator.__name__: _of(estimator) for estimator in (MoEClassifier, MoERegressor)}

# By the class or method that has it. Pages of the guide have entries of their own.
_OF_BOTH = ["missing values", "categorical features", "early stopping", "sample weight"]
INDEX_ENTRIES = {
    "MoEClassifier": ["class weight", "imbalanced data", *_OF_BOTH],
    "MoERegressor": _OF_BOTH,
    "MoERegressor.predict_interval": ["confidence interval", "prediction interval"],
    "MoERegressor.predict_quantiles": ["quantile regression"],
    "MixtureRegressor": ["regimes", "stacking", "clusterwise regression", "flexmix"],
    "MixtureClassifier": ["regimes", "stacking"],
}
