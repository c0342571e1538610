"""What values the parameters of a mixture may take, and which of them make its weights."""

import os
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ._validation import Count
from .checkpoints import FitCheckpoint
from .nn import ExpertSpec, LossSpec, Preset
from .optim import SolverSpec

__all__ = ["ARCHITECTURE", "CONSTRAINTS"]

_AUTO = StrOptions({"auto"})

CONSTRAINTS = {
    "n_experts": [Count(1)],
    "expert": [str, callable, ExpertSpec],
    "activation": [str, callable],
    "trunk": [str, callable, None],
    "n_shared_experts": [Count(0)],
    "expert_width": [Count(1), None],
    "loss": [str, callable, LossSpec],
    "sample_shape": ["array-like", None],
    "router": [str, callable, Preset],
    "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
    "standardize": [_AUTO, "boolean"],
    "expert_loss_weight": [_AUTO, Interval(Real, 0, 1, closed="both")],
    "top_k": [_AUTO, Count(1)],
    "router_network": [str, callable],
    "router_noise": [str, callable, None],
    "gate": [str, callable],
    "balance": [str, callable, None],
    "balance_weight": [Interval(Real, 0, None, closed="left")],
    "solver": [str, callable, SolverSpec],
    "learning_rate": [StrOptions({"auto", "constant", "cosine", "residual"})],
    "learning_rate_init": [_AUTO, Interval(Real, 0, None, closed="neither")],
    "router_learning_rate_init": [_AUTO, Interval(Real, 0, None, closed="left")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "upcycle": [Interval(Real, 0, 1, closed="left")],
    "max_iter": [_AUTO, Count(1)],
    "batch_size": [_AUTO, Count(1), None],
    "early_stopping": [StrOptions({"auto", "out_of_bag"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Count(1)],
    "tol": [_AUTO, Interval(Real, 0, None, closed="left"), None],
    "warm_start": ["boolean"],
    "train_transform": [callable, None],
    "callbacks": [list, tuple, None],
    "checkpoint": [str, os.PathLike, FitCheckpoint, None],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "bf16"})],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}

# What must stay the same for weights to make sense.
ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "trunk", "n_shared_experts"),
    *("loss", "standardize"),
    *("router", "top_k", "router_network", "router_noise", "gate", "balance"),
)
