"""The picture experiments of Table 2: data, models and what is measured of a run."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from .. import __version__
from .._classifier import MoEClassifier
from .._engine import Callback, LRScheduler
from ..datasets import fetch_cifar10, load_image_folder, make_rotation_task
from ..metrics import dispatch_entropy, routing_matrix
from ..preprocessing import RandomCropFlip, cifar10_features, paper_blur
from ._run import versions

__all__ = ["ARCHITECTURES", "TASKS", "PictureRun", "run_pictures"]

ARCHITECTURES = ("cnn", "mobilenet_v2", "resnet18")
TASKS = {  # how the rotation task is made of CIFAR-10; None: the ten classes themselves
    "cifar10": None,
    "rotate-paper": {"crop": "paper", "interpolation": "nearest"},  # the pictures of its code
    "rotate-corners": {"crop": "paper"},  # darkened corners give the label away
    "rotate-inscribed": {"crop": "inscribed"},
    "rotate-symmetric": {"crop": "inscribed", "symmetric": True},
}
_N_EXPERTS = 4
_COSINE = 200  # epochs of half a cosine


@dataclass(frozen=True)
class PictureRun:
    """One fit: its settings and nothing else.

    Parameters
    ----------
    task : str
        A key of `TASKS`.
    architecture : str
        A name in `ARCHITECTURES`.
    n_experts : int
        1 for the single network.
    seed : int
    epochs : int
    subset : int or None
        Pictures of CIFAR-10 to train on, before they are rotated; None for all 50,000.
    blur : bool, default=True
        Whether training pictures of the rotation task are blurred, as the paper's are; test
        pictures never are.
    """

    task: str
    architecture: str
    n_experts: int
    seed: int
    epochs: int
    subset: int | None = None
    blur: bool = True

    @property
    def settings(self):
        """Return the settings as a dictionary, with how the task is made and by which version."""
        return asdict(self) | {"rotation": TASKS[self.task], "sklearn_moe": __version__}


def load_cifar10(data, split, subset=None):
    """Return pictures and classes of one split: from an image folder, or fetched (data None)."""
    if data is None:
        X, y = fetch_cifar10(subset=split, return_X_y=True)
        if subset is not None:
            order = np.argsort(y, kind="stable")  # as many of each class
            rank = np.empty(len(y), dtype=int)
            rank[order] = np.arange(len(y)) - np.searchsorted(y[order], y[order])
            X, y = X[rank < subset // 10], y[rank < subset // 10]
        return X, y
    per_class = None if subset is None else subset // 10
    return load_image_folder(data, split, max_per_class=per_class, return_X_y=True)


def make_task(run, data, split):
    """Return samples, labels and the original classes of a split."""
    subset = run.subset if split == "train" else None
    X, classes = load_cifar10(data, split, subset)
    options = TASKS[run.task]
    if options is None:
        return X, classes, classes
    return make_rotation_task(X, classes, random_state=run.seed, **options)


class AccuracyCurve(Callback):
    """Test accuracy after every epoch: what the published numbers take the best of."""

    def __init__(self, X, y):
        self.X = X
        self.y = y

    def on_train_begin(self, net, **kwargs):
        """Start anew."""
        self.accuracy_ = []

    def on_epoch_end(self, net, **kwargs):
        """Test."""
        self.accuracy_.append(100 * float(net.score(self.X, self.y)))


def picture_classifier(run, device, verbose, callbacks):
    """Return the classifier of a run: the paper's hyper-parameters (section 5 and appendix A)."""
    if run.task == "cifar10":
        transform = RandomCropFlip()
    else:
        transform = paper_blur if run.blur else None
    options = {
        "expert": run.architecture,
        "batch_size": 128,
        "max_iter": run.epochs,
        "tol": None,
        "balance": "switch",
        "balance_weight": 0.01,
        "train_transform": transform,
        "device": device,
        "verbose": verbose,
        "random_state": run.seed,
    }
    if run.architecture == "cnn":
        options |= {"solver": "adam", "learning_rate_init": 0.001}
    else:
        options |= {"learning_rate_init": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
        options |= {"router_learning_rate_init": 1e-4, "learning_rate": "constant"}
        options["solver"] = "sgd" if run.n_experts == 1 else "normalized_sgd"
        callbacks = [*callbacks, LRScheduler("CosineAnnealingLR", T_max=_COSINE)]
    return MoEClassifier(run.n_experts, callbacks=callbacks, **options)


def run_pictures(run, data=None, *, device="auto", verbose=0):
    """Fit, test and return what there is to say, as plain numbers."""
    scale = cifar10_features(crop=32)["scale"]  # the task has cropped already
    X, y, _ = make_task(run, data, "train")
    X_test, y_test, groups = make_task(run, data, "test")
    X, X_test = scale.fit_transform(X), scale.transform(X_test)
    curve = AccuracyCurve(X_test, y_test)
    clf = picture_classifier(run, device, verbose, [curve])
    start = time.perf_counter()
    clf.fit(X, y)
    seconds = time.perf_counter() - start
    experts = clf.apply(X_test)
    proba = clf.predict_proba(X_test)
    return {
        "accuracy": 100 * float((clf.classes_[proba.argmax(1)] == y_test).mean()),
        "best_accuracy": max(curve.accuracy_),
        "accuracy_curve": curve.accuracy_,
        "loss_curve": clf.loss_curve_,
        "entropy": dispatch_entropy(groups, experts),
        "dispatch": routing_matrix(groups, experts, n_experts=run.n_experts).tolist(),
        "load": clf.expert_load_.tolist(),
        "n_train": len(X),
        "n_test": len(X_test),
        "seconds": seconds,
        "device": str(clf.net_.device),
        "precision": clf.net_.precision,
        "versions": versions(),
    }
