"""The mixture of experts in plain torch: experts, routers, balancing, dispatch and heads."""

from .experts import EXPERTS, CNNExpert, ExpertSpec, LinearExpert, MLPExpert, PatchExpert
from .functional import ACTIVATIONS, weighted_mean
from .heads import LOSSES, Head, LossSpec, RegressionHead
from .mixture import TRUNKS, MixtureOfExperts, Pool, build_mixture
from .predictor import Predictor
from .router_parts import BALANCES, NETWORKS, Balance, Route, Scores
from .routers import ROUTERS, Router, RouterSpec, SoftRouter, TopKRouter

# fmt: off
__all__ = [  # noqa: RUF022
    # parts by name, and how they are described
    "ACTIVATIONS", "BALANCES", "EXPERTS", "LOSSES", "NETWORKS", "ROUTERS", "TRUNKS", "ExpertSpec",
    "LossSpec", "RouterSpec",
    # base classes of your own parts
    "Balance", "Head", "RegressionHead", "Route", "Router", "Scores",
    # parts that may be subclassed or built directly
    "CNNExpert", "LinearExpert", "MLPExpert", "PatchExpert", "Pool", "SoftRouter", "TopKRouter",
    # the whole
    "MixtureOfExperts", "Predictor", "build_mixture", "weighted_mean",
]
# fmt: on
