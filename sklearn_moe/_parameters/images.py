"""What "auto" becomes for images, X of shape (n_samples, n_channels, height, width).

The model is one network whose last layer is a mixture of all experts. On CIFAR-10 it is half a
point better than the network alone, and experts that are whole networks are worse than this one
(docs/measured.md).

=====================  ============================================================================
trunk, standardize     "cnn", or none if `expert` is set; channels get mean 0 and deviation 1
n_experts, expert      8 of "mlp"; of "cnn" without a trunk
router                 "soft"; without a trunk "top1", because all whole networks take eight times
                       as long
solver, its schedule   "adamw" with "cosine"
batch_size             200 images, more of uneven weight
expert_loss_weight     0.7 for "soft", otherwise 0
early_stopping         False
learning rates         0.002 for the experts and twice that for the router
max_iter               3,000 steps, at least 1,000 and 10 epochs, at most 150 epochs
=====================  ============================================================================
"""

import numpy as np

from ..nn import NETWORKS
from ..nn.router_parts import LinearScores, MLPScores, patches_shape
from ..nn.routers import PatchChoiceRouter

_N_EXPERTS = 8
# Behind a trunk the mixture decides about a part of the loss: by the other part each expert learns
# from all images.
_OWN_LOSS_BEHIND_TRUNK = 0.7
# Of the rates of the solver, because convolutions want smaller steps.
_LR_FACTOR = 0.4
# About 3,000 steps, no fewer for few images than 1,000.
_FEWEST_STEPS, _MOST_EPOCHS = 1000, 150
# Mixed precision copies every weight in each step. With fewer images for a network in a step this
# takes longer than it saves: an estimate.
_WORTH_BF16 = 100


def choose_model(choices):
    """Choose the experts, and the router that combines them."""
    # A whole network has layers of its own, and a router of patches looks at images, not features.
    of_patches = choices.router is not None and choices.router.router_class is PatchChoiceRouter
    shares_layers = choices.is_auto("expert") and not of_patches
    has_trunk = choices.pick("trunk", "cnn" if shares_layers else None) is not None
    choices.pick("standardize", True)
    choices.pick("n_experts", _N_EXPERTS)
    choices.pick("expert", "mlp" if has_trunk else "cnn")
    choices.pick("router__kind", "soft" if has_trunk and choices.can_mix else "top1")


def choose_training(choices):
    """Choose how the experts are trained, and when this ends."""
    choices.pick_batch_size()
    choices.pick_own_loss(_OWN_LOSS_BEHIND_TRUNK)
    choices.pick("early_stopping", False)
    rate, router_rate = choices.rates_of_solver()
    if choices.solver.schedule == "cosine":
        rate *= _LR_FACTOR
        router_rate *= _LR_FACTOR
    # The scores of so many squares are added up.
    adds_up = choices.is_auto("router__network")
    adds_up = adds_up or NETWORKS.resolve(choices["router__network"]) in (LinearScores, MLPScores)
    if adds_up and choices["trunk"] is None:
        router_rate /= patches_shape(choices.data.sample_shape)[0]
    choices.pick_rates(rate, router_rate)
    choices.pick_max_iter(_FEWEST_STEPS, _MOST_EPOCHS)


def may_use_bf16(choices):
    """Tell whether mixed precision may save time on a device that is fast in it."""
    n_per_network = choices.batch_size
    if choices["trunk"] is None and choices.router.router_class.sparse and choices["n_experts"] > 1:
        n_per_network *= choices.router.top_k / choices["n_experts"]
    return choices.data.dtype != np.float64 and n_per_network >= _WORTH_BF16
