"""CIFAR-10, by the loader of torchvision and in the manner of scikit-learn's fetchers."""

import os
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

__all__ = ["fetch_cifar10"]

_DESCR = """CIFAR-10: 60,000 color pictures of 32 x 32 pixels in ten classes.

50,000 pictures are for training and 10,000 for testing, as many of every class.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""
_IS_TRAIN = {"train": [True], "test": [False], "all": [True, False]}


def _load(folder, train, download):
    """Return torchvision's data set from a folder, downloaded before if it must and may be."""
    from torchvision.datasets import CIFAR10

    try:
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn about pickles as old as these.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            return CIFAR10(folder, train=train, download=download)
    except (OSError, RuntimeError) as error:  # torchvision: RuntimeError for a wrong checksum
        if not download:
            raise OSError(
                f"CIFAR-10 is not complete in {folder} and download_if_missing=False. Pass "
                "download_if_missing=True, or the data_home that holds cifar10/."
            ) from error
        raise OSError(
            f"CIFAR-10 is not in {folder} and could not be downloaded from {CIFAR10.url}: {error}. "
            f"Without a network, put {CIFAR10.filename} into that folder and call again, or read "
            "pictures that you have with load_image_folder."
        ) from error


@validate_params(
    {
        "data_home": [str, os.PathLike, None],
        "subset": [StrOptions(set(_IS_TRAIN))],
        "download_if_missing": ["boolean"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_cifar10(*, data_home=None, subset="train", download_if_missing=True, return_X_y=False):
    """Load CIFAR-10, and download it first if necessary (170 MB).

    60,000 color pictures of 32 x 32 pixels in ten classes [1]_: the same number of every class,
    50,000 for training and 10,000 for testing.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder of the data sets, which keeps this one in `cifar10/`. None: that of
        scikit-learn, :func:`sklearn.datasets.get_data_home`.

    subset : {"train", "test", "all"}, default="train"
        Which pictures to load; "all" are those for training and then those for testing.

    download_if_missing : bool, default=True
        Whether to download the data if they are not there. If False, this is an error.

    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes

        data : ndarray of uint8 of shape (n_samples, 3, 32, 32)
            The pictures.
        target : ndarray of int of shape (n_samples,)
            The class of every picture, an index into `target_names`.
        target_names : ndarray of str of shape (10,)
            The names of the classes.
        DESCR : str
            Description of the data set.

    (data, target) : tuple of ndarrays
        Only if `return_X_y` is True.

    Raises
    ------
    OSError
        If the data are not there and must not or cannot be downloaded.

    See Also
    --------
    load_image_folder : Pictures from a tree of folders.
    make_rotation_task : The task of the paper, whether a picture is rotated.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Examples
    --------
    >>> from sklearn_moe.datasets import fetch_cifar10
    >>> cifar10 = fetch_cifar10(subset="test")  # doctest: +SKIP
    >>> cifar10.data.shape  # doctest: +SKIP
    (10000, 3, 32, 32)
    """
    folder = Path(get_data_home(data_home)) / "cifar10"
    parts = [_load(folder, train, download_if_missing) for train in _IS_TRAIN[subset]]
    # torchvision turns the rows of the archive to channels last: turn them back.
    data = np.concatenate([part.data.transpose(0, 3, 1, 2) for part in parts])
    target = np.concatenate([part.targets for part in parts])
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, target_names=np.array(parts[0].classes), DESCR=_DESCR)
