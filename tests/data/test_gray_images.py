"""Gray images without an axis of channels look like bags of patches: a warning names them."""

import warnings

import numpy as np
import pytest

from sklearn_moe import MoEClassifier, MoERegressor

SHADES = np.random.default_rng(0).integers(17, size=(30, 8, 8))
Y = np.arange(30) % 2


def model(kind=MoEClassifier, **params):
    return kind(n_experts=1, max_iter=1, tol=None, random_state=0, **params)


def test_squares_of_integers_are_probably_images():
    message = r"shape \(30, 8, 8\) .* 8 patches.*images.*X\[:, np\.newaxis\].*sample_shape=\(8, 8\)"
    for dtype, kind in {
        np.uint8: MoEClassifier,
        np.int64: MoERegressor,
        np.float32: MoERegressor,
    }.items():
        with pytest.warns(UserWarning, match=message) as caught:
            patches = model(kind).fit(SHADES.astype(dtype), Y)
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
            model().fit(X, Y).predict(X)
        model(sample_shape=(8, 8)).fit(table, Y).predict(table)


def test_the_missing_axis_is_named_at_prediction():
    X = SHADES[:, None].astype(np.uint8)
    clf = model().fit(X, Y)
    message = (
        r"X of shape \(30, 8, 8\) holds bags of patches, MoEClassifier was fitted on images of "
        r"shape \(1, 8, 8\)\. .* pass X\[:, np\.newaxis\], of a single image X\[np\.newaxis\]\."
    )
    for call, args in ((clf.predict, []), (clf.predict_proba, []), (clf.partial_fit, [Y])):
        with pytest.raises(ValueError, match=message):
            call(X[:, 0], *args)
