"""Pictures in a tree of folders: one folder per split, in it one folder per class."""

import os
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from .._compat import progress_bar
from .._validation import Count

__all__ = ["load_image_folder"]

_SUFFIXES = (".jpeg", ".jpg", ".png")


def _folders(parent):
    """Return the visible folders in a folder, in the order of their names."""
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(folder):
    """Return the pictures in the folder of one class, in the order of their names."""
    pictures = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )
    if not pictures:
        raise ValueError(
            f"The class folder {folder} holds no picture, that is no file that ends in "
            f"{', '.join(_SUFFIXES)}. Add pictures or remove the folder."
        )
    return pictures


def _find_classes(root, split):
    """Return the class folders of a split and the names of the classes of all splits."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {root}. Pass the folder that holds the splits, as in "
            "root/train/cat/1.png."
        )
    splits = {folder.name: _folders(folder) for folder in _folders(root)}
    if split not in splits:
        raise ValueError(
            f"There is no split {split!r} in {root}, which holds {list(splits)}. Pass one of them "
            "as split, or the folder above as root if these are the classes."
        )
    if not splits[split]:
        raise ValueError(
            f"The split {root / split} holds no class folders. Put the pictures of every class "
            "into a folder of their own, as in root/train/cat/1.png."
        )
    return splits[split], sorted({folder.name for found in splits.values() for folder in found})


def _read(path):
    """Return a picture as an array of shape (3, h, w), turned as its file says."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            mode = picture.mode
            if mode[0] not in "IF":  # I, I;16, F and the like have more than 8 bits
                upright = ImageOps.exif_transpose(picture)
                return np.asarray(upright.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a damaged PNG
        raise OSError(
            f"The picture {path} cannot be read: {error}. Replace or remove it."
        ) from error
    raise ValueError(
        f"The picture {path} holds 16-bit values or floats (Pillow's mode {mode}), which RGB would "
        "clip to white. Write 8-bit pictures."
    )


@validate_params(
    {
        "root": [str, os.PathLike],
        "split": [str],
        "return_X_y": ["boolean"],
        "max_per_class": [Count(1), None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(root, split="train", *, return_X_y=False, max_per_class=None, verbose=0):
    """Load the pictures of one split from a tree of folders.

    Reads the files `root/<split>/<class>/*` that end in .png, .jpg or .jpeg, in upper or lower
    case, and converts them to RGB. A picture whose EXIF data say that it was taken with the camera
    turned is shown upright, as viewers do. Hidden files and folders are left out.

    Parameters
    ----------
    root : str or path-like
        The folder that holds the splits.

    split : str, default="train"
        The name of the split: the folder in `root` to read.

    return_X_y : bool, default=False
        Whether to return `(data, target)` instead of a Bunch.

    max_per_class : int, default=None
        Read only so many pictures of every class, the first by name. None: all of them.

    verbose : bool or int, default=0
        Whether to show a progress bar.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes

        data : ndarray of uint8 of shape (n_samples, 3, height, width)
            The pictures, class after class and in the order of their names.
        target : ndarray of int of shape (n_samples,)
            The class of every picture, an index into `target_names`.
        target_names : ndarray of str of shape (n_classes,)
            The names of the classes of all splits in `root`, in alphabetic order. So a class has
            the same index in every split.
        filenames : ndarray of str of shape (n_samples,)
            The file of every picture.
        DESCR : str
            Where the pictures come from.

    (data, target) : tuple of ndarrays
        Only if `return_X_y` is True.

    Raises
    ------
    FileNotFoundError
        If there is no folder `root`.

    ValueError
        If `root` has no such split, the split has no class folders, a class folder has no
        pictures, a picture holds more than 8 bits per value or the pictures differ in size.

    OSError
        If a picture is damaged.

    See Also
    --------
    fetch_cifar10 : CIFAR-10 from its own archive.
    make_rotation_task : Which picture is rotated? Two classes in the clusters of the old ones.

    Examples
    --------
    Two pictures in a temporary folder:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sklearn_moe.datasets import load_image_folder
    >>> with TemporaryDirectory() as root:
    ...     for name in ("black", "white"):
    ...         folder = Path(root, "train", name)
    ...         folder.mkdir(parents=True)
    ...         Image.new("RGB", (6, 4), name).save(folder / "1.png")
    ...     pictures = load_image_folder(root)
    >>> pictures.data.shape, pictures.data[:, 0, 0, 0], pictures.target
    ((2, 3, 4, 6), array([  0, 255], dtype=uint8), array([0, 1]))
    >>> pictures.target_names
    array(['black', 'white'], dtype='<U5')
    """
    root = Path(root)
    folders, names = _find_classes(root, split)
    found = [_pictures(folder)[:max_per_class] for folder in folders]
    files = [path for pictures in found for path in pictures]
    labels = [names.index(folder.name) for folder in folders]

    shape = _read(files[0]).shape
    data = np.empty((len(files), *shape), dtype=np.uint8)
    for row, path in enumerate(
        progress_bar(files, desc=split, unit="picture", disable=not verbose)
    ):
        picture = _read(path)
        if picture.shape != shape:
            raise ValueError(
                f"All pictures must have the same size, but {files[0]} has {shape[1]} x {shape[2]} "
                f"pixels and {path} has {picture.shape[1]} x {picture.shape[2]} (height x width). "
                "Write a copy of the folder in one size, for instance with PIL.Image.Image.resize."
            )
        data[row] = picture
    target = np.repeat(labels, [len(pictures) for pictures in found])

    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(names),
        filenames=np.array([str(path) for path in files]),
        DESCR=f"{len(files)} pictures of {shape[1]} x {shape[2]} pixels from {root / split}",
    )
