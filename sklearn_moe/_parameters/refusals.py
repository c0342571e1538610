"""What has no meaning beside other parameters is refused, with the reason and a way out."""

import numpy as np

from .. import nn
from .._registry import require_override

_REMEDIES = {
    "X": "Kinds that are estimators, or read columns of their own, are for tables, X of shape "
    "(n_samples, n_features).",
    "n_experts": "Each kind is one expert: leave n_experts at 'auto', or use fewer.",
}


def refuse_kinds(request, obstacle):
    """Refuse kinds of experts that would have to be a pool, by what keeps them from being one."""
    if not request.given["expert"]:
        raise ValueError("expert=[] names no kind of experts. Use 'auto', or a list of names.")
    seen = {
        "X": f"samples of shape {request.data.sample_shape}",
        "n_experts": f"n_experts={request.given['n_experts']!r}",
    }.get(obstacle, f"{obstacle} that keeps them from being weighed so")
    remedy = _REMEDIES.get(obstacle, f"Leave {obstacle} at its default, or use a single kind.")
    raise ValueError(
        f"expert={request.given['expert']!r} names kinds of experts that are fitted one after the "
        f"other, and weighed by a router that is learned after them, got {seen}. {remedy}"
    )


def refuse_model(request, kinds, standardize):
    """Refuse experts that do not suit the other parts, columns that there are not, and networks.

    `kinds` are the specs of the experts.
    """
    given, shape = request.given, request.data.sample_shape
    needs = f"needs experts of one kind, got expert={given['expert']!r}. Use"
    if len(kinds) > 1 and (n_shared := given["router__n_shared_experts"]):
        raise ValueError(
            f"router__n_shared_experts={n_shared!r} {needs} router__n_shared_experts=0, or a "
            "single expert."
        )
    if len(kinds) > 1 and request.steps_by_expert:
        raise ValueError(
            f"solver={given['solver__kind']!r} {needs} solver='auto', or a single expert."
        )
    is_encoded = request.data.is_table and request.trunk is None and standardize
    reads = [kind.name for kind in kinds if kind.columns == "piecewise"]
    if reads and not is_encoded:
        raise ValueError(
            f"expert={reads[0]!r} reads the standardized columns of a table, got samples of shape "
            f"{shape}, standardize={given['standardize']!r}, trunk={request.trunk!r}. Use "
            "expert='mlp', or standardize='auto' and trunk=None."
        )
    if standardize and len(shape) == 2:
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and images, "
            f"(n_samples, n_channels, height, width), got samples of shape {shape}. "
            "Use standardize='auto': the steps are in proportion to the scale of patches."
        )
    if request.router.network is not None and not request.is_auto("router__network"):
        raise ValueError(
            f"router={request.router}: its scores are fixed, got router__network="
            f"{given['router__network']!r}. Use router__network='auto'."
        )


def refuse_training(request, choices, auto_rates):
    """Refuse losses and schedules that the model cannot have, and rates that weights cannot."""
    given, head, own_loss = request.given, request.head, choices["expert_loss_weight"]
    if request.schedule == "residual":
        require_override(head, nn.Head, "error", "solver__schedule='residual'")
        if not request.solver.per_expert:
            raise ValueError(
                "solver__schedule='residual' is made for solver='normalized_sgd', got solver="
                f"{given['solver__kind']!r}. Use solver__schedule='constant'."
            )
    if own_loss == 1 and request.reads_vector and not request.is_linear and request.trains_router:
        raise ValueError(
            "expert_loss_weight=1 leaves nothing to balance or router__learning_rate: the router "
            "is learned from out-of-bag rows when the experts are trained. Use 'auto'."
        )
    if choices["early_stopping"] is True:
        require_override(head, nn.Head, "score", "early_stopping=True")
    needs_mixture = None
    if own_loss and not request.is_pool:
        needs_mixture = f"expert_loss_weight={own_loss!r}"
    if choices["early_stopping"] == "out_of_bag" and not (request.rehearses or request.is_pool):
        needs_mixture = "early_stopping='out_of_bag'"
    if needs_mixture and not request.mixes:
        raise ValueError(
            f"{needs_mixture} needs a router that mixes the distributions of several experts, got "
            f"router={given['router__kind']!r} and n_experts={choices['n_experts']}. Use "
            "router='soft' and n_experts > 1, or leave it at 'auto'."
        )
    for name in auto_rates:
        if choices[name] > float(np.finfo(np.float32).max):
            raise ValueError(
                f"{name}={choices[name]:.3g} is too large for float32. Lower it, or, if it was "
                "'auto', multiply X by a constant."
            )


def refuse_ignored(argument, parameter, value, choice, unset):
    """Refuse an argument that a factory does not take."""
    raise ValueError(
        f"{parameter}={value!r} would be ignored: {choice} takes no {argument}. "
        f"Leave {parameter} at {unset}, or pass a callable with such an argument."
    )
