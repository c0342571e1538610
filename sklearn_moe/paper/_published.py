"""Numbers of Chen et al. (2022), each with where it was read."""

from itertools import product
from typing import NamedTuple

_LINEAR, _CUBIC = "linear", "cubic"


class Published(NamedTuple):
    """A published result: mean and standard deviation over the runs; None where not given."""

    accuracy: float | None  # test accuracy, %
    accuracy_std: float | None = None
    entropy: float | None = None  # dispatch entropy, nats
    entropy_std: float | None = None
    grade: str = "quoted"  # from the paper by others, or "recorded" in the authors' notebooks
    best_epoch_accuracy: float | None = None  # the best on the test images
    best_epoch_accuracy_std: float | None = None
    alike: bool = True  # False: ours was run otherwise, and need not lie inside
    runs: int = 10  # behind a standard deviation

    def value(self, measure):
        """Return (mean, std) of a measure, None if there is none."""
        mean = getattr(self, measure, None)
        return None if mean is None else (mean, getattr(self, f"{measure}_std", None))


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
    (1, "mixture", True): Published(99.46, 0.55, 0.098, 0.088),
    (2, "mixture", True): Published(98.09, 1.27, 0.171, 0.103),
    (3, "mixture", True): Published(99.99, 0.02, 0.008, 0.011),
    (4, "mixture", True): Published(98.92, 1.18, 0.089, 0.120),
}

# What the authors' notebook of setting 2 recorded, which is not what their table says.
NOTEBOOK = {
    (2, "mixture", False): Published(89.49, 1.35, 1.262, 0.095, "recorded"),
    (2, "mixture", True): Published(98.10, 1.56, 0.183, 0.144, "recorded"),
}

# Load balancing on setting 1. Keys: nonlinear, balanced.
BALANCE = {
    (False, False): TABLE_1[1, "mixture", False],
    (False, True): Published(93.81, 1.10, 1.272, 0.037),
    (True, False): TABLE_1[1, "mixture", True],
    (True, True): Published(99.39, 0.33, 0.083, 0.095),
}

# Test accuracy of single models, one run each. Keys: setting, activation, number of filters.
_SINGLES = {  # settings 1 to 4
    (_LINEAR, 80): (68.3, 68.2, 74.3, 74.3),
    (_CUBIC, 80): (79.6, 77.4, 73.7, 70.3),
    (_LINEAR, 128): (70.9, 69.6, 74.8, 74.6),
    (_CUBIC, 128): (78.5, 74.0, 72.7, 68.6),
    (_LINEAR, 512): (68.9, 63.0, 74.5, 73.0),
    (_CUBIC, 512): (72.6, 52.1, 67.8, 61.7),
}
SINGLES = {
    (setting, activation, filters): Published(accuracy, grade="recorded")
    for (activation, filters), accuracies in _SINGLES.items()
    for setting, accuracy in zip((1, 2, 3, 4), accuracies, strict=True)
}

# The same with 128 filters, other activations. Keys: setting, activation.
_ACTIVATIONS = {
    "verify": (74.54, 72.69, 74.49, 76.91, 74.01, 74.76),
    1: (65.87, 75.53, 72.28, 81.75, 79.04, 81.72),
    2: (66.68, 74.52, 80.11, 78.99, 82.01, 81.03),
}
ACTIVATIONS = {
    (setting, activation): Published(accuracy, grade="recorded")
    for setting, accuracies in _ACTIVATIONS.items()
    for activation, accuracy in zip(
        (_LINEAR, _CUBIC, "relu", "celu", "gelu", "tanh"), accuracies, strict=True
    )
}

# Figure 3: dispatch entropy in nats by step, recorded means of ten runs without an early stop, and
# standard deviations at two steps; they divide by n, as all others here. Keys: setting, activation.
_STEPS = (0, 10, 25, 50, 75, 100, 150, 200, 300, 500)
ENTROPY_CURVES = {
    key: (_STEPS, entropies)
    for key, entropies in {
        (1, _CUBIC): (1.386, 1.386, 1.376, 0.705, 0.347, 0.234, 0.118, 0.120, 0.130, 0.135),
        (2, _CUBIC): (1.385, 1.385, 1.377, 0.720, 0.405, 0.278, 0.215, 0.220, 0.237, 0.257),
        (1, _LINEAR): (1.386, 1.367, 1.258, 1.188, 1.204, 1.219, 1.240, 1.254, 1.270, 1.285),
        (2, _LINEAR): (1.385, 1.369, 1.214, 1.123, 1.129, 1.135, 1.145, 1.154, 1.168, 1.191),
    }.items()
}
ENTROPY_STDS = {
    (1, _CUBIC): {50: 0.176, 500: 0.093},
    (2, _CUBIC): {50: 0.094, 500: 0.096},
    (1, _LINEAR): {50: 0.090, 500: 0.051},
    (2, _LINEAR): {50: 0.099, 500: 0.077},
}

# Table 2, quoted from it: the best test epoch of five runs. Keys: task, expert and model.
_BEST_EPOCHS = {  # single and mixture on CIFAR-10, single and mixture on CIFAR-10-Rotate
    "cnn": ((80.68, 0.45), (80.31, 0.62), (76.78, 1.79), (79.60, 1.25)),
    "mobilenet_v2": ((92.45, 0.25), (92.23, 0.72), (85.76, 2.91), (89.85, 2.54)),
    "resnet18": ((95.51, 0.31), (95.32, 0.68), (88.23, 0.96), (92.60, 2.01)),
}
TABLE_2 = {
    (task, f"{expert} {model}"): Published(
        None, best_epoch_accuracy=mean, best_epoch_accuracy_std=std, runs=5
    )
    for expert, accuracies in _BEST_EPOCHS.items()
    for (task, model), (mean, std) in zip(
        product(("cifar10", "rotate-paper"), ("single", "mixture")), accuracies, strict=True
    )
}
