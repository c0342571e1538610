"""What the split of pictures follows: class, brightness, color, edges, or nothing."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.metrics import (
    SplitInformation,
    picture_properties,
    specialization_report,
    split_information,
)
from sklearn_moe.metrics._pictures import _measure, quantile_bins
from sklearn_moe.metrics._split import above_null

PROPERTIES = [
    "brightness",
    "contrast",
    "edges (upright - level)",
    "color (red - blue)",
    "color (green - magenta)",
]
RED_BLUE, GREEN_MAGENTA = np.array([1, 0, -1]) / 2, np.array([-1, 2, -1]) / 3
OPTIONS = {"max_iter": 1, "tol": None, "random_state": 0, "device": "cpu"}


def draw_pictures(n_samples=600, seed=0, dtype=np.float64):
    """Return pictures whose properties have nothing to do with each other, and classes.

    Gratings on a colored ground, and the values that they were made of, by property.
    """
    rng = np.random.default_rng(seed)
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


class Split:
    """Sends every picture where it is told to, and says anything; one expert or several."""

    classes_ = np.arange(3)
    n_experts = 4

    def __init__(self, experts):
        self.experts = np.asarray(experts)

    def apply(self, X):
        return self.experts

    def gate_proba(self, X):
        first = self.experts.reshape(len(X), -1)[:, 0]
        return np.where(np.arange(self.n_experts) == first[:, None], 0.7, 0.1)

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def expert_proba(self, X):
        return np.ones((len(X), self.n_experts, 3)) / 3


# -- properties ---------------------------------------------------------------------------


def slow_values(picture):
    """Return the properties of one picture by loops in float64."""
    picture = picture.astype(np.float64)
    n_channels, height, width = picture.shape
    grey = [
        [sum(picture[c, i, j] for c in range(n_channels)) / n_channels for j in range(width)]
        for i in range(height)
    ]
    cells = [(i, j) for i in range(height) for j in range(width)]
    mean = sum(grey[i][j] for i, j in cells) / len(cells)
    variance = sum((grey[i][j] - mean) ** 2 for i, j in cells) / len(cells)
    across = [abs(grey[i][j] - grey[i][j - 1]) for i, j in cells if j]
    down = [abs(grey[i][j] - grey[i - 1][j]) for i, j in cells if i]
    across = sum(across) / len(across) if across else 0
    down = sum(down) / len(down) if down else 0
    values = [mean, variance**0.5, (across - down) / (across + down) if across + down else 0]
    if n_channels == 3:
        red, green, blue = (sum(channel.ravel().tolist()) / len(cells) for channel in picture)
        values += [red - blue, green - (red + blue) / 2]
    return values


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 6, 6), (4, 2, 3), (3, 1, 4), (3, 4, 1)])
def test_properties_match_loops(shape, dtype, monkeypatch):
    monkeypatch.setattr("sklearn_moe.metrics._pictures._VALUES_AT_ONCE", 300)  # several chunks
    X = np.random.default_rng(0).integers(256, size=(40, *shape)).astype(dtype)
    expected = np.array([slow_values(x) for x in X]).T
    names = PROPERTIES[: len(expected)]
    measured = _measure(X)
    assert list(measured) == names
    for name, values in zip(names, expected, strict=True):
        shown = values if name == PROPERTIES[2] else values / np.abs(X.mean(axis=(2, 3))).max()
        np.testing.assert_allclose(measured[name], shown, rtol=1e-3, atol=1e-8)
    groups = picture_properties(X, n_bins=4)
    assert list(groups) == names
    for name, values in zip(names, expected, strict=True):
        if len(np.unique(values.round(6))) == 40:
            np.testing.assert_array_equal(groups[name], values.argsort().argsort() // 10)


def test_properties_are_what_the_pictures_were_made_of():
    X, _, drawn = draw_pictures()
    for name, groups in picture_properties(X, n_bins=4).items():
        told = split_information(groups, quarters(drawn[name]), random_state=0)
        assert told.share > 0.7, name


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_the_unit_of_pictures_does_not_matter(scale):
    X, _, _ = draw_pictures(dtype=np.uint8)
    for name, groups in picture_properties(X * scale + 3 * scale).items():
        np.testing.assert_array_equal(groups, picture_properties(X)[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_and_their_floats_have_the_same_groups(dtype):
    X, _, _ = draw_pictures(dtype=np.uint8)
    floats = picture_properties((X / 255).astype(dtype))
    for name, groups in picture_properties(X).items():
        # Pictures that tie as bytes may differ by rounding as floats.
        assert np.mean(floats[name] == groups) > 0.98
        assert dtype == np.float32 or (floats[name] == groups).all()


def test_a_single_picture_has_properties():
    X, _, _ = draw_pictures(1)
    assert {tuple(groups) for groups in picture_properties(X, n_bins=2).values()} <= {(0,), (1,)}


def test_chunks_do_not_matter(monkeypatch):
    X, _, _ = draw_pictures(100)
    whole = _measure(X)
    monkeypatch.setattr("sklearn_moe.metrics._pictures._VALUES_AT_ONCE", 1)
    for name, values in _measure(X).items():
        np.testing.assert_array_equal(values, whole[name])


def test_memory_is_bounded(tmp_path):
    """A copy of all pictures in float64 would be 15 times what is allowed here."""
    import tracemalloc

    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (5000, 3, 32, 32))
    tracemalloc.start()
    picture_properties(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * X.size / 15


def test_flat_and_grey_pictures_have_no_contrast_edges_or_color():
    """What rounding leaves over is no property."""
    values = np.random.default_rng(0).uniform(size=200)
    groups = picture_properties(np.broadcast_to(values[:, None, None, None], (200, 3, 7, 7)))
    np.testing.assert_array_equal(np.bincount(groups.pop("brightness")), np.full(10, 20))
    assert all(len(np.unique(of_other)) == 1 for of_other in groups.values())


def test_bins_are_even_and_ties_stay_together():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(np.bincount(quantile_bins(rng.normal(size=100), 5)), [20] * 5)
    np.testing.assert_array_equal(quantile_bins(np.zeros(7), 3), quantile_bins(np.ones(7), 3))
    half = quantile_bins([0, 0, 0, 0, 1, 2, 3, 4], 4)
    assert half[:4].tolist() == half[:1].tolist() * 4
    assert (np.diff(half) >= 0).all()
    assert len(np.unique(half)) == 3


@pytest.mark.parametrize("shape", [(4,), (4, 12), (4, 3, 2), (4, 3, 0, 2), (4, 1, 3, 2, 2)])
def test_what_are_no_pictures_is_explained(shape):
    with pytest.raises(
        ValueError, match=r"X must be pictures of shape .* pass X.reshape\(len\(X\)"
    ):
        picture_properties(np.ones(shape))


def test_wrong_values_and_bins_are_explained():
    X = np.ones((4, 3, 2, 2))
    with pytest.raises(ValueError, match=r"'n_bins' parameter of picture_properties must be an"):
        picture_properties(X, n_bins=1)
    X[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN"):
        picture_properties(X)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        picture_properties(X[:0])


# -- information --------------------------------------------------------------------------


@pytest.mark.parametrize("n_experts", [2, 5])
def test_information_and_null_match_shuffles(n_experts):
    rng = np.random.RandomState(0)
    groups = rng.randint(3, size=90)
    experts = np.where(rng.uniform(size=90) < 0.2, groups == 2, rng.randint(n_experts, size=90))
    told = split_information(groups, experts, n_permutations=3000, random_state=0)
    null = [mutual_info_score(rng.permutation(groups), experts) for _ in range(1000)]
    assert told.information == pytest.approx(mutual_info_score(groups, experts))
    assert told.expert_entropy == pytest.approx(mutual_info_score(experts, experts))
    assert told.null_mean == pytest.approx(np.mean(null), rel=0.08)
    assert told.null_low == pytest.approx(np.quantile(null, 0.025), abs=0.005)
    assert told.null_high == pytest.approx(np.quantile(null, 0.975), rel=0.15)
    assert told.p_value == pytest.approx(
        np.mean(np.array(null) > told.information - 1e-9), abs=0.05
    )
    share = (told.information - told.null_mean) / (told.expert_entropy - told.null_mean)
    assert told.share == pytest.approx(share)


def test_share_is_one_where_groups_decide_and_zero_by_chance():
    rng = np.random.RandomState(0)
    groups = rng.randint(6, size=300)
    assert split_information(groups, groups % 3, random_state=0).share == pytest.approx(1)
    shares = [
        split_information(groups, rng.randint(4, size=300), n_permutations=20, random_state=0).share
        for _ in range(200)
    ]
    assert np.mean(shares) == pytest.approx(0, abs=4 * np.std(shares) / 200**0.5)
    assert min(shares) < 0


@pytest.mark.parametrize(
    ("groups", "experts"),
    [
        ([0, 1, 0, 1], [2, 2, 2, 2]),  # one expert answers
        ([5, 5, 5, 5], [0, 1, 0, 1]),  # all samples are alike
        ([0, 1, 2, 3], [0, 1, 0, 1]),  # every sample is a group of its own
    ],
)
def test_nothing_is_told_where_nothing_can_be(groups, experts):
    told = split_information(groups, experts, random_state=0)
    assert (told.share, told.p_value) == (0, 1)
    assert told.information == pytest.approx(told.null_mean)


def test_the_first_of_several_experts_counts():
    rng = np.random.RandomState(0)
    groups, experts = rng.randint(3, size=50), rng.randint(4, size=(50, 2))
    several, first = (
        split_information(groups, given, random_state=0) for given in (experts, experts[:, 0])
    )
    assert several == first


def test_labels_may_be_anything_and_the_seed_decides():
    rng = np.random.RandomState(0)
    groups, experts = rng.randint(3, size=50), rng.randint(4, size=50)
    names = np.array(list("wxyz"))
    first = split_information(groups, experts, random_state=0)
    assert split_information(names[groups], names[experts], random_state=0) == first
    assert split_information(groups, experts, random_state=0) == first
    assert split_information(groups, experts, random_state=1) != first
    with pytest.raises(FrozenInstanceError):
        first.p_value = 0.0


def test_wrong_groups_and_permutations_are_explained():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[2, 3\]"):
        split_information([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match=r"'n_permutations' parameter of split_information"):
        split_information([0, 1], [0, 1], n_permutations=0)


# -- verdict ------------------------------------------------------------------------------


def told_of(share, p_value):
    return SplitInformation(share, 0.0, 0.0, 0.0, p_value, 1.0)


def test_the_largest_share_of_those_above_the_null_comes_first():
    split = {
        "weak": told_of(0.1, 0.001),
        "strong": told_of(0.5, 0.001),
        "chance": told_of(0.9, 0.2),
    }
    assert above_null(split) == ("strong", "weak")
    assert above_null({}) == ()


def test_many_properties_need_smaller_p_values():
    assert above_null({"a": told_of(0.1, 0.04)}) == ("a",)
    assert above_null({"a": told_of(0.1, 0.04), "b": told_of(0.1, 0.5)}) == ()
    assert above_null({"a": told_of(0.1, 0.04), "b": told_of(0.2, 0.02)}) == ("b", "a")  # Holm
    third = {"a": told_of(0.1, 0.001), "b": told_of(0.2, 0.04), "c": told_of(0.3, 0.045)}
    assert above_null(third) == ("a",)  # what comes after one by chance is not looked at
    assert above_null({"a": told_of(0.1, 0.04)}, level=0.01) == ()


def test_independence_is_called_nothing_at_the_nominal_rate():
    X, y, _ = draw_pictures(300)
    properties = {"class": y} | picture_properties(X)
    rng = np.random.RandomState(0)
    n_draws, found = 200, 0
    for _ in range(n_draws):
        experts = rng.choice(4, p=[0.6, 0.2, 0.2, 0.0], size=300)
        found += bool(
            above_null(
                {
                    name: split_information(groups, experts, n_permutations=599, random_state=rng)
                    for name, groups in properties.items()
                }
            )
        )
    assert binomtest(found, n_draws, 0.05).pvalue > 0.01


# -- report -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["class", *PROPERTIES])
def test_the_report_names_what_the_split_follows(name, dtype):
    X, y, drawn = draw_pictures(dtype=dtype)
    experts = y if name == "class" else quarters(drawn[name])
    report = specialization_report(Split(experts), X, y, random_state=0)
    assert report.split_follows == (name,)
    assert list(report.split) == ["class", *PROPERTIES]
    assert report.split[name].share > 0.75
    text = str(report)
    assert f"Split: it follows {name}, {report.split[name].share:.1%} of it" in text
    line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
    value = split_information(
        y if name == "class" else picture_properties(X)[name], experts, random_state=0
    ).information
    assert line.removeprefix(f"  {name}").split()[0] == f"{value:.3f}"
    assert max(map(len, text.splitlines())) <= 100
    frame = report.to_frame()
    assert frame.loc[name, "value"] == report.split[name].information == value
    assert frame.loc[name, "null"] == report.split[name].null_mean
    assert frame.loc[name, "reading"].startswith(f"{report.split[name].share:.1%}, p = 0.00")


def test_of_two_properties_the_report_names_the_stronger():
    X, y, drawn = draw_pictures()
    bright = drawn["brightness"] > 0
    experts = np.where(drawn["color (red - blue)"] > 0.6, 2, bright)
    report = specialization_report(Split(experts), X, y, random_state=0)
    assert report.split_follows == ("brightness", "color (red - blue)")


def test_the_report_says_that_a_split_follows_nothing():
    X, y, _ = draw_pictures()
    experts = np.random.RandomState(0).randint(4, size=len(X))
    report = specialization_report(Split(experts), X, y, random_state=0)
    assert report.split_follows == ()
    assert "Split: it follows none of these beyond chance" in str(report)


def test_one_expert_makes_no_split():
    X, y, _ = draw_pictures()
    report = specialization_report(Split(np.ones(len(X), dtype=int)), X, y, random_state=0)
    assert report.split_follows == ()
    assert "Split: there is none, one expert answers all" in str(report)


def test_the_report_looks_at_the_first_of_several_experts():
    X, y, drawn = draw_pictures()
    first = quarters(drawn["contrast"])
    experts = np.column_stack([first, (first + 1) % 4])
    report = specialization_report(Split(experts), X, y, random_state=0)
    assert report.split_follows == ("contrast",)


def test_clusters_stand_beside_the_split_and_keep_their_numbers():
    X, y, drawn = draw_pictures()
    experts = quarters(drawn["brightness"])
    report = specialization_report(Split(experts), X, y, y, random_state=0)
    of_rows = specialization_report(Split(experts), flat(X), y, y, random_state=0)
    assert report.entropy_test == of_rows.entropy_test
    text = str(report)
    assert text.index("Split: it follows brightness") < text.index("Dispatch entropy: ")
    assert of_rows.split is of_rows.split_follows is None
    assert "Split" not in str(of_rows)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_a_router_with_known_weights_is_seen_through():
    """A fitted mixture whose router reads the mean of a color, and nothing else."""
    X, y, _ = draw_pictures(dtype=np.float32)
    params = {"expert": "cnn", "expert_width": 2, "trunk": None, "standardize": False}
    clf = MoEClassifier(2, router="top1", **params, **OPTIONS).fit(X, y)
    with torch.no_grad():
        for weight in clf.module_.router.parameters():
            weight.zero_()
        layer = next(p for p in clf.module_.router.parameters() if p.ndim > 1)
        tint = torch.tensor([1.0, 0.0, -1.0]).repeat_interleave(16)
        layer.copy_(torch.stack([tint, -tint]).reshape(layer.shape))
    report = specialization_report(clf, X, y, random_state=0)
    assert report.split_follows[0] == "color (red - blue)"
    assert report.split["color (red - blue)"].share > 0.9


def flat(X):
    return X.reshape(len(X), -1)


def channels_first(X):
    return X.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("kind", ["features of pictures", "rows of pixels", "channels last"])
def test_pictures_are_those_that_the_mixture_sees_or_that_are_given(kind):
    X, y, _ = draw_pictures(120)
    cnn = {"expert": "cnn", "expert_width": 2, **OPTIONS}
    if kind == "features of pictures":
        given, model = X, make_pipeline(FunctionTransformer(flat), MoEClassifier(3, **OPTIONS))
    elif kind == "rows of pixels":
        given, model = flat(X), MoEClassifier(3, sample_shape=X.shape[1:], **cnn)
    else:
        given = X.transpose(0, 2, 3, 1)
        model = make_pipeline(FunctionTransformer(channels_first), MoEClassifier(3, **cnn))
    model.fit(given, y)
    report = specialization_report(model, given, y, n_permutations=10, random_state=0)
    seen = {"rows of pixels": given, "channels last": X}.get(kind, flat(X))
    experts = getattr(model, "steps", [(None, model)])[-1][1].apply(seen)
    properties = {"class": y} | picture_properties(X)
    assert list(report.split) == list(properties)
    for name, groups in properties.items():
        expected = mutual_info_score(groups, experts)
        assert report.split[name].information == pytest.approx(expected, abs=1e-9)


def test_numbers_and_several_labels_are_properties_too():
    X, _, drawn = draw_pictures(120)
    params = {"expert": "cnn", "expert_width": 2, **OPTIONS}
    y = drawn["brightness"]
    several = np.column_stack([y > 0, drawn["contrast"] > 0]).astype(int)
    outputs = np.column_stack([y, drawn["contrast"]])
    for estimator, given, names in (
        (MoERegressor, y, ["y"]),
        (MoERegressor, y[:, None], ["y"]),
        (MoEClassifier, several, ["labels"]),
        (MoERegressor, outputs, []),
    ):
        moe = estimator(3, **params).fit(X, np.squeeze(given))
        report = specialization_report(moe, X, given, n_permutations=10, random_state=0)
        assert list(report.split) == [*names, *PROPERTIES]


def test_the_report_of_pictures_is_seeded_and_leaves_them_alone():
    X, y, _ = draw_pictures(dtype=np.uint8)
    experts = np.random.RandomState(0).randint(4, size=len(X))
    before = X.copy()
    first, same, other = (
        specialization_report(Split(experts), X, y, random_state=seed) for seed in (0, 0, 1)
    )
    assert first.split == same.split != other.split
    np.testing.assert_array_equal(X, before)


def test_colors_are_those_of_three_channels():
    X, y, drawn = draw_pictures()
    report = specialization_report(Split(quarters(drawn["contrast"])), X[:, :2], y, random_state=0)
    assert list(report.split) == ["class", *PROPERTIES[:3]]
    assert report.split_follows[0] == "contrast"
