"""CIFAR-10."""

import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params


def _load_cifar10(folder, is_train, download):
    """Return a part of torchvision's data set; if it is missing, it may be downloaded."""
    from torchvision.datasets import CIFAR10

    try:
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn about pickles as old as these.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            return CIFAR10(folder, train=is_train, download=download)
    # A wrong checksum is a RuntimeError.
    except (OSError, RuntimeError) as error:
        remedy = "Pass download_if_missing=True, or the data_home that holds cifar10/."
        if download:
            remedy = (
                f"It could not be downloaded from {CIFAR10.url}. Put {CIFAR10.filename} into that "
                "folder and call again."
            )
        raise OSError(f"CIFAR-10 is not complete in {folder}: {error} {remedy}") from error


@validate_params(
    {
        "data_home": [str, os.PathLike, None],
        "subset": [StrOptions({"train", "test"})],
        "download_if_missing": ["boolean"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_cifar10(
    *,
    data_home: str | os.PathLike | None = None,
    subset: Literal["train", "test"] = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load CIFAR-10, and download it first if necessary (170 MB).

    60,000 color images of 32 x 32 pixels in ten classes [1]_: the same number of every class,
    50,000 for training and 10,000 for testing.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder of the data sets, which keeps this one in `cifar10/`. None: that of
        scikit-learn, :func:`sklearn.datasets.get_data_home`.

    subset : {"train", "test"}, default="train"
        Which images to load.

    download_if_missing : bool, default=True
        Whether to download the data if they are missing. If False, missing data are an error.

    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes

        data : ndarray of uint8 of shape (n_samples, 3, 32, 32)
            The images.
        target : ndarray of int of shape (n_samples,)
            The class of every image, an index into `target_names`.
        target_names : ndarray of str of shape (10,)
            The names of the classes.

    (data, target) : tuple of ndarrays
        Only if `return_X_y` is True.

    Raises
    ------
    OSError
        If the data are missing and must not or cannot be downloaded.

    See Also
    --------
    make_rotation_task : The task of the paper, whether an image is rotated.

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
    images = _load_cifar10(folder, subset == "train", download_if_missing)
    # torchvision turns the rows of the archive to channels last: turn them back.
    data = np.ascontiguousarray(images.data.transpose(0, 3, 1, 2))
    target = np.array(images.targets)
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, target_names=np.array(images.classes))
