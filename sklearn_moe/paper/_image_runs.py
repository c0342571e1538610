"""Images as problems of an experiment, and what is measured of a run on them."""

import hashlib
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import get_data_home
from torch.utils.flop_counter import FlopCounterMode

from .._training import Callback, StopTraining
from .._training.callbacks import Interrupts
from ..datasets import make_rotation_task
from ..preprocessing import RandomCropFlip
from ._run import Run, routes

_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # per channel, in [0, 1]


class Task(NamedTuple):
    """What makes the task of images and classes, None for the classes themselves."""

    make: Callable | None = None
    is_blurred: bool = False  # training images are, as the paper's; test images never


TASKS = {
    "cifar10": Task(),
    "rotate-paper": Task(  # of the authors' code
        partial(make_rotation_task, crop="paper", interpolation="nearest"), is_blurred=True
    ),
    "rotate-inscribed": Task(partial(make_rotation_task, crop="inscribed"), is_blurred=True),
    "rotate-symmetric": Task(
        partial(make_rotation_task, crop="inscribed", symmetric=True), is_blurred=True
    ),
}


def paper_blur(x):
    """Blur images, (n, channels, height, width), as the paper does in training.

    The kernel has 3 x 7 pixels (width x height) and a standard deviation drawn from U(1.1, 2.2)
    for every image. Blurring and scaling of channels commute, so it makes no difference that the
    paper blurs first and scales then.
    """
    sigma = torch.empty(len(x), device=x.device).uniform_(1.1, 2.2)
    work = x if x.is_floating_point() else x.to(torch.float32)
    blurred = _blurred(work, 3, 7, sigma.to(work.dtype))
    return blurred if x.is_floating_point() else blurred.round_().to(x.dtype)


def _blurred(x, width, height, sigma):
    """Return images smoothed by a kernel of odd width and height, each with a sigma of its own."""
    margins = [width // 2, width // 2, height // 2, height // 2]
    padded = torch.nn.functional.pad(x, margins, mode="reflect")
    rows = _smooth(padded, width, sigma, 3, x.shape[3])
    return _smooth(rows, height, sigma, 2, x.shape[2])


def _smooth(padded, size, sigma, dim, length):
    """Return the mean of shifted images along an axis, weighted by normal densities."""
    steps = torch.arange(size, dtype=sigma.dtype, device=sigma.device) - size // 2
    weights = torch.softmax(-((steps / sigma[:, None]) ** 2) / 2, dim=1)  # (n, size)
    # A sum over shifts lets each image have weights of its own, and takes no convolution, which
    # would round differently for other numbers of images.
    terms = (
        padded.narrow(dim, shift, length) * weight[:, None, None, None]
        for shift, weight in enumerate(weights.T)
    )
    return reduce(torch.Tensor.add_, terms)


def hide_grid(X, seed):
    """Hide the borders of JPEG's blocks of 8 by 8 pixels in uint8 images, (n, channels, h, w).

    Every image is shifted by 0 to 7 pixels in both directions, so that the borders lie anywhere,
    and blurred by a normal density of one pixel, so that the steps at them become small.
    """
    random_state = np.random.RandomState(seed)
    padded = np.pad(X, [(0, 0), (0, 0), (0, 7), (0, 7)], "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, X.shape[2:], axis=(2, 3))
    down, right = random_state.randint(8, size=(2, len(X)))
    shifted = torch.from_numpy(windows[np.arange(len(X)), :, down, right]).to(torch.float32)
    blurred = _blurred(shifted, 5, 5, torch.ones(len(X)))
    return blurred.round_().to(torch.uint8).numpy()


@dataclass(frozen=True)
class Images:
    """A task made of CIFAR-10, or of any images in folders.

    Parameters
    ----------
    setting : str
        A key of `TASKS`.
    folder : str, default=None
        Image folder with `train/<class>/*` and `test/<class>/*`. None: CIFAR-10 is fetched.
    subset : int, default=None
        Images to train on, as many of each class, before they are rotated. None: all of them.
    blur : bool, default=True
        Whether training images of the paper's rotation tasks are blurred, as there.
    padding : int, default=4
        Largest shift, in pixels, of training images where the classes themselves are the task;
        half of these are mirrored, too.
    hide_grid : bool, default=False
        Whether all images, of training and test, are shifted and blurred first, see `hide_grid`.
    """

    setting: str
    folder: str | None = None
    subset: int | None = None
    blur: bool = True
    padding: int = 4
    hide_grid: bool = False

    @property
    def transform(self):
        """Return what changes the training images at every step."""
        task = TASKS[self.setting]
        if task.make is None:
            return RandomCropFlip(self.padding)
        return paper_blur if task.is_blurred and self.blur else None

    @property
    def settings(self):
        """Return what identifies the problem; images are the same wherever they lie."""
        return {
            "task": self.setting,
            "made": TASKS[self.setting].make,
            "transform": self.transform,
            "subset": self.subset,
            "hide_grid": self.hide_grid,
            "images": "fetch_cifar10" if self.folder is None else _fingerprint(self.folder),
        }

    def draw(self, split, seed):
        """Return images, labels and original classes of a split."""
        X, classes = _load(self.folder, split, self.subset if split == "train" else None)
        if self.hide_grid:
            X = hide_grid(X, seed)
        make = TASKS[self.setting].make
        return (X, classes, classes) if make is None else make(X, classes, random_state=seed)


@cache
def _fingerprint(folder):
    """Return a hash of the names and sizes of all images."""
    files = [
        (path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in Path(folder).glob("*/*/*")
    ]
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:16]


@lru_cache(maxsize=2)  # both splits: the next run wants the same
def _load(folder, split, subset):
    from torchvision.datasets import CIFAR10, ImageFolder

    per_class = None if subset is None else subset // 10
    if folder is None:
        home = Path(get_data_home(), "cifar10")
        images = CIFAR10(home, train=split == "train", download=True)
        # The archive has channels first, as the networks do; torchvision turns it.
        X, y = np.ascontiguousarray(images.data.transpose(0, 3, 1, 2)), np.array(images.targets)
    else:
        images = ImageFolder(Path(folder, split))
        X = np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in images])
        y = np.array(images.targets)
    kept = np.sort(np.concatenate([np.flatnonzero(y == k)[:per_class] for k in np.unique(y)]))
    return X[kept], y[kept]


def _multiply_adds(module, x):
    """Return the millions of multiply-adds that one image takes."""
    x = torch.from_numpy(x).to(next(module.parameters()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops() / 2e6


class Precision(Callback):
    """What the experts are trained in, "float32" or "bf16", whatever the estimator chooses."""

    def __init__(self, precision):
        self.precision = precision

    def on_train_begin(self, net, **kwargs):
        """Choose it."""
        net.precision = self.precision


class AccuracyCurve(Callback):
    """Test accuracy after every epoch, and the seconds that each took without the test.

    Parameters
    ----------
    X, y : arrays
        The test.
    n_epochs : int, default=None
        After which the training is stopped, None: when it ends.
    """

    is_observer = True

    def __init__(self, X, y, n_epochs=None):
        self.X = X
        self.y = y
        self.n_epochs = n_epochs
        self.accuracy_ = []
        self.seconds_ = []

    def on_epoch_begin(self, net, **kwargs):
        """Look at the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Test."""
        self.seconds_.append(time.perf_counter() - self._start)
        try:
            # Ctrl-C waits: a run that goes on would lack the test of this epoch.
            with Interrupts(hold=True):
                self.accuracy_.append(100 * float(np.mean(net.predict(self.X) == self.y)))
        except KeyboardInterrupt:
            # The training tells a real one, which ends the run, by its signal.
            signal.raise_signal(signal.SIGINT)
        if len(self.accuracy_) == self.n_epochs:
            raise StopTraining


@dataclass(frozen=True, eq=False)
class ImageRun(Run):
    """A fit on images, with as many threads as there are: its test accuracy in every epoch.

    Parameters
    ----------
    unfinished : Path, default=None
        Folder of the state after the last epoch, from which the same run goes on; progress is
        shown, too. None: a run is not stored before its end.
    n_epochs : int, default=None
        After which the run is stopped, with the rates of a whole one. None: it goes to its end.
    """

    unfinished: Path | None = None
    n_epochs: int | None = None

    def fit(self, model):
        """Fit a model, and return it and what is measured of it."""
        X, y, _ = self.problem.draw("train", self.seed)
        X_test, y_test, classes = self.problem.draw("test", self.seed)
        if model.standardize is False:  # by the paper's constants instead
            from torchvision.transforms import v2

            scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)])
            X, X_test = (scale(torch.from_numpy(part)).numpy() for part in (X, X_test))
        curve = AccuracyCurve(X_test, y_test, n_epochs=self.n_epochs)
        if self.unfinished is not None:
            model.set_params(checkpoint=self.unfinished / self.key, verbose=True)
        callbacks = [*(model.callbacks or []), curve]
        model.set_params(train_transform=self.problem.transform, callbacks=callbacks)
        model.fit(X, y)
        result = {
            "fit_seconds": sum(curve.seconds_),
            "accuracy": curve.accuracy_[-1],
            "best_epoch_accuracy": max(curve.accuracy_),
            "accuracy_curve": curve.accuracy_,
            "loss_curve": model.loss_curve_,
        }
        if model.n_experts != 1:
            result |= routes(model, X_test, classes)
        if self.unfinished is not None:
            shutil.rmtree(self.unfinished / self.key)
        return model, result | {
            "multiply_adds": _multiply_adds(model.module_, X_test[:1]),
            "n_train": len(X),
            "n_test": len(X_test),
            "precision": model.net_.precision,
        }
