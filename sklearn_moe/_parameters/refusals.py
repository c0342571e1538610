"""What has no meaning beside other parameters: the reason of each refusal, and a way out."""

import numpy as np

from .._registry import accepts_argument, require_override
from ..nn import Head


def refuse_model(choices, kinds):
    """Refuse experts that do not suit the other parts, columns that there are not, and networks.

    `kinds` are the specs of the experts.
    """
    given, shape = choices.given, choices.data.sample_shape
    if not kinds:
        raise ValueError("expert=[] names no kind of experts. Use 'auto', or a list of names.")
    needs = f"needs experts of one kind, got expert={given['expert']!r}. Use"
    if len(kinds) > 1 and (n_shared := given["router__n_shared_experts"]):
        raise ValueError(
            f"router__n_shared_experts={n_shared!r} {needs} router__n_shared_experts=0, or a "
            "single expert."
        )
    if len(kinds) > 1 and choices.steps_by_expert:
        raise ValueError(
            f"solver={given['solver__kind']!r} {needs} solver='auto', or a single expert."
        )
    reads = [kind.name for kind in kinds if kind.columns == "piecewise"]
    if reads and not choices.is_encoded:
        raise ValueError(
            f"expert={reads[0]!r} reads the standardized columns of a table, got samples of shape "
            f"{shape}, standardize={given['standardize']!r}, trunk={choices['trunk']!r}. Use "
            "expert='mlp', or standardize='auto' and trunk=None."
        )
    if choices["standardize"] and len(shape) == 2:
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and images, "
            f"(n_samples, n_channels, height, width), got samples of shape {shape}. "
            "Use standardize='auto': the steps are in proportion to the scale of patches."
        )
    if choices.router.network is not None and not choices.is_auto("router__network"):
        raise ValueError(
            f"router={choices.router}: its scores are fixed, got router__network="
            f"{given['router__network']!r}. Use router__network='auto'."
        )


def refuse_training(choices):
    """Refuse losses and schedules that the model cannot have, and rates that weights cannot."""
    given, head, own_loss = choices.given, choices.head, choices["expert_loss_weight"]
    if choices["solver__schedule"] == "residual":
        require_override(head, Head, "error", "solver__schedule='residual'")
        if not choices.solver.per_expert:
            raise ValueError(
                "solver__schedule='residual' is made for solver='normalized_sgd', got solver="
                f"{given['solver__kind']!r}. Use solver__schedule='constant'."
            )
    if own_loss == 1 and choices.reads_vector and not choices.is_linear and choices.trains_router:
        raise ValueError(
            "expert_loss_weight=1 leaves nothing to balance or router__learning_rate: the router "
            "is learned from out-of-bag rows when the experts are trained. Use 'auto'."
        )
    if choices["early_stopping"] is True:
        require_override(head, Head, "score", "early_stopping=True")
    needs_mixture = None
    if own_loss:
        needs_mixture = f"expert_loss_weight={own_loss!r}"
    if choices["early_stopping"] == "out_of_bag" and not choices.rehearses:
        needs_mixture = "early_stopping='out_of_bag'"
    if needs_mixture and not choices.mixes:
        raise ValueError(
            f"{needs_mixture} needs a router that mixes the distributions of several experts, got "
            f"router={given['router__kind']!r} and n_experts={choices['n_experts']}. Use "
            "router='soft' and n_experts > 1, or leave it at 'auto'."
        )
    for name in choices.auto_rates:
        if choices[name] > float(np.finfo(np.float32).max):
            raise ValueError(
                f"{name}={choices[name]:.3g} is too large for float32. Lower it, or, if it was "
                "'auto', multiply X by a constant."
            )


def refuse_ignored(function, argument, parameter, value, choice, unset):
    """Refuse a parameter that would be ignored."""
    if not accepts_argument(function, argument):
        raise ValueError(
            f"{parameter}={value!r} would be ignored: {choice} takes no {argument}. "
            f"Leave {parameter} at {unset}, or pass a callable with such an argument."
        )
