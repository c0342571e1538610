"""Gray pictures without an axis of channels look like bags of patches: a hint says so."""

import warnings

import numpy as np
import pytest

from sklearn_moe import MoEClassifier, MoERegressor

SHADES = np.random.default_rng(0).integers(17, size=(30, 8, 8))
Y = np.arange(30) % 2


def model(kind=MoEClassifier, **params):
    return kind(n_experts=1, max_iter=1, tol=None, random_state=0, **params)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("kind", [MoEClassifier, MoERegressor])
def test_squares_of_integers_are_probably_pictures(kind, dtype):
    X = SHADES.astype(dtype)
    message = (
        r"shape \(30, 8, 8\) .* 8 patches.*pictures.*X\[:, np\.newaxis\].*sample_shape=\(8, 8\)"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        patches = model(kind).fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert patches.input_shape_ == (8, 8)


@pytest.mark.parametrize(
    ("X", "params"),
    [
        (SHADES / 16, {}),
        (SHADES - 8, {}),
        (SHADES > 8, {}),
        (SHADES[:, :7], {}),
        (SHADES[:, :3, :3], {}),
        (SHADES[:, None].astype(np.uint8), {}),
        (SHADES.reshape(30, 64), {"sample_shape": (8, 8)}),
        (SHADES.reshape(30, 64), {}),
    ],
    ids=["floats", "negative", "binary", "no-squares", "tiny", "pictures", "patches", "table"],
)
def test_what_is_clear_needs_no_hint(X, params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**params).fit(X, Y).predict(X)


def test_the_missing_axis_is_named_at_prediction():
    X = SHADES[:, None].astype(np.uint8)
    clf = model().fit(X, Y)
    message = (
        r"X of shape \(30, 8, 8\) holds bags of patches, MoEClassifier was fitted on pictures of "
        r"shape \(1, 8, 8\)\. .* pass X\[:, np\.newaxis\], of a single picture X\[np\.newaxis\]\."
    )
    for predict in (clf.predict, clf.predict_proba):
        with pytest.raises(ValueError, match=message):
            predict(X[:, 0])
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X[:, 0], Y)
