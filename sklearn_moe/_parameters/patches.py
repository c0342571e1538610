"""What "auto" becomes for bags of patches, X of shape (n_samples, n_patches, patch_size).

The model is that of the paper: a router chooses one of several patch experts. With 500 samples of
the paper's setting 1 it is right for 99 % of new ones, as no other model is (docs/measured.md).

=====================  ============================================================================
trunk, standardize     none; the steps are in proportion to the scale of patches
n_experts, expert      8 of "patch"; of "mlp" behind a trunk
router                 "top1"; "soft" behind a trunk
solver, its schedule   "normalized_sgd" with "residual": without it 95.9 in place of 99.5 % on the
                       paper's setting 2
batch_size             1,024 samples, more of uneven weight
expert_loss_weight     0, or 0.7 for "soft" behind a trunk
early_stopping         False
learning rates         0.06 / r for the experts and 1 / r^2 for the router, with r the root mean
                       square norm of the patches
max_iter               1,000 epochs, until the loss ceases to fall; 150 for regression
=====================  ============================================================================
"""

from ..nn.routers import PatchChoiceRouter

_N_EXPERTS = 8
# The router "patch_choice" has to be fast, or experts that compute all samples learn features of
# all clusters: 99.6 % on setting 1 from 4,000 samples, with the usual rate and two patches 71 %.
_PATCH_CHOICE_LR_FACTOR = 8
# Behind a trunk the mixture decides about a part of the loss, as for images.
_OWN_LOSS_BEHIND_TRUNK = 0.7
# Of the schedule "cosine", as for images.
_FEWEST_STEPS, _MOST_EPOCHS = 1000, 150


def choose_model(choices):
    """Choose the experts, and the router that combines them."""
    has_trunk = choices.pick("trunk", None) is not None
    choices.pick("standardize", False)
    choices.pick("n_experts", _N_EXPERTS)
    choices.pick("expert", "mlp" if has_trunk else "patch")
    choices.pick("router__kind", "soft" if has_trunk and choices.can_mix else "top1")


def choose_training(choices):
    """Choose how the experts are trained, and when this ends."""
    choices.pick_batch_size()
    choices.pick_own_loss(_OWN_LOSS_BEHIND_TRUNK)
    choices.pick("early_stopping", False)
    rate, router_rate = choices.rates_of_solver()
    if choices.solver.scale_by_input_norm and choices.router.router_class is PatchChoiceRouter:
        router_rate *= _PATCH_CHOICE_LR_FACTOR
    choices.pick_rates(rate, router_rate)
    choices.pick_max_iter(_FEWEST_STEPS, _MOST_EPOCHS)
