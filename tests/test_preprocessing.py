"""Transformers of pictures: equal to torchvision, whatever the chunks; honest towards sklearn."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.validation import check_is_fitted
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from sklearn_moe import MoEClassifier, preprocessing
from sklearn_moe.nn.seeding import OwnGenerator
from sklearn_moe.preprocessing import (
    BackboneFeatures,
    CenterCropResize,
    GaussianBlur,
    ImageScaler,
    ImageTransform,
    PatchKMeansFeatures,
    RandomCropFlip,
    Rotate,
    cifar10_features,
    paper_blur,
)
from sklearn_moe.preprocessing._base import BaseImageFeatures, BaseImageTransformer

PAPER = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
TRANSFORMERS = [
    CenterCropResize(9, 12),
    CenterCropResize((8, 10), (12, 5), interpolation="bicubic", antialias=False),
    CenterCropResize(9, 5, interpolation="nearest"),
    Rotate(30),
    Rotate(-40, interpolation="nearest", fill=(1, 2, 3)),
    GaussianBlur(random_state=0),
    GaussianBlur(3, 1.5),
    ImageScaler(),
    ImageScaler(*PAPER),
    ImageTransform(v2.Grayscale()),
    ImageTransform(v2.RandomResizedCrop(7), random_state=0),
]

with OwnGenerator(torch.Generator().manual_seed(0)):
    NETWORK = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(24, 5)),
    )
FEATURES = [
    PatchKMeansFeatures(5, patch_size=3, n_patches=300, random_state=0),
    BackboneFeatures(NETWORK, random_state=0, device="cpu"),
]


def name_of(value):
    return type(value).__name__


STATELESS = [t for t in TRANSFORMERS if not isinstance(t, ImageScaler)]
every_transformer = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=name_of)
every_one = pytest.mark.parametrize("transformer", TRANSFORMERS + FEATURES, ids=name_of)
every_stateless = pytest.mark.parametrize("transformer", STATELESS, ids=name_of)
every_dtype = pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])


def pictures(n_samples=7, n_channels=3, height=11, width=13, dtype=np.uint8):
    X = np.random.default_rng(0).integers(256, size=(n_samples, n_channels, height, width))
    return X.astype(dtype) if dtype == np.uint8 else (X / 255).astype(dtype)


def one_by_one(function, X):
    """Apply a function of torchvision to single pictures."""
    return np.stack([function(torch.from_numpy(x)).numpy() for x in X])


# -- equal to torchvision ---------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("crop", "size"), [(9, 12), ((8, 11), (4, 20)), (11, 5)])
@pytest.mark.parametrize("antialias", [True, False])
def test_crop_is_torchvisions(crop, size, mode, antialias, dtype):
    def expected(x):
        middle = functional.center_crop(x, [crop] * 2 if isinstance(crop, int) else list(crop))
        size_ = [size] * 2 if isinstance(size, int) else list(size)
        return functional.resize(middle, size_, v2.InterpolationMode(mode), antialias=antialias)

    X = pictures(dtype=dtype)
    X_new = CenterCropResize(crop, size, interpolation=mode, antialias=antialias).transform(X)
    assert X_new.dtype == dtype
    # Bytes of a single picture may take another code path of torch: one level at most.
    tolerance = {"atol": 1} if dtype == np.uint8 else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(X_new.astype(float), one_by_one(expected, X), **tolerance)


def test_crop_takes_the_middle():
    X = pictures(height=32, width=32)
    np.testing.assert_array_equal(CenterCropResize(24, 24).transform(X), X[:, :, 4:28, 4:28])
    np.testing.assert_array_equal(CenterCropResize(32, 32).transform(X), X)


@every_dtype
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("angle", "fill"), [(30, 0), (-12.5, (0.5, 0, 1)), (180, 0), (0, 0)])
def test_rotation_is_torchvisions(angle, fill, mode, dtype):
    def expected(x):
        values = list(fill) if isinstance(fill, tuple) else [fill] * 3
        return functional.rotate(x, angle, v2.InterpolationMode(mode), fill=values)

    X = pictures(dtype=dtype)
    X_new = Rotate(angle, interpolation=mode, fill=fill).transform(X)
    assert X_new.dtype == dtype
    np.testing.assert_allclose(X_new, one_by_one(expected, X), rtol=1e-5, atol=1e-6)


@every_dtype
def test_rotation_by_right_angles(dtype):
    X = pictures(width=11, dtype=dtype)
    for turns in range(4):
        expected = np.rot90(X, turns, axes=(2, 3))
        np.testing.assert_array_equal(Rotate(90 * turns).transform(X), expected)


@pytest.mark.parametrize(("crop", "black"), [(22, False), (23, True), (24, True)])
def test_black_corners_of_the_papers_task(crop, black):
    rotated = Rotate(30).transform(np.full((1, 3, 32, 32), 255, dtype=np.uint8))
    assert (CenterCropResize(crop, crop).transform(rotated) < 250).any() == black


@every_dtype
@pytest.mark.parametrize("kernel_size", [(3, 7), (5, 1), 3])
def test_blur_is_torchvisions(kernel_size, dtype):
    X = pictures(dtype=dtype)
    kernel = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    X_new = GaussianBlur(kernel_size, 1.3).transform(X)
    expected = one_by_one(lambda x: functional.gaussian_blur(x, kernel, [1.3, 1.3]), X)
    assert X_new.dtype == dtype
    # Two passes round differently from torchvision's one: a byte in a hundred thousand.
    atol = {np.uint8: 1, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(X_new.astype(float), expected, rtol=0, atol=atol)
    if dtype == np.uint8:
        assert np.mean(X_new != expected) < 1e-3


def test_each_picture_has_its_own_blur():
    X = np.zeros((4000, 1, 31, 31), dtype=np.float32)
    X[:, 0, 15, 15] = 1
    X_new = GaussianBlur(31, (1.1, 2.2), random_state=0).transform(X)
    row = X_new[:, 0].sum(axis=1)  # (n, 31): the kernel
    sigma = np.sqrt((row * (np.arange(31) - 15) ** 2).sum(axis=1))
    assert 1.1 - 1e-3 < sigma.min() < 1.11
    assert 2.19 < sigma.max() < 2.2 + 1e-3
    assert abs(sigma.mean() - 1.65) < 0.02
    np.testing.assert_allclose(X_new.sum(axis=(1, 2, 3)), 1, atol=1e-5)


def test_blur_draws_from_random_state():
    X = pictures(dtype=np.float32)
    first, again, other = (GaussianBlur(random_state=s).transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(GaussianBlur(random_state=0).transform(X[:3]), first[:3])
    state = np.random.RandomState(0)
    blur = GaussianBlur(random_state=state).fit(X)  # fit draws nothing
    np.testing.assert_array_equal(blur.transform(X), first)
    assert not np.allclose(blur.transform(X), first)


def test_paper_blur_is_the_blur_before_scaling():
    X = pictures(dtype=np.float32)
    with OwnGenerator(torch.Generator().manual_seed(0)):
        blurred = paper_blur(torch.from_numpy(X)).numpy()
    scaler = ImageScaler(*PAPER).fit(X)
    with OwnGenerator(torch.Generator().manual_seed(0)):
        behind = paper_blur(torch.from_numpy(scaler.transform(X))).numpy()
    np.testing.assert_allclose(scaler.transform(blurred), behind, atol=1e-5)
    assert not np.allclose(blurred, X)


# -- the scaler -------------------------------------------------------------------------------


def test_scaler_is_torchvisions():
    X = pictures()
    to_float = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(*PAPER)])
    X_new = ImageScaler(*PAPER).fit_transform(X)
    assert X_new.dtype == np.float32
    np.testing.assert_array_equal(X_new, one_by_one(to_float, X))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@every_dtype
def test_scaler_finds_mean_and_deviation(dtype, batch_size):
    X = pictures(dtype=dtype)
    scaler = ImageScaler(batch_size=batch_size).fit(X)
    reference = X.astype(np.float64) / (255 if dtype == np.uint8 else 1)
    np.testing.assert_allclose(scaler.mean_, reference.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(scaler.std_, reference.std(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_array_equal(scaler.scale_, scaler.std_)
    X_new = scaler.transform(X)
    assert X_new.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(X_new.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(X_new.std(axis=(0, 2, 3)), 1, atol=1e-6)
    back = scaler.inverse_transform(X_new)
    assert back.dtype == X_new.dtype
    np.testing.assert_allclose(back, reference, atol=1e-6)


def test_scaler_does_not_lose_a_small_deviation_beside_a_large_mean():
    X = 1e8 + pictures(dtype=np.float64)
    expected = (X - 1e8).std(axis=(0, 2, 3))
    np.testing.assert_allclose(ImageScaler(batch_size=2).fit(X).std_, expected, rtol=1e-7)


@pytest.mark.parametrize("given", [None, (0.2, 0, 0.3)])
def test_constant_channel_is_not_divided(given):
    X = pictures(dtype=np.float32)
    X[:, 1] = 0.1
    scaler = ImageScaler(std=given, batch_size=2).fit(X)
    assert scaler.std_[1] == 0
    assert scaler.scale_[1] == 1
    np.testing.assert_allclose(scaler.transform(X)[:, 1], 0, atol=1e-7)


def test_scaler_takes_one_of_the_two():
    X = pictures()
    found = ImageScaler().fit(X)
    np.testing.assert_array_equal(ImageScaler(mean=PAPER[0]).fit(X).std_, found.std_)
    np.testing.assert_array_equal(ImageScaler(std=PAPER[1]).fit(X).mean_, found.mean_)


def test_scaler_must_be_fitted():
    for method in ("transform", "inverse_transform"):
        with pytest.raises(NotFittedError, match="ImageScaler instance is not fitted"):
            getattr(ImageScaler(*PAPER), method)(pictures())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mean": (0.5, 0.5)}, "mean must be one finite number per channel, 3 for these"),
        ({"mean": (0.5, 0.5, np.nan)}, "mean must be one finite number"),
        ({"std": 0.5}, "'std' parameter of ImageScaler must be"),
        ({"std": (1, 1, -1)}, "std must not be negative"),
    ],
)
def test_scaler_refuses(parameters, message):
    with pytest.raises(ValueError, match=message):
        ImageScaler(**parameters).fit(pictures())


def test_inverse_refuses_bytes():
    with pytest.raises(ValueError, match="takes scaled pictures, floats, got uint8"):
        ImageScaler().fit(pictures()).inverse_transform(pictures())


# -- ImageTransform ---------------------------------------------------------------------------


RANDOM = {
    "flip": v2.RandomHorizontalFlip(),
    "crop": v2.RandomCrop(8),
    "jitter": v2.ColorJitter(0.5, 0.5, 0.5, 0.2),
    "distort": v2.RandomPhotometricDistort(),
    "affine": v2.RandomAffine(20, translate=(0.2, 0.2)),
    "perspective": v2.RandomPerspective(),
    "elastic": v2.ElasticTransform(sigma=1.0),
    "erase": v2.RandomErasing(1.0, value="random"),
    "blur": v2.GaussianBlur(3, (1.1, 2.2)),
    "choice": v2.RandomChoice([v2.RandomInvert(1.0), v2.RandomHorizontalFlip(1.0)]),
    "apply": v2.RandomApply([v2.RandomInvert(1.0)]),
    "order": v2.RandomOrder([v2.RandomInvert(1.0), v2.RandomSolarize(100, 1.0)]),
    "auto": v2.AutoAugment(),
    "rand": v2.RandAugment(),
    "trivial": v2.TrivialAugmentWide(),
    "mix": v2.AugMix(),
    "noise": v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise()]),
    "uniform": lambda x: x + torch.rand_like(x, dtype=torch.float32),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms(name):
    X = pictures(n_samples=12)

    def transformed(seed, batch_size=256):
        return ImageTransform(RANDOM[name], random_state=seed, batch_size=batch_size).transform(X)

    global_state = torch.get_rng_state()
    first = transformed(0)
    assert torch.equal(global_state, torch.get_rng_state())
    np.testing.assert_array_equal(first, transformed(0))
    assert not np.array_equal(first, transformed(1))
    for batch_size in (1, 5):
        np.testing.assert_array_equal(first, transformed(0, batch_size))


def test_each_picture_has_its_own_draw():
    X = np.arange(200, dtype=np.uint8).reshape(100, 1, 1, 2)
    flipped = ImageTransform(v2.RandomHorizontalFlip(), random_state=0).transform(X)
    assert 30 < np.sum(flipped[:, 0, 0, 0] != X[:, 0, 0, 0]) < 70


def test_without_draws_pictures_come_in_chunks():
    seen = []

    def double(x):
        seen.append(len(x))
        return x.mul_(2)  # in place: X must not change

    X = pictures(dtype=np.float32)
    before, numpy_state = X.copy(), np.random.mtrand._rand.get_state()[1].copy()
    X_new = ImageTransform(double, batch_size=3).transform(X)
    assert seen == [3, 3, 1]
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(X_new, 2 * before)
    np.testing.assert_array_equal(numpy_state, np.random.mtrand._rand.get_state()[1])


def test_draws_that_begin_late():
    def noisy_if_bright(x):
        bright = x.flatten(1).amax(dim=1) > 0.5
        x[bright] += torch.randn(int(bright.sum()), *x.shape[1:]) if bright.any() else 0
        return x

    X = pictures(dtype=np.float32)
    X[:4] *= 0.1
    results = [
        ImageTransform(noisy_if_bright, random_state=0, batch_size=size).transform(X)
        for size in (1, 3, 4, 5, 7)
    ]
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_array_equal(results[0][:4], X[:4])
    assert not np.allclose(results[0][4:], X[4:])


def test_a_single_picture_may_be_of_random_size():
    resize = ImageTransform(v2.RandomResize(5, 50), random_state=0)
    X_new = resize.transform(pictures(n_samples=1))
    np.testing.assert_array_equal(X_new, resize.transform(pictures(n_samples=1)))


def test_networks_find_features():
    with OwnGenerator(torch.Generator().manual_seed(0)):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 11 * 13, 4)).eval()
    X = pictures(dtype=np.float32)
    X_new = ImageTransform(network, batch_size=2).transform(X)
    assert X_new.shape == (7, 4)
    np.testing.assert_allclose(
        X_new, network(torch.from_numpy(X)).detach().numpy(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (lambda x: x[:-1], r"as many rows as it is given, 7, got \(6, 3, 11, 13\)"),
        (lambda x: x.numpy(), r"must return a tensor of as many rows .* got \(7, 3, 11, 13\)"),
        (lambda x: None, "got NoneType"),
        (v2.RandomResize(5, 50), "one array holds one shape only. Resize them in func"),
    ],
)
def test_results_that_are_no_pictures(func, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform(func, random_state=0).transform(pictures())


@pytest.mark.parametrize("name", RANDOM)
def test_clones_of_torchvision_transforms(name):
    # Some have a method get_params of their own, by which scikit-learn takes them for estimators.
    model = make_pipeline(ImageTransform(RANDOM[name], random_state=0), "passthrough")
    copy = clone(model).set_params(imagetransform__batch_size=2)
    assert copy[0].func is not model[0].func or name == "uniform"
    assert model.get_params()["imagetransform__func"] is RANDOM[name]
    np.testing.assert_array_equal(copy.fit_transform(pictures()), model.fit_transform(pictures()))


# -- the paper's pipeline ---------------------------------------------------------------------


def test_cifar10_features():
    X = pictures(height=32, width=32)
    paper = v2.Compose(
        [
            v2.CenterCrop(24),
            v2.Resize(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*PAPER),
        ]
    )
    pipeline = cifar10_features()
    assert [name for name, _ in pipeline.steps] == ["crop", "scale"]
    X_new = pipeline.fit_transform(X)
    assert X_new.shape == X.shape
    assert X_new.dtype == np.float32
    np.testing.assert_allclose(X_new, one_by_one(paper, X), atol=1.01 / 255 / 0.199)


def test_cifar10_features_options():
    X = pictures(height=32, width=32)
    pipeline = cifar10_features(
        crop=22, size=16, blur=True, scaler="fit", random_state=0, batch_size=3, device="auto"
    )
    assert list(pipeline.named_steps) == ["crop", "scale", "blur"]
    assert {step.batch_size for step in pipeline} == {3}
    X_new = pipeline.fit_transform(X)
    assert X_new.shape == (7, 3, 16, 16)
    cropped = CenterCropResize(22, 16).transform(X)
    np.testing.assert_array_equal(pipeline["scale"].mean_, ImageScaler().fit(cropped).mean_)
    for wrong in ({"scaler": "minmax"}, {"blur": "yes"}):
        with pytest.raises(ValueError, match="parameter of cifar10_features must be"):
            cifar10_features(**wrong)


# -- in front of the classifier ---------------------------------------------------------------

# Two epochs on sixty pictures teach the router nothing.
may_collapse = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


@pytest.fixture(scope="module")
def bars():
    """60 pictures of 3 x 12 x 12 bytes: a bright bar, upright or lying."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=60)
    X = rng.integers(100, size=(60, 3, 12, 12), dtype=np.uint8)
    X[y == 0, :, :, 5:7] += 120
    X[y == 1, :, 5:7, :] += 120
    return X, np.array(["upright", "lying"])[y]


def classifier(**parameters):
    options = {"n_experts": 2, "max_iter": 2, "tol": None, "random_state": 0} | parameters
    return MoEClassifier(expert="cnn", expert_width=8, device="cpu", **options)


@may_collapse
def test_grid_search_over_the_crop(bars):
    model = Pipeline(
        [("crop", CenterCropResize(8, 8)), ("scale", ImageScaler()), ("moe", classifier())]
    )
    search = GridSearchCV(model, {"crop__crop": [8, 12], "moe__n_experts": [1, 2]}, cv=2)
    search.fit(*bars)
    assert search.predict(bars[0]).shape == (60,)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()


@may_collapse
def test_cross_validation_of_the_papers_pipeline(bars):
    features = cifar10_features(crop=10, size=12)
    model = make_pipeline(features, classifier(max_iter=20, train_transform=paper_blur))
    scores = cross_validate(model, *bars, cv=3, error_score="raise")["test_score"]
    assert scores.mean() > 0.8


@may_collapse
@every_transformer
def test_every_transformer_in_a_pipeline(transformer, bars):
    model = clone(make_pipeline(transformer, classifier())).fit(*bars)
    assert model.predict_proba(bars[0]).shape == (60, 2)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(bars[0]), model.predict(bars[0]))


# -- the contract of scikit-learn -------------------------------------------------------------


def test_every_class_is_tested():
    things = [getattr(preprocessing, name) for name in preprocessing.__all__]
    classes = {t for t in things if isinstance(t, type) and issubclass(t, BaseImageTransformer)}
    assert classes == {type(transformer) for transformer in TRANSFORMERS}
    classes = {t for t in things if isinstance(t, type) and issubclass(t, BaseImageFeatures)}
    assert classes == {type(transformer) for transformer in FEATURES}


@every_one
@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_mixin_order",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
    ],
)
def test_checks_of_scikit_learn_that_need_no_table(transformer, check):
    getattr(estimator_checks, check)(type(transformer).__name__, clone(transformer))


@every_dtype
@every_transformer
def test_chunks_do_not_matter(transformer, dtype):
    X = pictures(dtype=dtype)
    fitted = clone(transformer).fit(X)
    expected = fitted.transform(X)
    for batch_size in (1, 2, 3, 6, 7, 1000):
        X_new = fitted.set_params(batch_size=batch_size).transform(X)
        np.testing.assert_array_equal(X_new, expected)


@every_dtype
@every_one
def test_layouts_do_not_matter(transformer, dtype):
    X = pictures(dtype=dtype)
    expected = clone(transformer).fit_transform(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    layouts = [
        read_only,
        np.asfortranarray(X),
        np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        np.ascontiguousarray(X[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
        np.repeat(X, 2, axis=0)[::2],
        X.astype(X.dtype.newbyteorder()),
    ]
    for other in layouts:
        X_new = clone(transformer).fit_transform(other)
        np.testing.assert_array_equal(X_new, expected)
        assert X_new.dtype == expected.dtype


@every_dtype
@every_one
def test_input_stays_and_output_is_new(transformer, dtype):
    X = pictures(dtype=dtype)
    before = X.copy()
    fitted = clone(transformer).fit(X)
    first, second = fitted.transform(X), fitted.transform(X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(first, second)
    assert isinstance(first, np.ndarray)
    assert not np.shares_memory(first, X)
    assert first.flags.writeable
    if X.dtype.name in get_tags(transformer).transformer_tags.preserves_dtype:
        assert first.dtype == dtype


def test_nothing_to_do_is_a_copy_as_well():
    X = pictures()
    for transformer in (Rotate(0), CenterCropResize((11, 13), (11, 13)), ImageTransform(abs)):
        X_new = transformer.transform(X)
        np.testing.assert_array_equal(X_new, X)
        assert not np.shares_memory(X_new, X)


@every_one
def test_parameters_clone_repr_and_pickle(transformer):
    X = pictures()
    copy = clone(transformer)
    assert repr(copy) == repr(transformer)
    assert copy.get_params().keys() == transformer.get_params().keys()
    assert copy.set_params(batch_size=5) is copy
    assert copy.batch_size == 5
    before = {name: repr(value) for name, value in copy.get_params().items()}
    assert copy.fit(X) is copy
    assert {name: repr(value) for name, value in copy.get_params().items()} == before
    assert copy.n_features_in_ == 3
    loaded = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(loaded.transform(X), copy.transform(X))
    assert copy._repr_html_()


@every_stateless
def test_stateless_transformers_need_no_fit(transformer):
    transformer = clone(transformer)
    check_is_fitted(transformer)
    assert not get_tags(transformer).requires_fit
    X = pictures()
    np.testing.assert_array_equal(transformer.transform(X), clone(transformer).fit_transform(X))
    assert not [name for name in vars(transformer) if name.endswith("_")]


@every_one
def test_tags(transformer):
    tags = get_tags(transformer)
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.three_d_array
    assert not tags.input_tags.allow_nan
    assert tags.requires_fit == isinstance(transformer, ImageScaler | BaseImageFeatures)


def test_randomness_in_the_tags():
    assert get_tags(GaussianBlur()).non_deterministic
    assert not get_tags(GaussianBlur(random_state=0)).non_deterministic
    assert not get_tags(GaussianBlur(sigma=1.0)).non_deterministic
    assert get_tags(ImageTransform(abs)).non_deterministic


@every_transformer
def test_set_output(transformer):
    fitted = clone(transformer).fit(pictures())
    assert fitted.set_output(transform="default") is fitted
    assert isinstance(fitted.set_output().transform(pictures()), np.ndarray)
    with pytest.raises(ValueError, match="pictures have four axes"):
        fitted.set_output(transform="pandas")
    with pytest.raises(ValueError, match="pictures have four axes"):
        make_pipeline(fitted, ImageScaler()).set_output(transform="polars")


def test_global_output_setting_is_not_ours():
    from sklearn import config_context

    with config_context(transform_output="pandas"):
        assert isinstance(Rotate(10).fit_transform(pictures()), np.ndarray)


# -- bad input is named at once ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((7,), "X.reshape"),
        ((7, 48), r"X\.reshape\(len\(X\), n_channels, height, width\)"),
        ((7, 11, 13), r"X\[:, np\.newaxis\].*X\[np\.newaxis\]"),
        ((11, 13, 3), r"X\.transpose\(2, 0, 1\)\[np\.newaxis\]"),
        ((7, 11, 13, 3), r"X\.transpose\(0, 3, 1, 2\)"),
        ((7, 11, 13, 1), r"X\.transpose\(0, 3, 1, 2\)"),
        ((7, 11, 13, 4), r"X\.transpose\(0, 3, 1, 2\)"),
    ],
)
@every_one
def test_shapes(transformer, shape, advice):
    X = np.zeros(shape, dtype=np.float32)
    message = (
        rf"{type(transformer).__name__} takes pictures of shape \(n_samples, n_channels, height, "
        rf"width\), got X of shape .*{advice}"
    )
    with pytest.raises(ValueError, match=message) as caught:
        clone(transformer).fit(X)
    assert str(shape) in str(caught.value)
    if not get_tags(transformer).requires_fit:
        with pytest.raises(ValueError, match=message):
            clone(transformer).transform(X)


def test_narrow_feature_maps_are_pictures():
    for shape in ((2, 64, 1, 1), (2, 64, 3, 3), (2, 3, 4, 4), (2, 1, 1, 1)):
        X = pictures(*shape, dtype=np.float32)
        assert ImageScaler().fit_transform(X).shape == shape


@every_one
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((2, 3, 11, 13), np.nan, dtype=np.float32), "Input X contains NaN"),
        (np.full((2, 3, 11, 13), np.inf), "Input X contains infinity"),
        (np.zeros((0, 3, 11, 13)), "0 sample"),
        (np.zeros((2, 0, 11, 13)), "has no pixels"),
        (np.zeros((2, 3, 11, 13), dtype=np.int64), r"got int64.*X\.astype\(np\.uint8\)"),
        (np.zeros((2, 3, 11, 13), dtype=bool), "uint8 in .* or floats, got bool"),
        (np.zeros((2, 3, 11, 13), dtype=complex), "Complex data not supported"),
    ],
    ids=["nan", "inf", "no-samples", "no-channels", "int64", "bool", "complex"],
)
def test_values(transformer, X, message):
    with pytest.raises(ValueError, match=message):
        clone(transformer).fit(X)


@every_one
def test_channels_are_remembered(transformer):
    fitted = clone(transformer).fit(pictures())
    with pytest.raises(ValueError, match=r"X has 1 channels, .* was fitted on pictures of 3"):
        fitted.transform(pictures(n_channels=1))


def test_float16_and_lists_are_taken():
    X = pictures(dtype=np.float32)
    assert Rotate(10).transform(X.astype(np.float16)).dtype == np.float32
    np.testing.assert_array_equal(Rotate(0).transform(X.astype(float).tolist()), X.astype(float))


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (CenterCropResize(12, 32), r"crop=12 is larger than the pictures of 11 x 13"),
        (CenterCropResize((11, 14), 32), "is larger than the pictures of 11 x 13"),
        (CenterCropResize((4, 5, 6), 32), r"crop must be a positive integer or a pair \(height"),
        (CenterCropResize(8, (4, 0)), r"size must be a positive integer or a pair \(height"),
        (CenterCropResize(8, (4, 2.5)), "size must be a positive integer"),
        (CenterCropResize(0, 32), "'crop' parameter of CenterCropResize must be"),
        (CenterCropResize(8, 32, interpolation="cubic"), "'interpolation' parameter"),
        (CenterCropResize(8, 32, batch_size=0), "'batch_size' parameter"),
        (CenterCropResize(8, 32, device=0), "'device' parameter"),
        (Rotate("left"), "'angle' parameter of Rotate must be"),
        (Rotate(np.inf), "'angle' parameter of Rotate must be"),
        (Rotate(30, fill=(1, 2)), r"fill=\(1, 2\) has 2 values, the pictures have 3 channels"),
        (GaussianBlur(4), "kernel_size must be an odd positive integer"),
        (GaussianBlur((3, 5, 7)), "kernel_size must be an odd positive integer"),
        (GaussianBlur((3, 23)), "needs pictures of more than 11 x 1 pixels"),
        (GaussianBlur((27, 3)), "needs pictures of more than 1 x 13 pixels"),
        (GaussianBlur(sigma=0), "'sigma' parameter of GaussianBlur must be"),
        (GaussianBlur(sigma=(2, 1)), "sigma must be a positive number or a range"),
        (GaussianBlur(sigma=(0, 1)), "sigma must be a positive number or a range"),
        (GaussianBlur(sigma=("a", "b")), "sigma must be a positive number or a range"),
        (ImageTransform("flip"), "'func' parameter of ImageTransform must be a callable"),
    ],
)
def test_parameters_are_checked(transformer, message):
    with pytest.raises(ValueError, match=message):
        transformer.fit(pictures())
    with pytest.raises(ValueError, match=message):
        transformer.transform(pictures())


@every_transformer
def test_another_device_gives_the_same(transformer, device):
    X = pictures(dtype=np.float32)
    expected = clone(transformer).fit_transform(X)
    X_new = clone(transformer).set_params(device=device).fit_transform(X)
    np.testing.assert_allclose(X_new, expected, rtol=1e-4, atol=1e-5)


# -- augmentation -------------------------------------------------------------------------


def test_random_crop_flip_is_a_crop_of_the_padded_picture_mirrored_or_not():
    x = torch.arange(1.0, 1 + 300 * 2 * 6 * 5).view(300, 2, 6, 5)
    with OwnGenerator(torch.Generator().manual_seed(0)):
        result = RandomCropFlip(padding=2)(x)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for picture, source in zip(result, padded, strict=True):
        crops = {
            (row, column, mirror): crop.flip(2) if mirror else crop
            for row in range(5)
            for column in range(5)
            for mirror in (False, True)
            for crop in [source[:, row : row + 6, column : column + 5]]
        }
        (match,) = (key for key, crop in crops.items() if torch.equal(crop, picture))
        seen.add(match)
    assert len(seen) == 50  # every shift, mirrored and not


def test_random_crop_flip_keeps_bytes():
    x = torch.full((4, 3, 8, 8), 7, dtype=torch.uint8)
    with OwnGenerator(torch.Generator().manual_seed(0)):
        result = RandomCropFlip()(x)
    assert result.dtype == torch.uint8
    assert set(result.unique().tolist()) == {0, 7}


@pytest.mark.parametrize("padding", [-1, 2.5, "a", None])
def test_random_crop_flip_refuses(padding):
    augment = RandomCropFlip(padding)
    with pytest.raises(ValueError, match=r"'padding' parameter of RandomCropFlip must be an int"):
        augment(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("padding", [0, np.int64(2)])
def test_random_crop_flip_takes_integers(padding):
    with OwnGenerator(torch.Generator().manual_seed(0)):
        assert RandomCropFlip(padding)(torch.zeros(2, 3, 8, 8)).shape == (2, 3, 8, 8)
