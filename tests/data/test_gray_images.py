"""Gray images without an axis of channels look like bags of patches: a warning names them."""

import warnings
from functools import partial

import numpy as np
import pytest
from helpers import brief

from sklearn_moe import MoEClassifier, MoERegressor

SHADES = np.random.default_rng(0).integers(17, size=(30, 8, 8))
Y = np.arange(30) % 2
make = partial(brief, n_experts=1, max_iter=1)


def test_squares_of_integers_are_probably_images():
    message = r"shape \(30, 8, 8\) .* 8 patches.*images.*X\[:, np\.newaxis\].*sample_shape=\(8, 8\)"
    for dtype, model in (("u1", MoEClassifier), ("i8", MoERegressor), ("f4", MoERegressor)):
        with pytest.warns(UserWarning, match=message) as caught:
            patches = make(model).fit(SHADES.astype(dtype), Y)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert patches.input_shape_ == (8, 8)


def test_what_is_clear_needs_no_warning():
    table = SHADES.reshape(30, 64)
    other_values = SHADES / 16, SHADES - 8, SHADES > 8, 0 * SHADES
    no_squares = SHADES[:, :7], SHADES[:, :3, :3], SHADES[:, None].astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X in (*other_values, *no_squares, table):
            make().fit(X, Y).predict(X)
        make(sample_shape=(8, 8)).fit(table, Y).predict(table)
