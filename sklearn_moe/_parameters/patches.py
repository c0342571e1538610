"""What "auto" becomes for bags of patches, X of shape (n_samples, n_patches, patch_size).

The model is that of the paper: a router chooses one of several patch experts. With 500 samples of
the paper's setting 1 it is right for 99 % of new ones, and no other model is
(docs/measurements.rst).

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

from .request import ModelDefaults, TrainingDefaults


def choose_model(request):
    """Return the defaults of the model."""
    has_trunk = request.get("trunk", None) is not None
    return ModelDefaults(
        trunk=None,
        standardize=False,
        expert="mlp" if has_trunk else "patch",
        router="soft" if has_trunk and request.can_mix else "top1",
    )


def choose_training(request):
    """Return the defaults of the training."""
    rate, router_rate = request.rates_of_solver()
    return TrainingDefaults(
        # Behind a trunk the mixture decides about a part of the loss, as for images.
        own_loss=request.own_loss(0.7),
        rate=rate,
        router_rate=router_rate,
    )
