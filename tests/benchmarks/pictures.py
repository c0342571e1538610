"""CIFAR-10 for benchmarks: fetched, from a folder or from one file."""

import numpy as np

from sklearn_moe.datasets import fetch_cifar10, load_image_folder

__all__ = ["load_pictures"]


def load_pictures(path):
    """Return pictures and labels to train on, and to test on."""
    if path is None:
        return *fetch_cifar10(return_X_y=True), *fetch_cifar10(subset="test", return_X_y=True)
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            X, y, X_test, y_test = (arrays[k] for k in ("X_train", "y_train", "X_test", "y_test"))
        if X.shape[-1] == 3:  # channels last
            X, X_test = (np.ascontiguousarray(Z.transpose(0, 3, 1, 2)) for Z in (X, X_test))
        return X, y, X_test, y_test
    splits = (load_image_folder(path, split, return_X_y=True) for split in ("train", "test"))
    return tuple(array for split in splits for array in split)
