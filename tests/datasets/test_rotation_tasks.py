"""The rotation task, as it is in the paper and without its dark corners."""

import numpy as np
import torch
from helpers import names, refuses
from helpers import noise_images as noise
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sklearn_moe.datasets import make_rotation_task


def test_every_image_appears_once_in_each_class():
    for dtype in (np.uint8, np.float16, np.float32, np.float64):
        images = noise(7, height=12, width=12).astype(dtype)
        images.flags.writeable = False
        X, y, groups = make_rotation_task(images, np.arange(7) + 10, random_state=0)
        assert X.shape == (14, 3, 12, 12)
        assert X.dtype == (np.float32 if dtype == np.float16 else dtype)
        pairs = [(group, k) for group in range(10, 17) for k in range(2)]
        assert sorted(zip(groups, y, strict=True)) == pairs
        in_order = make_rotation_task(images, np.arange(7) + 10, shuffle=False)
        assert in_order[1].tolist() == [0] * 7 + [1] * 7
        order = np.lexsort((groups, y))
        for shuffled, expected in zip((X, y, groups), in_order, strict=True):
            np.testing.assert_array_equal(shuffled[order], expected)


def test_random_state():
    images = noise(20, height=8, width=8)
    first, again, other = (make_rotation_task(images, random_state=seed) for seed in (0, 0, 1))
    for found, expected in zip(again, first, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (first[1] != other[1]).any()
    assert np.bincount(first[2]).tolist() == [2] * 20  # every image is a group


def test_layouts_and_batches_do_not_matter(monkeypatch):
    for dtype in (np.uint8, np.float64):
        images = noise(5, height=9, width=8).astype(dtype)
        expected = make_rotation_task(images, random_state=0)[0]
        for other in (
            images.astype(images.dtype.newbyteorder()),
            np.ascontiguousarray(images[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
            np.asfortranarray(images),
        ):
            X = make_rotation_task(other, random_state=0)[0]
            np.testing.assert_array_equal(X, expected)
            assert X.dtype == dtype
    monkeypatch.setattr("sklearn_moe.datasets._rotation._BATCH_VALUES", 1)
    X = make_rotation_task(images, random_state=0)[0]
    np.testing.assert_allclose(X, expected, atol=1.01)  # a sum may round the other way


def test_mistakes_are_explained():
    images = noise(2)
    refuses(
        "axes", r"task takes images .*images\[:, np\.newaxis\]", make_rotation_task, images[:, 0]
    )
    for groups in ([0], [[0, 1], [1, 0]]):
        names("groups", groups, make_rotation_task, images, groups)


def test_the_images_of_the_paper():
    """Equal, bit by bit, to the transforms of the authors' code on Pillow's images."""
    images = noise(5)
    X, _, _ = make_rotation_task(images, crop="paper", interpolation="nearest", shuffle=False)
    crop = transforms.Compose([transforms.CenterCrop(24), transforms.Resize(32)])
    rotate = transforms.RandomRotation((30, 30))
    pillow = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    # RandomRotation draws its only possible angle from PyTorch's global generator.
    turned = [transforms.functional.rotate(image, 30, rotate.interpolation) for image in pillow]
    expected = np.stack([np.asarray(crop(image)) for image in pillow + turned])
    np.testing.assert_array_equal(X, expected.transpose(0, 3, 1, 2))


def test_no_corner_is_left_by_the_inscribed_crop():
    for shape in [(32, 32), (33, 33), (4, 4), (20, 33), (5, 4)]:
        for number, angle in enumerate([1, 15, 30, 45, 60, 89, 90, 133, 180, 270, -30]):
            dtype = (np.uint8, np.float32)[number % 2]
            white = np.full((2, 1, *shape), 255, dtype=dtype)
            for mode, symmetric in [("bilinear", True), ("nearest", False), ("bilinear", False)]:
                params = {"angle": angle, "interpolation": mode, "symmetric": symmetric}
                X, _, _ = make_rotation_task(white, shuffle=False, **params)
                # float32 rounds, by far less than one of 256 shades
                np.testing.assert_allclose(X, 255, rtol=0 if dtype == np.uint8 else 1e-6)


def test_both_classes_show_the_same_square_and_rotation_is_counterclockwise():
    images = noise(1)
    X, _, _ = make_rotation_task(images, shuffle=False)
    turned = F.rotate(torch.tensor(images[0]), 30, interpolation=InterpolationMode.BILINEAR)
    for found, source in zip(X, (torch.tensor(images[0]), turned), strict=True):
        expected = F.resize(source[:, 5:27, 5:27], [32, 32], antialias=True)
        np.testing.assert_array_equal(found, expected)
    images = noise(3, height=8, width=8)
    X, _, _ = make_rotation_task(images, angle=90, shuffle=False)
    np.testing.assert_array_equal(X[:3], images)
    np.testing.assert_array_equal(X[3:], np.rot90(images, axes=(2, 3)))
    X, _, _ = make_rotation_task(images, angle=180, symmetric=True, shuffle=False)
    np.testing.assert_array_equal(X[:3], np.rot90(images, -1, axes=(2, 3)))
    np.testing.assert_array_equal(X[3:], np.rot90(images, axes=(2, 3)))


def test_images_become_square():
    wide = noise(5, channels=1, height=20, width=33)
    assert make_rotation_task(wide, random_state=0)[0].shape == (10, 1, 20, 20)
