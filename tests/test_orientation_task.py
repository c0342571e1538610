"""The rotation task without traces: what tells its classes apart is the orientation alone.

A trace of resampling is a statistic that tells the classes of pictures *without* orientation, such
as sums of waves of all directions: nothing but resampling can differ there. Of real pictures it is
one that does not change when a picture is turned, such as the energy of the Laplacian or of a ring
of the spectrum. That the spectrum of real pictures has directions is no trace: most edges are
horizontal or vertical, and how far these are turned is what the task asks.
"""

import os
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import load_image_folder, make_orientation_task, make_rotation_task

REAL = os.environ.get("SKLEARN_MOE_CIFAR10")  # a folder with train/<class>/*.jpg
UPRIGHT = ((0, 0), (90, 90))
BANDS = [0.04, 0.12, 0.2, 0.3, 0.4, 0.5]  # cycles per pixel


def waves(n_samples, side=32, n_waves=64, seed=0):
    """Return isotropic pictures: waves of all directions, whose power falls as 1/f**2."""
    rng = np.random.default_rng(seed)
    x = np.arange(side)
    images = np.empty((n_samples, 1, side, side), dtype=np.float32)
    for batch in np.array_split(np.arange(n_samples), max(1, n_samples // 500)):
        shape = (len(batch), n_waves, 1)
        frequency = 0.01 * 50 ** rng.random(shape)  # to .5, log-uniform
        direction, phase = 2 * np.pi * rng.random((2, *shape))
        along_x = np.exp(2j * np.pi * frequency * np.cos(direction) * x).astype(np.complex64)
        along_y = np.exp(2j * np.pi * frequency * np.sin(direction) * x + 1j * phase)
        along_y = along_y.astype(np.complex64)
        images[batch, 0] = (along_y.transpose(0, 2, 1) @ along_x).real
    images *= 50 / images.std()
    return (images + 127).clip(0, 255).round().astype(np.uint8)


def statistics(X):
    """Return free of direction, directed: statistics of resampling; and the whole spectrum."""
    gray = X.mean(axis=1, dtype=np.float32)
    x = np.arange(X.shape[2]) - (X.shape[2] - 1) / 2
    distance = np.minimum(np.hypot(x[:, None], x) / (len(x) / 2), 1)
    window = (np.cos(np.pi * distance / 2) ** 2).astype(np.float32)  # round, as the disc is
    gray -= np.average(gray, axis=(1, 2), weights=np.broadcast_to(window, gray.shape))[
        :, None, None
    ]
    variance = (gray**2 * window).sum(axis=(1, 2)) / window.sum() + 1e-3
    laplacian = 4 * gray[:, 1:-1, 1:-1] - gray[:, :-2, 1:-1] - gray[:, 2:, 1:-1]
    laplacian -= gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    free = {"laplacian": (laplacian**2 * window[1:-1, 1:-1]).sum(axis=(1, 2)) / variance}

    fine = 2 * len(x)  # so that rings of few frequencies are round
    fx, fy = np.fft.rfftfreq(fine), np.fft.fftfreq(fine)[:, None]
    radius, eighth = np.hypot(fx, fy), np.round(np.arctan2(fy, fx) * 8 / np.pi) % 8
    power = np.concatenate(
        [
            np.abs(np.fft.rfft2(part, s=(fine, fine))).astype(np.float32) ** 2
            for part in np.array_split(gray * window, max(1, len(X) // 1000))
        ]
    )
    total = power.sum(axis=(1, 2)) + 1e-3
    directed = {}
    for low, high in pairwise(BANDS):
        ring = (low <= radius) & (radius < high)
        free[f"ring {low}-{high}"] = power[:, ring].sum(axis=1) / total
        for k in range(8):
            sector = power[:, ring & (eighth == k)].sum(axis=1) / total
            directed[f"direction {k} of 8, ring {low}-{high}"] = sector
    spectrum = power[:, ::2, ::2].reshape(len(X), -1) / total[:, None]
    return free, directed, np.log(spectrum + 1e-12)


def area(y, values):
    """Return the area under the ROC curve of every statistic."""
    return {name: roc_auc_score(y, value) for name, value in values.items()}


def linear_area(y, features, groups):
    """Return that of logistic regression, on pictures other than it was trained on."""
    train, test = train_test_split(np.unique(groups), test_size=0.5, random_state=0)
    train, test = np.isin(groups, train), np.isin(groups, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(features[train], y[train])
    return roc_auc_score(y[test], model.decision_function(features[test]))


def log_of(values):
    """Return statistics as features."""
    return np.log(np.stack(list(values.values()), axis=1) + 1e-12)


def all_areas(X, y, groups):
    """Return the areas of all statistics, of linear models of them and of the spectrum."""
    free, directed, spectrum = statistics(X)
    return {
        **area(y, free | directed),
        "linear, free": linear_area(y, log_of(free), groups),
        "linear, all": linear_area(y, log_of(free | directed), groups),
        "linear, spectrum": linear_area(y, spectrum, groups),
    }


def worst(areas):
    """Return the largest distance of an area from that of chance, and whose it is."""
    return max((abs(value - 0.5), name) for name, value in areas.items())


def test_nothing_but_the_orientation_tells_the_classes():
    images = waves(4000)
    areas = all_areas(*make_orientation_task(images, random_state=0))
    linear = {name: areas.pop(name) for name in list(areas) if name.startswith("linear")}
    assert worst(areas)[0] < 0.02, worst(areas)
    assert worst(linear)[0] < 0.03, worst(linear)  # the standard error is .009


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "params"),
    [
        (np.uint8, {}),
        (np.float32, {}),
        (np.uint8, {"size": 22}),
        (np.uint8, {"angles": ((-25, -5), (5, 25))}),
        (np.uint8, {"angles": ((0, 0), (45, 45))}),
    ],
)
def test_nothing_but_the_orientation_tells_the_classes_of_many_pictures(dtype, params):
    images = waves(16_000).astype(dtype)
    areas = all_areas(*make_orientation_task(images, random_state=0, **params))
    assert worst(areas)[0] < 0.02, worst(areas)


@pytest.mark.parametrize(
    ("task", "params", "least"),
    [
        (make_rotation_task, {}, 0.95),
        (make_rotation_task, {"symmetric": True}, 0.58),
        (make_orientation_task, {"blur": 0.7}, 0.95),
    ],
)
def test_the_statistics_would_find_a_trace(task, params, least):
    """The same statistics tell the classes of what is resampled in other ways."""
    X, y, groups = task(waves(1000), random_state=0, **params)
    free, directed, _ = statistics(X)
    assert linear_area(y, log_of(free | directed), groups) > least


@pytest.mark.skipif(not REAL, reason="SKLEARN_MOE_CIFAR10 names no folder of CIFAR-10 pictures")
def test_cifar10_keeps_its_directions_and_nothing_else():
    images = load_image_folder(REAL, max_per_class=500).data
    X, y, _ = make_orientation_task(images, random_state=0)
    free, directed, _ = statistics(X)
    # Of few pictures the areas vary more.
    assert worst(area(y, free))[0] < (0.02 if len(images) == 5000 else 0.03), worst(area(y, free))
    # Horizontals and verticals: the orientation.
    assert worst(area(y, directed))[0] > 0.05


# ---------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_every_picture_appears_once_in_each_class(dtype):
    images = waves(7, side=12).astype(dtype)
    images.flags.writeable = False
    angles = ((-10, 10), (20, 40), (170, 190))
    X, y, groups = make_orientation_task(images, np.arange(7) + 10, angles=angles, random_state=0)
    assert X.shape == (21, 1, 12, 12)
    assert X.dtype == dtype
    assert sorted(zip(groups, y, strict=True)) == [
        (group, k) for group in range(10, 17) for k in range(3)
    ]
    in_order = make_orientation_task(
        images, np.arange(7) + 10, angles=angles, random_state=0, shuffle=False
    )
    order = np.lexsort((groups, y))
    for shuffled, expected in zip((X, y, groups), in_order, strict=True):
        np.testing.assert_array_equal(shuffled[order], expected)


def test_angles_are_uniform_in_the_range_of_their_class():
    images = waves(500, side=4)
    *_, y, groups, angles = make_orientation_task(images, return_angles=True, random_state=0)
    assert sorted(groups) == sorted([*range(500)] * 2)
    for label, low in enumerate((-10, 20)):
        own = (angles[y == label] - low) / 20
        assert own.min() >= 0
        assert own.max() <= 1
        np.testing.assert_allclose([own.mean(), own.std()], [0.5, 12**-0.5], atol=0.03)


def test_random_state():
    images = waves(20, side=8)
    first, again, other = (make_orientation_task(images, random_state=seed) for seed in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first[1] != other[1]).any()
    unshuffled = [
        make_orientation_task(images, random_state=seed, shuffle=False)[0] for seed in (0, 1)
    ]
    assert (unshuffled[0] != unshuffled[1]).any()  # the angles are drawn, too


@pytest.mark.parametrize("shape", [(32, 32), (33, 32), (9, 20)])
@pytest.mark.parametrize("size", [7, 32, None])
def test_turning_is_counterclockwise(shape, size):
    images = np.random.default_rng(0).uniform(size=(3, 2, *shape))
    X, _, _ = make_orientation_task(
        images, angles=UPRIGHT, size=size, shuffle=False, random_state=0
    )
    np.testing.assert_allclose(X[3:], np.rot90(X[:3], axes=(2, 3)), atol=1 / 255)


@pytest.mark.parametrize("angle", [30.0, 77.0])
@pytest.mark.parametrize("size", [16, 40])
def test_a_picture_is_the_gaussian_mean_of_its_disc(angle, size):
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
    X, _, _ = make_orientation_task(
        image[None, None], angles=((0, 0), (angle, angle)), size=size, shuffle=False, random_state=0
    )
    np.testing.assert_allclose(X[1, 0], expected, atol=0.004)


@pytest.mark.parametrize("shape", [(32, 32), (33, 20), (4, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("params", [{}, {"blur": 0.5, "size": 50}, {"blur": 3}, {"size": 2}])
def test_nothing_outside_of_the_disc_is_mixed_in(shape, dtype, params):
    white = np.full((2, 1, *shape), 255, dtype=dtype)
    half = [(side - 1) / 2 for side in shape]
    y, x = (np.arange(side) - middle for side, middle in zip(shape, half, strict=True))
    white[:, :, np.hypot(y[:, None], x) > min(shape) / 2] = 0
    X, _, _ = make_orientation_task(white, angles=((-180, 0), (1, 179)), random_state=0, **params)
    np.testing.assert_allclose(X, 255, rtol=0 if dtype == np.uint8 else 1e-6)


def test_floats_have_256_shades():
    images = np.random.default_rng(0).normal(size=(10, 3, 16, 16)).astype(np.float32)
    X, _, _ = make_orientation_task(images, random_state=0)
    steps = (X - images.min()) / (np.ptp(images) / 255)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    same = np.full((2, 1, 8, 8), 0.1, dtype=np.float32)
    np.testing.assert_allclose(make_orientation_task(same, random_state=0)[0], 0.1, rtol=1e-5)


def test_batches_do_not_matter(monkeypatch):
    images = waves(9, side=16)
    X, _, _ = make_orientation_task(images, random_state=0)
    monkeypatch.setattr("sklearn_moe.datasets._orientation._BATCH_VALUES", 20_000)
    again, _, _ = make_orientation_task(images[:, ::-1, ::-1][:, :, ::-1], random_state=0)
    np.testing.assert_allclose(X.astype(int), again, atol=1)  # a sum may round the other way


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"images": waves(2)[:, 0]}, r"make_orientation_task .*pass images\[:, np\.newaxis\]"),
        ({"images": waves(2)[:, :, :3]}, r"at least 4 x 4 pixels .* got 3 x 32 .*Pass larger"),
        ({"groups": [0]}, r"inconsistent numbers of samples: \[2, 1\]"),
        ({"angles": (0, 30)}, r"angles=\(0, 30\) must be a range \(low, high\) in degrees"),
        ({"angles": ((0, 30),)}, r"each of at least two classes, as in \(\(-10, 10\), \(20"),
        ({"angles": ((0, 30), (40,))}, r"must be a range"),
        ({"angles": ((0, 30), (40, np.inf))}, r"must be a range"),
        ({"angles": ("low", "high")}, r"must be a range"),
        ({"angles": ((10, -10), (20, 40))}, r"a range from 10 down to -10"),
        ({"angles": ((-10, 10), (5, 40))}, r"overlap .*\(-10\.0, 10\.0\) and \(5\.0, 40\.0\)"),
        ({"angles": ((-10, 10), (90, 95), (345, 355))}, r"overlap on the circle, \(-10\.0, 10"),
        ({"angles": ((30, 30), (-330, -330))}, r"overlap on the circle"),
        ({"blur": 0.4}, r"'blur' parameter .* must be a float in the range \[0\.5, inf\)"),
    ],
)
def test_mistakes_are_explained(params, message):
    with pytest.raises(ValueError, match=message):
        make_orientation_task(**{"images": waves(2), "random_state": 0, **params})


def test_ranges_may_touch():
    images = waves(2, side=8)
    angles = ((0, 90), (90, 180), (180, 270), (270, 360))
    _, y, _ = make_orientation_task(images, angles=angles, random_state=0)
    assert sorted(y) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_estimator_takes_the_pictures_as_they_are():
    X, y, _ = make_orientation_task(waves(10, side=8), random_state=0)
    clf = MoEClassifier(n_experts=1, max_iter=1, tol=None, random_state=0).fit(X, y)
    assert clf.predict(X).shape == y.shape
