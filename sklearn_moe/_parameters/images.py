"""What "auto" becomes for images, X of shape (n_samples, n_channels, height, width).

The model is one network whose last layer is a mixture of all experts. On CIFAR-10 it is half a
point better than the network alone, and experts that are whole networks are worse than this one
(docs/measurements.rst).

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
max_iter               3,000 steps, at least 300 and 10 epochs, at most 60 epochs
=====================  ============================================================================
"""

import numpy as np

from ..nn import NETWORKS
from ..nn.router_parts import LinearScores, patches_shape
from .request import ModelDefaults, TrainingDefaults


def choose_model(request):
    """Return the defaults of the model."""
    # A whole network has layers of its own.
    trunk = "cnn" if request.is_auto("expert") else None
    has_trunk = request.get("trunk", trunk) is not None
    return ModelDefaults(
        trunk=trunk,
        standardize=True,
        expert="mlp" if has_trunk else "cnn",
        router="soft" if has_trunk and request.can_mix else "top1",
    )


def choose_training(request):
    """Return the defaults of the training."""
    rate, router_rate = request.rates_of_solver()
    if request.schedule == "cosine":
        # Convolutions want smaller steps.
        rate, router_rate = 0.4 * rate, 0.4 * router_rate
    # The scores of so many squares are added up.
    network = request.get("router__network", "linear")
    if NETWORKS.resolve(network) is LinearScores and request.trunk is None:
        router_rate /= patches_shape(request.data.sample_shape)[0]
    return TrainingDefaults(
        # Behind a trunk the mixture decides about a part of the loss: by the other part each
        # expert learns from all images.
        own_loss=request.own_loss(0.7),
        rate=rate,
        router_rate=router_rate,
        # More only overfit: 2,000 images of CIFAR-10 have a log loss of 2.7 after 40 epochs and of
        # 3.2 after 100, 600 of four classes 1.6 after 75 and 2.1 after 250, at equal accuracy.
        fewest_steps=300,
        most_epochs=60,
    )


def may_use_bf16(request, batch_size):
    """Tell whether mixed precision may save time on a device that is fast in it.

    It copies every weight in each step: with few images in a step this takes longer than it saves.
    Of 128 images it saves a quarter of the time of four networks, and a third of that of eight.
    """
    return request.data.dtype != np.float64 and batch_size >= 100
