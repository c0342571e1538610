"""Numbers of Chen et al. (2022), each with where it was read."""

from typing import NamedTuple

__all__ = ["TABLE_1", "TABLE_2", "Published"]


class Published(NamedTuple):
    """A published result: mean and standard deviation over the runs; None where not given."""

    accuracy: float  # test accuracy, %
    accuracy_std: float | None = None
    entropy: float | None = None  # dispatch entropy, nats
    entropy_std: float | None = None


# Table 1 (settings 1 and 2) and appendix (3 and 4). Keys: setting, kind of model, nonlinear.
# The mixtures of 8 experts are recorded in the authors' notebooks, too; the single models are
# quoted from the table. What could not be verified is left out.
TABLE_1 = {
    (1, "single", False): Published(68.71),
    (1, "single", True): Published(79.48),
    (2, "single", True): Published(72.29),
    (1, "mixture", False): Published(92.99, 2.11, 1.300, 0.044),
    (2, "mixture", False): Published(88.48, 1.96, 1.294, 0.036),
    (3, "mixture", False): Published(95.93, 1.34, 1.160, 0.100),
    (4, "mixture", False): Published(93.30, 1.48, 1.160, 0.155),
    (1, "mixture", True): Published(99.46, 0.55, 0.098, 0.087),
    (2, "mixture", True): Published(98.09, 1.27, 0.171, 0.103),
    (3, "mixture", True): Published(99.99, 0.02, 0.008, 0.011),
    (4, "mixture", True): Published(98.92, 1.18, 0.089, 0.120),
}

# Table 2, quoted from it: the best test epoch of five runs. Keys: expert, task, mixture.
TABLE_2 = {
    ("cnn", "cifar10", False): Published(80.68, 0.45),
    ("cnn", "cifar10", True): Published(80.31, 0.62),
    ("cnn", "rotate", False): Published(76.78, 1.79),
    ("cnn", "rotate", True): Published(79.60, 1.25),
    ("mobilenet_v2", "cifar10", False): Published(92.45, 0.25),
    ("mobilenet_v2", "cifar10", True): Published(92.23, 0.72),
    ("mobilenet_v2", "rotate", False): Published(85.76, 2.91),
    ("mobilenet_v2", "rotate", True): Published(89.85, 2.54),
    ("resnet18", "cifar10", False): Published(95.51, 0.31),
    ("resnet18", "cifar10", True): Published(95.32, 0.68),
    ("resnet18", "rotate", False): Published(88.23, 0.96),
    ("resnet18", "rotate", True): Published(92.60, 2.01),
}
