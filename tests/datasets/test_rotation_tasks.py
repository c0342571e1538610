"""The rotation tasks: nothing but the orientation tells the classes of make_orientation_task.

A trace of resampling is a statistic that tells the classes of images *without* orientation, such
as sums of waves of all directions: nothing but resampling can differ there.
That the spectrum of real images has directions is no trace: most edges are horizontal or vertical,
and how far these are turned is what the task asks.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import noise_images as noise
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sklearn_moe.datasets import make_orientation_task, make_rotation_task
from sklearn_moe.datasets._rotation import _inscribed_side

BANDS = [0.04, 0.12, 0.2, 0.3, 0.4, 0.5]  # cycles per pixel


def waves(n_samples, side=32):
    """Return isotropic images: waves of all directions, whose power falls as 1/f**2."""
    rng = np.random.default_rng(0)
    x = np.arange(side)
    images = np.empty((n_samples, 1, side, side), dtype=np.float32)
    for batch in np.array_split(np.arange(n_samples), max(1, n_samples // 500)):
        shape = (len(batch), 64, 1)
        frequency = 0.01 * 50 ** rng.random(shape)  # to .5, log-uniform
        direction, phase = 2 * np.pi * rng.random((2, *shape))
        along_x = np.exp(2j * np.pi * frequency * np.cos(direction) * x).astype(np.complex64)
        along_y = np.exp(2j * np.pi * frequency * np.sin(direction) * x + 1j * phase)
        along_y = along_y.astype(np.complex64)
        images[batch, 0] = (along_y.transpose(0, 2, 1) @ along_x).real
    images *= 50 / images.std()
    return (images + 127).clip(0, 255).round().astype(np.uint8)


def statistics(X):
    """Return statistics of resampling: those free of direction, all, and the whole spectrum."""
    gray = X.mean(axis=1, dtype=np.float32)
    x = np.arange(X.shape[2]) - (X.shape[2] - 1) / 2
    distance = np.minimum(np.hypot(x[:, None], x) / (len(x) / 2), 1)
    window = (np.cos(np.pi * distance / 2) ** 2).astype(np.float32)  # round, as the disc is
    gray -= ((gray * window).sum(axis=(1, 2)) / window.sum())[:, None, None]
    variance = (gray**2 * window).sum(axis=(1, 2)) / window.sum() + 1e-3
    laplacian = 4 * gray[:, 1:-1, 1:-1] - gray[:, :-2, 1:-1] - gray[:, 2:, 1:-1]
    laplacian -= gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    free = [(laplacian**2 * window[1:-1, 1:-1]).sum(axis=(1, 2)) / variance]

    fine = 2 * len(x)  # so that rings of few frequencies are round
    fx, fy = np.fft.rfftfreq(fine), np.fft.fftfreq(fine)[:, None]
    radius, eighth = np.hypot(fx, fy), np.round(np.arctan2(fy, fx) * 8 / np.pi) % 8
    parts = np.array_split(gray * window, max(1, len(X) // 1000))
    power = [np.abs(np.fft.rfft2(p, s=(fine, fine))).astype(np.float32) ** 2 for p in parts]
    power = np.concatenate(power)
    power /= power.sum(axis=(1, 2), keepdims=True) + 1e-3
    rings = [(low <= radius) & (radius < high) for low, high in pairwise(BANDS)]
    free += [power[:, ring].sum(axis=1) for ring in rings]
    sectors = [power[:, r & (eighth == k)].sum(axis=1) for r in rings for k in range(8)]
    spectrum = power[:, ::2, ::2].reshape(len(X), -1)
    return [
        np.log(part + 1e-12) for part in (np.array(free).T, np.array(free + sectors).T, spectrum)
    ]


def linear_area(y, features, groups):
    """Return the area under the ROC curve of a linear model, on images it was not trained on."""
    train, test = train_test_split(np.unique(groups), test_size=0.5, random_state=0)
    train, test = np.isin(groups, train), np.isin(groups, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(features[train], y[train])
    return roc_auc_score(y[test], model.decision_function(features[test]))


def traces(X, y, groups):
    """Return the largest distance of an area from 1/2, of single statistics and linear models."""
    free, every, spectrum = statistics(X)
    single = [abs(roc_auc_score(y, value) - 0.5) for value in every.T]
    linear = [abs(linear_area(y, part, groups) - 0.5) for part in (free, every, spectrum)]
    return max(single), max(linear)


def test_nothing_but_the_orientation_tells_the_classes():
    single, linear = traces(*make_orientation_task(waves(4000), random_state=0))
    assert single < 0.02
    assert linear < 0.03  # the standard error is .009


@pytest.fixture(scope="module")
def many_waves():
    return waves(16_000)


OTHER_TASKS = [{}, {"size": 22}, {"angles": ((-25, -5), (5, 25))}, {"angles": ((0, 0), (45, 45))}]


@pytest.mark.slow
@pytest.mark.parametrize("params", OTHER_TASKS, ids=str)
def test_nothing_but_the_orientation_tells_the_classes_of_many_images(many_waves, params):
    images = many_waves.astype(np.float32 if "size" in params else np.uint8)
    assert max(traces(*make_orientation_task(images, random_state=0, **params))) < 0.02


# ---------------------------------------------------------------------------- both tasks


TASKS = {
    "rotation": (make_rotation_task, {}, 2),
    "orientation": (make_orientation_task, {"angles": ((-10, 10), (20, 40), (170, 190))}, 3),
}
both = pytest.mark.parametrize("name", TASKS)


@both
def test_every_image_appears_once_in_each_class(name):
    task, params, n_classes = TASKS[name]
    for dtype in (np.uint8, np.float16, np.float32, np.float64):
        images = noise(7, height=12, width=12).astype(dtype)
        images.flags.writeable = False
        X, y, groups = task(images, np.arange(7) + 10, random_state=0, **params)
        assert X.shape == (7 * n_classes, 3, 12, 12)
        assert X.dtype == (np.float32 if dtype == np.float16 else dtype)
        assert sorted(zip(groups, y, strict=True)) == [
            (group, k) for group in range(10, 17) for k in range(n_classes)
        ]
        in_order = task(images, np.arange(7) + 10, random_state=0, shuffle=False, **params)
        assert in_order[1].tolist() == np.repeat(np.arange(n_classes), 7).tolist()
        order = np.lexsort((groups, y))
        for shuffled, expected in zip((X, y, groups), in_order, strict=True):
            np.testing.assert_array_equal(shuffled[order], expected)


@both
def test_random_state(name):
    task, params, n_classes = TASKS[name]
    images = noise(20, height=8, width=8)
    first, again, other = (task(images, random_state=seed, **params) for seed in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first[1] != other[1]).any()
    assert np.bincount(first[2]).tolist() == [n_classes] * 20  # every image is a group
    one, two = (task(images, random_state=seed, shuffle=False, **params)[0] for seed in (0, 1))
    assert (one != two).any() == (name == "orientation")  # the angles are drawn, too


@both
def test_layouts_and_batches_do_not_matter(name, monkeypatch):
    task, params, _ = TASKS[name]
    for dtype in (np.uint8, np.float64):
        images = noise(5, height=9, width=8).astype(dtype)
        expected = task(images, random_state=0, **params)[0]
        for other in (
            images.astype(images.dtype.newbyteorder()),
            np.ascontiguousarray(images[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
            np.asfortranarray(images),
        ):
            X = task(other, random_state=0, **params)[0]
            np.testing.assert_array_equal(X, expected)
            assert X.dtype == dtype
    monkeypatch.setattr(f"sklearn_moe.datasets._rotation._{name.upper()}_VALUES", 1)
    X = task(images, random_state=0, **params)[0]
    np.testing.assert_allclose(X, expected, atol=1.01)  # a sum may round the other way


IMAGES = noise(2)
WRONG = [
    ("both", {"images": IMAGES[:, 0]}, r"task takes images .*pass images\[:, np\.newaxis\]"),
    ("both", {"images": IMAGES[:, :, :3]}, r"at least 4 x 4 pixels .* got 3 x 32 .*Pass larger"),
    ("both", {"groups": [0]}, r"inconsistent numbers of samples: \[2, 1\]"),
    ("both", {"groups": [[0, 1], [1, 0]]}, r"groups must have a single axis, got shape \(2, 2\)"),
    ("rotation", {"angle": 0}, "angle=0 leaves an image as it is: .*Pass an angle that"),
    ("rotation", {"angle": -720.0}, r"angle=-720\.0 leaves an image as it is"),
    ("rotation", {"crop": "none"}, "'crop' parameter .* must be a str among"),
    ("orientation", {"angles": (0, 30)}, "angles: Expected 2D array"),
    ("orientation", {"angles": ((0, 30),)}, "angles: .* minimum of 2 is required"),
    ("orientation", {"angles": ((0, 30, 1), (40, 50, 1))}, "must be a range .* in degrees"),
    ("orientation", {"angles": ((0, 30), (40,))}, "angles: "),
    ("orientation", {"angles": ((0, 30), (40, np.inf))}, "angles.* infinity"),
    ("orientation", {"angles": ("low", "high")}, "angles: "),
    ("orientation", {"angles": ((10, -10), (20, 40))}, "low <= high"),
    ("orientation", {"angles": ((-10, 10), (5, 40))}, r"overlap .*\(-10\.0, 10\.0\) and \(5"),
    ("orientation", {"angles": ((-10, 10), (90, 95), (345, 355))}, "overlap on the circle"),
    ("orientation", {"angles": ((30, 30), (-330, -330))}, "overlap on the circle"),
    ("orientation", {"blur": 0.4}, r"'blur' parameter .* must be a float in the range \[0\.5, inf"),
]


def test_mistakes_are_explained():
    for which, params, message in WRONG:
        for name in TASKS if which == "both" else [which]:
            with pytest.raises(ValueError, match=message):
                TASKS[name][0](**{"images": IMAGES, "random_state": 0} | params)
    angles = ((0, 90), (90, 180), (180, 270), (270, 360))  # ranges may touch
    _, y, _ = make_orientation_task(IMAGES, angles=angles, random_state=0)
    assert sorted(y) == [0, 0, 1, 1, 2, 2, 3, 3]


# ---------------------------------------------------------------------------- orientation


def test_angles_are_uniform_in_the_range_of_their_class():
    images = waves(500, side=4)
    *_, y, groups, angles = make_orientation_task(images, return_angles=True, random_state=0)
    assert sorted(groups) == sorted([*range(500)] * 2)
    for label, low in enumerate((-10, 20)):
        own = (angles[y == label] - low) / 20
        assert own.min() >= 0
        assert own.max() <= 1
        np.testing.assert_allclose([own.mean(), own.std()], [0.5, 12**-0.5], atol=0.03)


def test_turning_is_counterclockwise():
    for shape, size in [((32, 32), 7), ((33, 32), None), ((9, 20), 32)]:
        images = np.random.default_rng(0).uniform(size=(3, 2, *shape))
        options = {"angles": ((0, 0), (90, 90)), "size": size, "shuffle": False}
        X, _, _ = make_orientation_task(images, random_state=0, **options)
        np.testing.assert_allclose(X[3:], np.rot90(X[:3], axes=(2, 3)), atol=1 / 255)


@pytest.mark.parametrize(("angle", "size"), [(30.0, 16), (77.0, 40)])
def test_an_image_is_the_gaussian_mean_of_its_disc(angle, size):
    """The same sum over pixels, written out."""
    image = np.random.default_rng(0).uniform(size=(18, 20))
    y, x = (np.arange(n) - (n - 1) / 2 for n in image.shape)
    disc = np.hypot(y[:, None], x) <= 9
    pitch = 9 * 2**0.5 / size
    place = (np.arange(size) - (size - 1) / 2) * pitch
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turned_x, turned_y = cos * place - sin * place[:, None], sin * place + cos * place[:, None]
    weights = disc * np.exp(
        -((turned_x[..., None, None] - x) ** 2 + (turned_y[..., None, None] - y[:, None]) ** 2)
        / (2 * 1.25**2)
    )
    expected = (weights * image).sum(axis=(2, 3)) / weights.sum(axis=(2, 3))
    options = {"angles": ((0, 0), (angle, angle)), "size": size, "shuffle": False}
    X, _, _ = make_orientation_task(image[None, None], random_state=0, **options)
    np.testing.assert_allclose(X[1, 0], expected, atol=0.004)


def test_nothing_outside_of_the_disc_is_mixed_in():
    for shape, dtype, params in [
        ((32, 32), np.uint8, {}),
        ((33, 20), np.float32, {"blur": 0.5, "size": 50}),
        ((4, 5), np.float64, {"blur": 3}),
        ((33, 20), np.uint8, {"size": 2}),
    ]:
        white = np.full((2, 1, *shape), 255, dtype=dtype)
        y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
        white[:, :, np.hypot(y[:, None], x) > min(shape) / 2] = 0
        params["angles"] = ((-180, 0), (1, 179))
        X, _, _ = make_orientation_task(white, random_state=0, **params)
        np.testing.assert_allclose(X, 255, rtol=0 if dtype == np.uint8 else 1e-6)


def test_floats_have_256_shades():
    images = np.random.default_rng(0).normal(size=(10, 3, 16, 16)).astype(np.float32)
    X, _, _ = make_orientation_task(images, random_state=0)
    steps = (X - images.min()) / (np.ptp(images) / 255)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    same = np.full((2, 1, 8, 8), 0.1, dtype=np.float32)
    np.testing.assert_allclose(make_orientation_task(same, random_state=0)[0], 0.1, rtol=1e-5)


# ---------------------------------------------------------------------------- rotation


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


def test_the_inscribed_crop_wastes_nothing():
    for angle in (10, 20, 30, 45, 70):
        turned = F.rotate(torch.ones(1, 64, 64), angle, interpolation=InterpolationMode.BILINEAR)
        white = [F.center_crop(turned, [side, side]).min() > 1 - 1e-5 for side in range(2, 65, 2)]
        assert _inscribed_side(64, 64, angle) == 2 * sum(white)


def test_both_classes_show_the_same_square_and_rotation_is_counterclockwise():
    images = noise(1)
    X, _, _ = make_rotation_task(images, shuffle=False, size=22)  # 22: nothing to resize
    np.testing.assert_array_equal(X[0], images[0, :, 5:27, 5:27])
    turned = F.rotate(torch.tensor(images[0]), 30, interpolation=InterpolationMode.BILINEAR)
    np.testing.assert_array_equal(X[1], turned[:, 5:27, 5:27])
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
    assert make_rotation_task(wide, size=16, random_state=0)[0].shape == (10, 1, 16, 16)
