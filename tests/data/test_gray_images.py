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
    for dtype, kind in (
        (np.uint8, MoEClassifier),
        (np.int64, MoERegressor),
        (np.float32, MoERegressor),
    ):
        with pytest.warns(UserWarning, match=message) as caught:
            patches = model(kind).fit(SHADES.astype(dtype), Y)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert patches.input_shape_ == (8, 8)


def test_what_is_clear_needs_no_warning():
    cases = {
        "floats": (SHADES / 16, {}),
        "negative": (SHADES - 8, {}),
        "binary": (SHADES > 8, {}),
        "zeros": (0 * SHADES, {}),
        "no squares": (SHADES[:, :7], {}),
        "tiny": (SHADES[:, :3, :3], {}),
        "images": (SHADES[:, None].astype(np.uint8), {}),
        "patches": (SHADES.reshape(30, 64), {"sample_shape": (8, 8)}),
        "table": (SHADES.reshape(30, 64), {}),
    }
    for X, params in cases.values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(**params).fit(X, Y).predict(X)


def test_the_missing_axis_is_named_at_prediction():
    X = SHADES[:, None].astype(np.uint8)
    clf = model().fit(X, Y)
    message = (
        r"X of shape \(30, 8, 8\) holds bags of patches, MoEClassifier was fitted on images of "
        r"shape \(1, 8, 8\)\. .* pass X\[:, np\.newaxis\], of a single image X\[np\.newaxis\]\."
    )
    for predict in (clf.predict, clf.predict_proba):
        with pytest.raises(ValueError, match=message):
            predict(X[:, 0])
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X[:, 0], Y)
