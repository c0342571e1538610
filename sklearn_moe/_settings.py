"""What "auto" means: the one place where the shape and scale of X choose settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .nn import EXPERTS

__all__ = ["Settings", "resolve_settings"]

_EXPERT_BY_NDIM = {2: "mlp", 3: "patch", 4: "cnn"}

_DEFAULTS = {
    "patch": {"activation": "cubic", "solver": "normalized_sgd"},
    "patch_conv": {"activation": "cubic", "solver": "normalized_sgd"},
    "mlp": {"activation": "relu", "solver": "adam"},
    "cnn": {"activation": "relu", "solver": "adam"},
    "resnet18": {"activation": "relu", "solver": "adam"},
    "resnet18_gn": {"activation": "relu", "solver": "adam"},
    "mobilenet_v2": {"activation": "relu", "solver": "adam"},
    "mobilenet_v2_gn": {"activation": "relu", "solver": "adam"},
}
_LEARNING_RATE = {"adam": 1e-3, "sgd": 1e-2}
_ROUTER_LEARNING_RATE = {"adam": 3e-4, "sgd": 1e-2}  # slower: experts first learn what they share

# The patch expert of unit patches: pre-activations start near 0.001 and a normalized step
# moves them by 0.06; the router follows its gradient as it is.
_PATCH_INIT, _PATCH_STEP, _PATCH_ROUTER_STEP = 1e-3, 0.06, 1.0


@dataclass(frozen=True)
class Settings:
    """The settings of one fit, every "auto" resolved."""

    expert: Any
    expert_options: dict[str, Any]
    router_options: dict[str, Any]
    solver: str
    pace: str
    learning_rate: float
    router_learning_rate: float
    batch_size: int
    device: str
    precision: str

    @property
    def architecture(self):
        """Return what must stay the same for old weights to make sense."""
        options = self.expert_options | self.router_options
        ours = {"init_scale", "init_std", "balance_weight", "hashed"}
        return {"expert": self.expert, **{k: v for k, v in options.items() if k not in ours}}


def _rms_norm(X, weight):
    """Return the root mean square of the Euclidean norms of the patches, 1 if all are zero."""
    flat = X.reshape(len(X), -1)
    squares = np.einsum("nf,nf->n", flat, flat) / X.shape[1]
    return float(np.sqrt(np.average(squares, weights=weight))) or 1.0


def _router_init_std(X, scale):
    """Return the deviation of router weights that makes initial scores of about 1."""
    if X.ndim == 3:  # the sum of unrelated patches
        return 1 / (scale * np.sqrt(X.shape[1]))
    return 1 / np.sqrt(np.prod(X.shape[1:]))


def _precision(precision, X, device):
    """Return the precision of training; "auto" is mixed for images where it is fast."""
    if X.ndim == 4 and X.dtype != np.float64:
        if precision == "auto":
            return "bf16" if _is_fast_in_bf16(torch.device(device)) else "float32"
        return precision
    if precision == "bf16":
        raise ValueError(
            f"precision='bf16' is for images of float32 or uint8, got X of {X.ndim} axes and type "
            f"{X.dtype}. Use precision='auto'."
        )
    return "float32"


def _is_fast_in_bf16(device):
    """Whether a GPU has tensor cores for bf16; older ones only say that they support it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def _batch_size(solver, n_samples):
    if solver == "normalized_sgd":  # a noisy direction is as long a step as a good one
        return 1024
    return min(200, max(32, n_samples // 4))


def resolve_settings(estimator, X, weight):
    """Return the settings of `estimator` for samples X, (n_samples, *input_shape).

    The default steps of the patch expert are inversely proportional to the scale of X (those
    of the router to its square), so that multiplying X by a constant changes nothing.
    """
    expert = estimator.expert
    if expert == "auto":
        expert = _EXPERT_BY_NDIM[X.ndim]
    registered = isinstance(expert, str) and expert in EXPERTS
    defaults = _DEFAULTS[expert if registered else _EXPERT_BY_NDIM[X.ndim]]
    is_patch = registered and expert in ("patch", "patch_conv")

    def pick(name, default):
        value = getattr(estimator, name)
        return default if isinstance(value, str) and value == "auto" else value

    solver = pick("solver", defaults["solver"] if registered else "adam")
    scale = _rms_norm(X, weight) if X.ndim == 3 else 1.0
    learning_rate = _LEARNING_RATE.get(solver, _PATCH_STEP / scale)
    router_rate = _ROUTER_LEARNING_RATE.get(solver, _PATCH_ROUTER_STEP / scale**2)
    init_scale = _PATCH_INIT * np.sqrt(3 * X.shape[-1]) / scale if is_patch else 1.0
    options = {}
    if registered:
        options["activation"] = pick("activation", defaults["activation"])
        options["init_scale"] = float(pick("init_scale", init_scale))
        if estimator.expert_width is not None:
            options["width"] = estimator.expert_width
    batch_size = pick("batch_size", _batch_size(solver, len(X)))
    device = pick("device", "cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "mps":
        raise ValueError(
            "device='mps' does not compute in float64, in which routes are decided. Use 'cpu'."
        )
    router_options = {
        "network": estimator.router_network,
        "top_k": estimator.top_k,
        "gate": estimator.gate,
        "noise": estimator.router_noise,
        # scikit-learn wants a sample of weight 2 to be the sample twice, of tables above all.
        "hashed": X.ndim == 2,
        "balance_weight": estimator.balance_weight,
        "dense_gradient": estimator.dense_gradient,
        "init_std": _router_init_std(X, scale),
    }
    return Settings(
        expert=expert,
        expert_options=options,
        router_options=router_options,
        solver=solver,
        pace=pick("learning_rate", "residual" if solver == "normalized_sgd" else "constant"),
        learning_rate=pick("learning_rate_init", learning_rate),
        router_learning_rate=pick("router_learning_rate_init", router_rate),
        batch_size=len(X) if batch_size is None else min(batch_size, len(X)),
        device=device,
        precision=_precision(estimator.precision, X, device),
    )
