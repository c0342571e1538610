"""Transformers of images: what all have in common, and transforms for training."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from helpers import names, noise_images, raises, seeded
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks, get_tags

from sklearn_moe import preprocessing
from sklearn_moe.nn.seeding import use_generator
from sklearn_moe.preprocessing import BackboneFeatures, PatchKMeansFeatures, RandomCropFlip

with use_generator(seeded()):
    NETWORK = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(24, 5)),
    )
FEATURES = [
    PatchKMeansFeatures(5, patch_size=3, n_patches=300, random_state=0),
    BackboneFeatures(NETWORK, random_state=0, device="cpu"),
]
every_one = pytest.mark.parametrize("transformer", FEATURES, ids=["kmeans", "backbone"])
DTYPES = (np.uint8, np.float32, np.float64)
images = partial(noise_images, n_samples=7, height=11, width=13)


def test_every_transformer_is_tested():
    found = {getattr(preprocessing, name) for name in preprocessing.__all__}
    assert found == {RandomCropFlip, *map(type, FEATURES)}


# -- what all have in common --------------------------------------------------------------


@every_one
def test_checks_of_scikit_learn_that_need_no_table(transformer):
    checks = "estimator_cloneable estimator_tags_renamed valid_tag_types estimator_repr "
    checks += "mixin_order no_attributes_set_in_init parameters_default_constructible set_params"
    for check in checks.split():
        run = getattr(estimator_checks, f"check_{check}")
        run(type(transformer).__name__, clone(transformer))
    tags = get_tags(transformer)
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.three_d_array
    assert tags.transformer_tags.preserves_dtype == []


@every_one
def test_layouts_and_batches_do_not_matter(transformer):
    for dtype in DTYPES:
        X = images(dtype=dtype)
        before, fitted = X.copy(), clone(transformer).fit(X)
        expected = fitted.transform(X)
        read_only = np.broadcast_to(X[None], (1, *X.shape))[0]
        mirrored = np.ascontiguousarray(X[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]
        swapped = X.astype(X.dtype.newbyteorder())
        for other in (read_only, np.asfortranarray(X), mirrored, X.repeat(2, axis=0)[::2], swapped):
            X_new = clone(transformer).fit_transform(other)
            np.testing.assert_array_equal(X_new, expected)
            assert X_new.dtype == expected.dtype
        np.testing.assert_array_equal(X, before)
        assert not np.shares_memory(expected, X)
        for batch_size in (1, 3, 1000):
            X_new = fitted.set_params(batch_size=batch_size).transform(X)
            np.testing.assert_allclose(X_new, expected, rtol=1e-4, atol=1e-4)


@every_one
def test_clone_repr_and_pickle(transformer):
    X, copy = images(), clone(transformer)
    assert copy.fit(X) is copy
    assert (repr(copy), copy.n_features_in_) == (repr(transformer), 3)
    loaded = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(loaded.transform(X), copy.transform(X))
    with pytest.raises(ValueError, match=r"X has 1 features, but .* is expecting 3"):
        copy.transform(images(channels=1))
    raises(ValueError, "'batch_size' parameter", clone(transformer).set_params(batch_size=0).fit, X)


@every_one
def test_features(transformer):
    raises(NotFittedError, "is not fitted", clone(transformer).transform, images())
    fitted = clone(transformer).fit(images())
    assert get_tags(transformer.set_params(random_state=0)).non_deterministic is False
    assert get_tags(clone(transformer).set_params(random_state=None)).non_deterministic
    expected = fitted.transform(images(dtype=np.float64))
    assert expected.dtype == np.float32
    frame = fitted.set_output(transform="pandas").transform(images(dtype=np.float64))
    prefix = type(transformer).__name__.lower()
    assert list(frame) == [f"{prefix}{i}" for i in range(expected.shape[1])]
    assert list(fitted.get_feature_names_out()) == list(frame)
    np.testing.assert_array_equal(frame, expected)


SHAPES = {  # that are no images, and what to do
    (7,): r"X\.reshape",
    (7, 11, 13): r"X\[:, np\.newaxis\].*X\[np\.newaxis\]",
    (11, 13, 3): r"X\[np\.newaxis\] of a single image",
    (7, 11, 13, 3): r"X\.transpose\(0, 3, 1, 2\)",
    (7, 5, 5, 4): r"X\.transpose\(0, 3, 1, 2\)",
}
TWO = np.zeros((2, 3, 11, 13))
VALUES = [TWO + np.nan, TWO + np.inf, TWO[:0], TWO.astype(bool), TWO.astype(int), 1j * TWO]


@every_one
def test_what_is_no_images(transformer):
    name = type(transformer).__name__
    for shape, advice in SHAPES.items():
        with pytest.raises(ValueError, match=rf"{name} takes images of shape .*{advice}") as caught:
            clone(transformer).fit(np.zeros(shape, dtype=np.float32))
        assert str(shape) in str(caught.value)
    for X in VALUES:
        names("X", X, clone(transformer).fit, X)


@every_one
def test_another_device_gives_the_same(transformer, device):
    X = images(dtype=np.float32)
    expected = clone(transformer).fit_transform(X)
    X_new = clone(transformer).set_params(device=device).fit_transform(X)
    np.testing.assert_allclose(X_new, expected, rtol=1e-3, atol=1e-3)


# -- transforms for training --------------------------------------------------------------


def test_random_crop_flip_is_a_crop_of_the_padded_image_mirrored_or_not():
    x = torch.arange(1.0, 1 + 300 * 2 * 6 * 5).view(300, 2, 6, 5)
    with use_generator(seeded()):
        result = RandomCropFlip(padding=2)(x)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for image, source in zip(result, padded, strict=True):
        crops = {
            (row, column, mirror): crop.flip(2) if mirror else crop
            for row in range(5)
            for column in range(5)
            for mirror in (False, True)
            for crop in [source[:, row : row + 6, column : column + 5]]
        }
        (match,) = (key for key, crop in crops.items() if torch.equal(crop, image))
        seen.add(match)
    assert len(seen) == 50  # every shift, mirrored and not


def test_the_padding_of_random_crop_flip():
    x = torch.full((4, 3, 8, 8), 7, dtype=torch.uint8)
    with use_generator(seeded()):
        assert set(RandomCropFlip()(x).unique().tolist()) == {0, 7}
        assert RandomCropFlip(np.int64(0))(x).equal(x)
    for padding in (-1, 2.5):
        raises(ValueError, "'padding' parameter of RandomCropFlip", RandomCropFlip(padding), x)
