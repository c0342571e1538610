"""Images from folders of files, and CIFAR-10."""

import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

_SUFFIXES = (".jpeg", ".jpg", ".png")


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
                "folder and call again, or read images that you have with load_image_folder."
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
    load_image_folder : Images from a tree of folders.
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


@validate_params(
    {"root": [str, os.PathLike], "split": [str], "return_X_y": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    root: str | os.PathLike, split: str = "train", *, return_X_y: bool = False
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the images of one split from a tree of folders.

    Reads the files `root/<split>/<class>/*` that end in .png, .jpg or .jpeg, in upper or lower
    case, and converts them to RGB. An image whose EXIF data say that it was taken with the camera
    turned is shown upright, as viewers do. Hidden files and folders are left out.

    Parameters
    ----------
    root : str or path-like
        The folder that holds the splits.

    split : str, default="train"
        The name of the split: the folder in `root` to read.

    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes

        data : ndarray of uint8 of shape (n_samples, 3, height, width)
            The images, class after class and in the order of their names.
        target : ndarray of int of shape (n_samples,)
            The class of every image, an index into `target_names`.
        target_names : ndarray of str of shape (n_classes,)
            The names of the classes of all splits in `root`, in alphabetic order. So a class has
            the same index in every split.
        filenames : ndarray of str of shape (n_samples,)
            The file of every image.

    (data, target) : tuple of ndarrays
        Only if `return_X_y` is True.

    Raises
    ------
    FileNotFoundError
        If there is no folder `root`.

    ValueError
        If `root` has no such split, the split has no class folders, a class folder has no
        images, an image holds more than 8 bits per value or the images differ in size.

    OSError
        If an image is damaged.

    See Also
    --------
    fetch_cifar10 : CIFAR-10 from its own archive.
    make_rotation_task : Which image is rotated? Two classes; the old classes are clusters in them.

    Examples
    --------
    Two images in a temporary folder:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sklearn_moe.datasets import load_image_folder
    >>> with TemporaryDirectory() as root:
    ...     for name in ("black", "white"):
    ...         folder = Path(root, "train", name)
    ...         folder.mkdir(parents=True)
    ...         Image.new("RGB", (6, 4), name).save(folder / "1.png")
    ...     images = load_image_folder(root)
    >>> images.data.shape, images.data[:, 0, 0, 0], images.target
    ((2, 3, 4, 6), array([  0, 255], dtype=uint8), array([0, 1]))
    >>> images.target_names
    array(['black', 'white'], dtype='<U5')
    """
    root = Path(root)
    splits = {folder.name: _folders(folder) for folder in _folders(root)}
    if not splits.get(split):
        raise ValueError(
            f"{root / split} holds no class folders; the splits in {root} are {list(splits)}. Pass "
            "one of them as split, with the images of every class in a folder of their own, as in "
            "root/train/cat/1.png."
        )
    names = sorted({folder.name for folders in splits.values() for folder in folders})
    files, target = [], []
    for folder in splits[split]:
        images = [path for path in _visible(folder) if path.suffix.lower() in _SUFFIXES]
        if not images:
            raise ValueError(
                f"The class folder {folder} holds no image, that is no file that ends in "
                f"{', '.join(_SUFFIXES)}. Add images or remove the folder."
            )
        files += images
        target += [names.index(folder.name)] * len(images)

    shape = _read_rgb(files[0]).shape
    data = np.empty((len(files), *shape), dtype=np.uint8)
    for row, path in enumerate(files):
        image = _read_rgb(path)
        if image.shape != shape:
            raise ValueError(
                f"All images must have the same size, but {files[0]} has {shape[1]} x {shape[2]} "
                f"pixels and {path} has {image.shape[1]} x {image.shape[2]} (height x width). "
                "Write a copy of the folder in one size, for instance with PIL.Image.Image.resize."
            )
        data[row] = image
    target = np.array(target)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(names),
        filenames=np.array([str(path) for path in files]),
    )


def _visible(folder):
    """Return what is in a folder and not hidden, in the order of names."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _folders(parent):
    return [path for path in _visible(parent) if path.is_dir()]


def _read_rgb(path):
    """Return an image as an array of shape (3, height, width), upright as its EXIF data say."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            mode = image.mode
            if mode[0] not in "IF":  # I, I;16, F and the like have more than 8 bits
                upright = ImageOps.exif_transpose(image)
                return np.asarray(upright.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a damaged PNG
        raise OSError(f"The image {path} cannot be read: {error}. Replace or remove it.") from error
    raise ValueError(
        f"The image {path} holds 16-bit values or floats (Pillow's mode {mode}), which RGB would "
        "clip to white. Write 8-bit images."
    )
