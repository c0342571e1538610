"""What a split follows: class, brightness, color, edges of images; a column; or nothing."""

import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import raises
from scipy.sparse import csr_matrix
from sklearn.metrics import mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.metrics import (
    SplitInformation,
    expert_load,
    image_properties,
    load_cv,
    specialization_report,
    split_information,
)
from sklearn_moe.metrics._split import _measure, above_null, quantile_bins

# Most fits here are too short to learn much.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.WorseThanNullWarning")
COLORS = ["color (red - blue)", "color (green - magenta)"]
PROPERTIES = ["brightness", "contrast", "edges (upright - level)", *COLORS]
RED_BLUE, GREEN_MAGENTA = np.array([1, 0, -1]) / 2, np.array([-1, 2, -1]) / 3


def draw_images(n_samples=600, dtype=np.float64):
    """Return images with independent properties, classes, and the values of the properties.

    They are gratings on a colored ground.
    """
    rng = np.random.default_rng(0)
    drawn = dict(zip(PROPERTIES, rng.uniform(-1, 1, (5, n_samples)), strict=True))
    brightness, contrast, edges, red_blue, green_magenta = drawn.values()
    x = np.arange(12) / 12
    waves = np.sin(2 * np.pi * (2 * x + rng.uniform(size=(2, n_samples, 1))))
    level, upright = waves[0][:, :, None], waves[1][:, None, :]
    angle = np.pi / 4 * (1 + edges)[:, None, None]
    grating = np.cos(angle) * level + np.sin(angle) * upright  # of the same deviation at any angle
    grey = 0.5 + 0.1 * brightness[:, None, None]
    grey = grey + (0.1 + 0.05 * contrast)[:, None, None] * grating
    tint = 0.1 * (red_blue[:, None] * RED_BLUE + green_magenta[:, None] * GREEN_MAGENTA)
    X = grey[:, None] + tint[:, :, None, None]
    X = (255 * X).round().astype(dtype) if dtype == np.uint8 else X.astype(dtype)
    return X, rng.integers(3, size=n_samples), drawn


def quarters(values):
    return np.digitize(values, [-0.5, 0, 0.5])


# -- properties ---------------------------------------------------------------------------


def slow_values(image):
    """Return the properties of one image by loops in float64."""
    image = image.astype(np.float64)
    grey, (height, width) = image.sum(axis=0) / len(image), image.shape[1:]
    across = [abs(grey[i, j] - grey[i, j - 1]) for i in range(height) for j in range(1, width)]
    down = [abs(grey[i, j] - grey[i - 1, j]) for i in range(1, height) for j in range(width)]
    across, down = (sum(steps) / len(steps) if steps else 0 for steps in (across, down))
    edges = (across - down) / (across + down) if across + down else 0
    values = [grey.mean(), grey.std(), edges]
    if len(image) == 3:
        red, green, blue = (channel.mean() for channel in image)
        values += [red - blue, green - (red + blue) / 2]
    return values


SHAPES = [((3, 7, 5), np.uint8), ((1, 6, 6), np.float16), ((4, 2, 3), np.float64)]
SHAPES += [((3, 1, 4), np.float32), ((3, 4, 1), np.uint8)]


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
def test_properties_match_loops(shape, dtype, monkeypatch):
    X = np.random.default_rng(0).integers(256, size=(40, *shape)).astype(dtype)
    whole, groups = _measure(X), image_properties(X, n_bins=4)
    monkeypatch.setattr("sklearn_moe.metrics._split._VALUES_AT_ONCE", 300)  # several batches
    expected = np.array([slow_values(x) for x in X]).T
    names = PROPERTIES[: len(expected)]
    measured = _measure(X)
    assert list(measured) == list(groups) == names
    for name, values in zip(names, expected, strict=True):
        shown = values if name == PROPERTIES[2] else values / np.abs(X.mean(axis=(2, 3))).max()
        np.testing.assert_allclose(measured[name], shown, rtol=1e-3, atol=1e-8)
        np.testing.assert_array_equal(measured[name], whole[name])
        if len(np.unique(values.round(6))) == 40:
            np.testing.assert_array_equal(groups[name], values.argsort().argsort() // 10)


def test_properties_are_those_of_the_drawing_in_any_unit():
    X, _, drawn = draw_images(dtype=np.uint8)
    groups = image_properties(X)
    for name, values in image_properties(X, n_bins=4).items():
        assert split_information(values, quarters(drawn[name]), random_state=0).share > 0.7, name
    for scale in (1e-6, 1e6):
        for name, others in image_properties(X * scale + 3 * scale).items():
            np.testing.assert_array_equal(others, groups[name])
    for name, others in image_properties((X / 255).astype(np.float32)).items():
        assert np.mean(others == groups[name]) > 0.98  # equal uint8 values may differ by rounding
    single = image_properties(X[:1], n_bins=2)
    assert {tuple(of_one) for of_one in single.values()} <= {(0,), (1,)}
    # What rounding leaves over is not a property.
    values = np.random.default_rng(0).uniform(size=200)
    flat = image_properties(np.broadcast_to(values[:, None, None, None], (200, 3, 7, 7)))
    np.testing.assert_array_equal(np.bincount(flat.pop("brightness")), np.full(10, 20))
    assert all(len(np.unique(of_other)) == 1 for of_other in flat.values())


def test_memory_is_bounded(tmp_path):
    """A copy of all images in float64 would be 15 times what is allowed here."""
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (5000, 3, 32, 32))
    tracemalloc.start()
    image_properties(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * X.size / 15


def test_bins_are_even_and_ties_stay_together():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(np.bincount(quantile_bins(rng.normal(size=100), 5)), [20] * 5)
    np.testing.assert_array_equal(quantile_bins(np.zeros(7), 3), quantile_bins(np.ones(7), 3))
    for values, expected in (
        ([0, 0, 0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 1, 2, 3, 3]),
        ([0, 1, 1, 2, 3, 4, 5, 6], [0, 1, 1, 1, 2, 2, 3, 3]),  # no more than a fourth
        ([0] * 10 + [1, 1, 1, 2, 3], [0] * 10 + [1, 1, 1, 2, 3]),  # few distinct values
        ([0, 1, *[5] * 10, 8, 9], [0, 1, *[2] * 10, 3, 3]),
    ):
        assert quantile_bins(values, 4).tolist() == expected


@pytest.mark.parametrize("kind", ["0/1", "many zeros", "y", "bright images"])
def test_rare_values_have_groups_of_their_own(kind):
    rng = np.random.default_rng(0)
    rare, X, y = rng.uniform(size=500) < 0.08, rng.normal(size=(500, 3)), np.arange(500) % 3
    name, values = "x0", np.where(rare, rng.exponential(size=500), 0)
    if kind == "bright images":
        name, X = "brightness", (rare[:, None, None, None] + 1) * np.ones((500, 3, 4, 4))
    elif kind == "y":
        assert np.unique(quantile_bins(values, 10)[~rare]).tolist() == [0]
        return
    else:
        X[:, 0] = rare if kind == "0/1" else values
    report = report_of(rare.astype(int), X, y)
    assert report.split_follows[0] == name
    assert report.split[name].share > 0.8


def test_missing_is_a_category_and_the_empty_text_another():
    texts = np.repeat(np.array(["", None, "a"], object), 60)
    report = report_of(np.repeat([0, 1, 0], 60), pd.DataFrame({"text": texts}), np.arange(180) % 3)
    assert report.split["text"].share == pytest.approx(1)


def test_wrong_images_are_explained():
    for shape in ((4, 12), (4, 3, 0, 2), (4, 1, 3, 2, 2)):
        raises(ValueError, "X must be images", image_properties, np.ones(shape))
    raises(ValueError, "X contains NaN", image_properties, np.full((4, 3, 2, 2), np.nan))
    raises(ValueError, "'n_bins'", image_properties, np.ones((4, 3, 2, 2)), n_bins=1)


# -- information --------------------------------------------------------------------------


def test_information_and_null_match_shuffles():
    rng = np.random.RandomState(0)
    groups = rng.randint(3, size=90)
    experts = np.where(rng.uniform(size=90) < 0.2, groups == 2, rng.randint(5, size=90))
    found = split_information(groups, experts, n_permutations=3000, random_state=0)
    null = np.array([mutual_info_score(rng.permutation(groups), experts) for _ in range(1000)])
    assert found.information == pytest.approx(mutual_info_score(groups, experts))
    assert found.expert_entropy == pytest.approx(mutual_info_score(experts, experts))
    assert found.null_mean == pytest.approx(np.mean(null), rel=0.08)
    assert found.null_low == pytest.approx(np.quantile(null, 0.025), abs=0.005)
    assert found.null_high == pytest.approx(np.quantile(null, 0.975), rel=0.15)
    assert found.p_value == pytest.approx(np.mean(null > found.information - 1e-9), abs=0.05)
    share = (found.information - found.null_mean) / (found.expert_entropy - found.null_mean)
    assert found.share == pytest.approx(share)


def test_share_is_one_where_groups_decide_and_zero_by_chance():
    rng = np.random.RandomState(0)
    groups = rng.randint(6, size=300)
    assert split_information(groups, groups % 3, random_state=0).share == pytest.approx(1)
    split = partial(split_information, groups, n_permutations=20, random_state=0)
    shares = [split(rng.randint(4, size=300)).share for _ in range(200)]
    assert np.mean(shares) == pytest.approx(0, abs=4 * np.std(shares) / 200**0.5)
    assert min(shares) < 0
    pairs = [0, 1, 0, 1]  # a single expert, a single group, a group of every sample
    for groups, experts in ((pairs, [2] * 4), ([5] * 4, pairs), (range(4), pairs)):
        found = split_information(groups, experts, random_state=0)
        assert (found.share, found.p_value) == (0, 1)
        assert found.information == pytest.approx(found.null_mean)


def test_labels_seeds_and_wrong_input():
    rng = np.random.RandomState(0)
    groups, experts, other = (rng.randint(n, size=50) for n in (3, 4, 4))
    names = np.array(list("zyx"))
    first = split_information(groups, experts, random_state=0)
    several = np.column_stack([experts, other])
    assert split_information(groups, several, random_state=0) == first  # the first one counts
    assert split_information(names[groups], experts.astype(str), random_state=0).share > -1
    assert split_information(groups, experts, random_state=0) == first
    assert split_information(groups, experts, random_state=1) != first
    raises(ValueError, "groups and experts", split_information, [0, 1], [0, 1, 1])
    raises(ValueError, "'n_permutations'", split_information, [0, 1], [0, 1], n_permutations=0)


def found_of(share, p_value):
    return SplitInformation(share, 0.0, 0.0, 0.0, p_value, 1.0)


def test_names_beyond_chance():
    weak, strong = found_of(0.1, 0.001), found_of(0.5, 0.001)
    split = {"weak": weak, "strong": strong, "chance": found_of(0.9, 0.2)}
    assert above_null(split) == ("strong", "weak")
    assert above_null({}) == ()
    # Many properties need smaller p-values (Holm).
    one = {"a": found_of(0.1, 0.04)}
    assert above_null(one) == ("a",)
    assert above_null(one, level=0.01) == ()
    assert above_null(one | {"b": found_of(0.1, 0.5)}) == ()
    assert above_null(one | {"b": found_of(0.2, 0.02)}) == ("b", "a")
    third = {"a": weak, "b": found_of(0.2, 0.04), "c": found_of(0.3, 0.045)}
    assert above_null(third) == ("a",)  # after one by chance no other counts


# -- report -------------------------------------------------------------------------------


class Split:
    """Routes as given, one expert or several, with constant outputs."""

    classes_ = np.arange(3)

    def __init__(self, experts):
        self.experts = np.asarray(experts)

    def apply(self, X):
        return self.experts

    def gate_proba(self, X):
        return np.full((X.shape[0], 4), 0.25)

    def predict(self, X):
        return np.zeros(X.shape[0], dtype=int)

    def expert_proba(self, X):
        return np.full((X.shape[0], 4, 3), 1 / 3)


def report_of(experts, X, y, *clusters, **options):
    return specialization_report(Split(experts), X, y, *clusters, **{"random_state": 0} | options)


@pytest.mark.parametrize(
    ("name", "dtype"), [("class", np.uint8), (PROPERTIES[2], np.float32), (COLORS[1], np.uint8)]
)
def test_the_report_names_what_the_split_follows(name, dtype):
    X, y, drawn = draw_images(dtype=dtype)
    experts = y if name == "class" else quarters(drawn[name])
    report, before = report_of(experts, X, y), X.copy()
    assert report.split_follows == (name,)
    assert list(report.split) == ["class", *PROPERTIES]
    found = report.split[name]
    assert found.share > 0.75
    text = str(report)
    assert f"The split follows {name}, which explains {found.share:.1%} of it" in text
    assert f"The split follows {name}" in report._repr_html_()
    assert max(map(len, text.splitlines())) <= 100
    row = report.to_frame().loc[name]
    groups = y if name == "class" else image_properties(X)[name]
    value = split_information(groups, experts, random_state=0).information
    assert row["value"] == found.information == value
    assert row["baseline"] == found.null_mean
    assert row["reading"].startswith(f"explains {found.share:.1%} of the split, p = 0.00")
    assert report_of(experts, X, y).split == report.split
    assert report_of(experts, X, y, random_state=1).split != report.split
    np.testing.assert_array_equal(X, before)


def test_other_splits():
    X, y, drawn = draw_images()
    two = np.where(drawn[COLORS[0]] > 0.6, 2, drawn["brightness"] > 0)
    assert report_of(two, X, y).split_follows == ("brightness", COLORS[0])
    random = np.random.RandomState(0).randint(4, size=len(X))
    for experts, text in ((random, "none of these beyond chance"), (y * 0, "There is no split")):
        report = report_of(experts, X, y)
        assert report.split_follows == ()
        assert text in str(report)
    first = quarters(drawn["contrast"])
    several = report_of(np.column_stack([first, (first + 1) % 4]), X, y)
    assert several.split_follows == ("contrast",)
    grey = report_of(first, X[:, :2], y)
    assert (list(grey.split), grey.split_follows[0]) == (["class", *PROPERTIES[:3]], "contrast")
    images, rows = (report_of(first, given, y, y) for given in (X, flatten(X)))
    assert images.entropy_test == rows.entropy_test
    text = str(images)
    assert text.index("The split follows contrast") < text.index("Dispatch entropy: ")
    assert len(rows.split) == 9  # the target, and columns that half of the samples choose
    bags = report_of(first, X[:, 0], y)
    assert bags.split is bags.split_follows is None
    assert "Split" not in str(bags)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_load_of_random_routes_varies_as_its_baseline(k):
    rng, y = np.random.default_rng(0), np.arange(50) % 3
    routes = rng.permuted(np.tile(np.arange(4), (400, 50, 1)), axis=2)[..., :k]
    squares = [load_cv(expert_load(experts, n_experts=4)) ** 2 for experts in routes]
    report = report_of(routes[0], y[:, None], y, n_permutations=1)
    baseline = report.to_frame().loc["load CV", "baseline"]
    assert baseline**2 == pytest.approx(np.mean(squares), rel=0.15)


CONTAINERS = [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas, np.asarray]


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_split_of_a_table_follows_its_columns(container):
    rng = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + np.arange(600)
    frame = pd.DataFrame(
        {
            "city": pd.Categorical(rng.choice(["Bonn", "Oslo", "Rome"], 600)),
            "temperature": np.where(np.arange(600) % 10, rng.uniform(0, 30, 600), np.nan),
            "name": [f"n{i}" for i in range(600)],  # each is another one
            "day": rng.permutation(days),
        }
    )
    names = frame.columns if container is not np.asarray else ["x0", "x1", "x2", "x3"]
    cold, late = frame["temperature"] < 12, frame["day"] > np.datetime64("2024-09-01")
    followed = {0: frame["city"] == "Oslo", 1: cold, 3: late}
    for place, experts in followed.items():
        report = report_of(experts.astype(int), container(frame), np.arange(600) % 3)
        assert list(report.split) == ["class", *names]
        assert report.split_follows == (names[place],)
        share = report.split[names[place]].share
        assert share > 0.8
        assert f"The split follows {names[place]}, which explains {share:.1%}" in str(report)


def test_the_split_of_a_wide_or_long_table(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 60)) * (rng.uniform(size=(400, 60)) < 0.5)
    y, experts = np.arange(400) % 3, (X[:, 41] > 0).astype(int)
    for given in (X, csr_matrix(X)):
        report = report_of(experts, given, y)
        assert len(report.split) == 9
        assert report.split_follows == ("x41",)
    random = [report_of(rng.integers(2, size=400), X, y, n_permutations=20) for _ in range(12)]
    shares = [[split.share for split in report.split.values()][1:] for report in random]
    # The samples that choose the columns do not test them: with all samples it would be 6 of these.
    assert np.mean(shares) < 3 * np.std(shares) / np.size(shares) ** 0.5
    monkeypatch.setattr("sklearn_moe.metrics._specialization._MOST_ROWS", 100)
    long = report_of(experts, X[:, 40:46], y)
    assert long.split_follows == ("x1",)
    assert long.split["x1"].expert_entropy < np.log(2)  # of 100 samples, not quite even
    assert report_of(experts[:1], X[:1], y[:1]).split_follows == ()


def flatten(X):
    return X.reshape(len(X), -1)


OPTIONS = {"max_iter": 1, "tol": None, "random_state": 0}
CNN = {"expert": "cnn", "expert_width": 2, **OPTIONS}


@pytest.mark.filterwarnings("ignore:X has more columns")
def test_images_are_those_that_the_mixture_reads_or_that_are_given():
    X, y, _ = draw_images(120)
    properties = {"class": y} | image_properties(X)
    of_pixels = MoEClassifier(3, sample_shape=X.shape[1:], **CNN)
    of_images = make_pipeline(FunctionTransformer(flatten), MoEClassifier(3, **OPTIONS))
    for model, given in ((of_pixels, flatten(X)), (of_images, X)):
        model.fit(given, y)
        report = specialization_report(model, given, y, n_permutations=10, random_state=0)
        experts = (model[-1] if given is X else model).apply(flatten(X))
        assert list(report.split) == list(properties)
        for name, groups in properties.items():
            expected = mutual_info_score(groups, experts)
            assert report.split[name].information == pytest.approx(expected, abs=1e-9)


def test_other_targets_are_properties_too():
    X, _, drawn = draw_images(120)
    y = drawn["brightness"]
    labels = np.column_stack([y > 0, drawn["contrast"] > 0]).astype(int)
    outputs = np.column_stack([y, drawn["contrast"]])
    for estimator, given, name, groups in (
        *((MoERegressor, shown, "y", quantile_bins(y, 10)) for shown in (y, y[:, None])),
        (MoEClassifier, labels, "labels", labels @ [2, 1]),
        (MoERegressor, outputs, None, None),
    ):
        moe = estimator(3, **CNN).fit(X, np.squeeze(given))
        report = specialization_report(moe, X, given, n_permutations=10, random_state=0)
        assert list(report.split) == [*([name] if name else []), *PROPERTIES]
        if name:
            first = moe.apply(X).reshape(len(X), -1)[:, 0]
            expected = mutual_info_score(groups, first)
            assert report.split[name].information == pytest.approx(expected, abs=1e-9)
