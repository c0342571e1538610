"""What values the parameters of a mixture may take, and which of them make its weights."""

import os
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .checkpoints import FitCheckpoint
from .nn import ExpertSpec, LossSpec, Preset
from .optim import SolverSpec

__all__ = ["ARCHITECTURE", "CONSTRAINTS"]

_AUTO = StrOptions({"auto"})

CONSTRAINTS = {
    "n_experts": [Interval(Integral, 1, None, closed="left")],
    "expert": [str, callable, ExpertSpec],
    "activation": [str, callable],
    "trunk": [str, callable, None],
    "n_shared_experts": [Interval(Integral, 0, None, closed="left")],
    "expert_width": [Interval(Integral, 1, None, closed="left"), None],
    "loss": [str, callable, LossSpec],
    "sample_shape": ["array-like", None],
    "router": [str, callable, Preset],
    "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
    "standardize": [_AUTO, "boolean"],
    "expert_loss_weight": [_AUTO, Interval(Real, 0, 1, closed="both")],
    "top_k": [_AUTO, Interval(Integral, 1, None, closed="left")],
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
    "max_iter": [_AUTO, Interval(Integral, 1, None, closed="left")],
    "batch_size": [_AUTO, Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": [StrOptions({"auto", "out_of_bag"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
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
