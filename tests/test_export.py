"""A fitted model as a module of torch, and as a file of ONNX: the same answers elsewhere."""

import copy
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from helpers import narrow
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import LOSSES, ROUTERS
from sklearn_moe.nn.predictor import require_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

BRIEF = {"n_experts": 3, "max_iter": 2, "random_state": 0}
N_TRAIN, N = 60, 1000
CLOSE = 1e-5
_rng = np.random.default_rng(0)
SAMPLES = {
    "table": _rng.normal(size=(N, 6)).astype(np.float32),
    "patch": _rng.normal(size=(N, 4, 10)).astype(np.float32),
    "cnn": _rng.normal(size=(N, 3, 8, 8)).astype(np.float32),
}
BYTES = _rng.integers(0, 256, size=(N, 3, 8, 8)).astype(np.uint8)
TABLE = SAMPLES["table"]
CLASSES = _rng.integers(3, size=N)
BINARY = CLASSES > 0
LABELS = (TABLE[:, :3] > 0).astype(int)
NUMBERS = 100 * TABLE[:, :2].sum(1) + 7
WITH_MISSING = np.where(_rng.random(TABLE.shape) < 0.1, np.nan, TABLE)
WITH_CATEGORIES = np.column_stack([CLASSES, WITH_MISSING]).astype(np.float32)


def classifier(**options):
    return MoEClassifier(**BRIEF | {"tol": None} | options)


def regressor(**options):
    return MoERegressor(**BRIEF | options)


def fitted(model, X, y):
    return model.fit(X[:N_TRAIN], y[:N_TRAIN])


def answer(model, X):
    return getattr(model, "predict_proba", model.predict)(X)


def open_session(path):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    # Releases to 1.23, the last for Python 3.10, fuse products in float64 and then cannot run them.
    return runtime.InferenceSession(path, options, disabled_optimizers=[FUSION])


def check_onnx(model, X, path):
    """Compare an exported model with the model itself, on batches of several sizes."""
    model.to_onnx(path)
    session = open_session(path)
    expected = answer(model, X)
    scale = max(1, expected.std())  # of numbers
    for n in (0, 1, 7, len(X)):
        (got,) = session.run(None, {"X": X[:n]})
        np.testing.assert_allclose(got, expected[:n], atol=CLOSE * scale)


FUSION = "MatmulTransposeFusion"


@pytest.fixture
def onnx():
    try:
        require_onnx()
    except ImportError as error:
        pytest.skip(str(error))
    return pytest.importorskip("onnx")


BY_ROUTER = [
    (kind, router)
    for kind in SAMPLES
    for router in ROUTERS
    if kind == "patch" or router != "patch_choice"
]
OTHERS = {
    "bytes": (classifier(), BYTES, CLASSES),
    "rows of bytes": (classifier(sample_shape=(3, 8, 8)), BYTES.reshape(N, -1), CLASSES),
    "rows of patches": (classifier(sample_shape=(3, 2)), TABLE, CLASSES),
    "missing": (classifier(), WITH_MISSING, CLASSES),
    "categories": (classifier(categorical_features=[0]), WITH_CATEGORIES, CLASSES),
    "float64": (classifier(), TABLE.astype(np.float64), CLASSES),
    "pictures in float64": (
        classifier(expert="cnn", expert_width=4),
        SAMPLES["cnn"].astype(np.float64),
        CLASSES,
    ),
    "labels": (classifier(router="topk", top_k=2), TABLE, LABELS),
    "one expert": (classifier(n_experts=1), SAMPLES["patch"], CLASSES),
    "shared experts": (classifier(n_shared_experts=1), TABLE, CLASSES),
    "many of many": (classifier(n_experts=8, router="topk", top_k=5), TABLE, CLASSES),
    "bias": (classifier(router="topk", balance="bias"), SAMPLES["patch"], CLASSES),
    "network of scores": (
        classifier(router="top1", router_network="mlp", expert="mlp"),
        TABLE,
        CLASSES,
    ),
    "convolutions of scores": (
        classifier(router="top1", router_network="cnn", expert="cnn", expert_width=4),
        SAMPLES["cnn"],
        CLASSES,
    ),
    "margin": (classifier(loss="margin"), TABLE, BINARY),
    "double softmax": (classifier(loss="probabilities", router="top1"), TABLE, CLASSES),
    "several numbers": (regressor(loss="gaussian", router="top1"), TABLE, 10 * TABLE[:, :2]),
}
LOSS = [(name, kind) for name, spec in LOSSES.items() for kind in vars(spec) if vars(spec)[kind]]


def with_loss(name, kind, **options):
    make = regressor if kind == "regression" else classifier
    y = {"classes": BINARY, "labels": LABELS, "numbers": NUMBERS}[kind]
    return fitted(make(loss=name, **options), TABLE, y)


def check_torch(model, X):
    module, x = model.to_torch(), torch.from_numpy(X[:100])
    with torch.no_grad():
        got = module(x)
        assert module(x[:0]).shape == (0, *got.shape[1:])
    assert got.dtype == module.dtype
    np.testing.assert_allclose(got, answer(model, X[:100]), rtol=1e-6, atol=1e-7)


# -- torch --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "router"), BY_ROUTER)
def test_a_module_answers_as_the_model(kind, router):
    options = {"expert": "cnn", "expert_width": 4, "max_iter": 1} if kind == "cnn" else {}
    check_torch(fitted(classifier(router=router, **options), SAMPLES[kind], CLASSES), SAMPLES[kind])


@pytest.mark.parametrize("name", OTHERS)
def test_modules_take_what_the_model_takes(name):
    model, X, y = OTHERS[name]
    check_torch(fitted(model, X, y), X)


@pytest.mark.parametrize(("name", "kind"), LOSS)
def test_modules_of_every_loss(name, kind):
    check_torch(with_loss(name, kind), TABLE)


@pytest.mark.parametrize("kind", SAMPLES)
def test_modules_are_differentiable_copies(kind):
    model = fitted(classifier(), SAMPLES[kind], CLASSES)
    before = model.predict_proba(SAMPLES[kind])
    module = model.to_torch()
    x = torch.from_numpy(SAMPLES[kind][:20].copy()).requires_grad_()
    module(x)[:, 0].sum().backward()
    assert (x.grad.flatten(1) != 0).any(1).all()
    assert any(parameter.grad.any() for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.predict_proba(SAMPLES[kind]), before)
    assert not module.training


def test_units_of_numbers_are_copies():
    model = fitted(regressor(), TABLE, NUMBERS)
    before = model.predict(TABLE)
    model.to_torch().mean.add_(1)
    np.testing.assert_array_equal(model.predict(TABLE), before)


def test_codes_stand_for_categories():
    words = np.array(["b", "a", "c"])[CLASSES]
    frame = pandas.DataFrame({"word": words, "number": TABLE[:, 0]})
    model = fitted(classifier(), frame, CLASSES)
    codes = torch.tensor(np.column_stack([np.unique(words, return_inverse=True)[1], TABLE[:, 0]]))
    with torch.no_grad():
        got = model.to_torch()(codes)
    np.testing.assert_allclose(got, model.predict_proba(frame), rtol=1e-6)


MANY = [f"k{i:03}" for i in range(300)]


def category_cases():
    """Return data, what stands for it in a tensor, and what has values not known, by name."""
    rng = np.random.default_rng(0)
    rare = np.minimum(rng.integers(300, size=400), rng.integers(300, size=400))
    number, numbers = rng.normal(size=400), rng.integers(1, 4, 400)
    frame = pandas.DataFrame({"x": number, "c": np.array(MANY)[rare]})
    asked = frame.copy()
    asked.loc[:3, "c"] = ["new", None, "k000", "k299"]
    table = np.column_stack([number, numbers])
    other = table.copy()
    other[:4, 1] = [9, np.nan, -1, 1.5]
    coded = pandas.DataFrame({"x": number.astype(np.float32), "c": pandas.Categorical(7 * rare)})
    return {
        "codes 1, 2, 3": (table, table, [1]),
        "codes not known": (other, other, [1]),
        "float32": (other.astype(np.float32), other.astype(np.float32), [1]),
        "300 texts": (asked, None, "from_dtype"),
        "300 numbers": (coded, coded.astype(np.float32).to_numpy(), "from_dtype"),
    }, {"codes not known": table, "float32": table.astype(np.float32), "300 texts": frame}


CATEGORIES, LEARNED = category_cases()


@pytest.mark.parametrize("name", CATEGORIES)
def test_exports_encode_categories_as_the_model_does(name, tmp_path, onnx):
    X, given, chosen = CATEGORIES[name]
    y = np.random.default_rng(1).integers(3, size=len(X))
    model = fitted(classifier(categorical_features=chosen), LEARNED.get(name, X), y)
    module = model.to_torch()
    if given is None:
        codes = pandas.Index(module.category_names[1]).get_indexer(X["c"])
        given = np.column_stack([X["x"], codes])
    else:
        assert module.category_names == {}
    expected = model.predict_proba(X)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(given)), expected, atol=1e-6)
    model.to_onnx(tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx")
    (got,) = session.run(None, {"X": given.astype(str(module.x_dtype).removeprefix("torch."))})
    np.testing.assert_allclose(got, expected, atol=1e-6)
    known = session.get_modelmeta().custom_metadata_map.get("categories", "{}")
    assert {int(k): v for k, v in json.loads(known).items()} == module.category_names


def test_categories_that_the_type_of_x_cannot_tell_apart_are_refused():
    X = np.array([[2**24, 0], [2**24 + 1, 1]] * 20, dtype=np.int64)
    model = fitted(classifier(categorical_features=[0]), X, [0, 1] * 20)
    model._format = model._format._replace(dtype="float32")
    with pytest.raises(ValueError, match="column 0"):
        model.to_torch()


def test_other_samples_than_those_of_fit_are_refused():
    module = fitted(classifier(), BYTES, CLASSES).to_torch()
    with pytest.raises(ValueError, match=r"bytes .* of shape \(n_samples, 3, 8, 8\).*float32"):
        module(torch.from_numpy(SAMPLES["cnn"]))
    with pytest.raises(ValueError, match=r"of shape \(2, 8, 8\)"):
        module(torch.from_numpy(BYTES[:2, 0]))


@pytest.mark.parametrize("way", ["to_torch", "to_onnx"])
def test_what_cannot_be_exported_is_refused(way, tmp_path, onnx):
    arguments = [tmp_path / "model.onnx"] if way == "to_onnx" else []
    noisy = classifier(router=replace(ROUTERS["top1"], noise_at_predict=True))
    fitted(noisy, SAMPLES["patch"], CLASSES)
    with pytest.raises(ValueError, match="draws noise at prediction"):
        getattr(noisy, way)(*arguments)
    with pytest.raises(NotFittedError):
        getattr(classifier(), way)(*arguments)


@pytest.mark.parametrize("kind", SAMPLES)
def test_modules_are_saved_whole(kind):
    model = fitted(classifier(), SAMPLES[kind], CLASSES)
    file = io.BytesIO()
    torch.save(model.to_torch(), file)
    file.seek(0)
    module = torch.load(file, weights_only=False)
    with torch.no_grad():
        got = module(torch.from_numpy(SAMPLES[kind]))
    np.testing.assert_array_equal(got, copy.deepcopy(model).predict_proba(SAMPLES[kind]))


@pytest.mark.skipif(
    parse_version(torch.__version__) < parse_version("2.9"),
    reason="torch.export fails at a free number of samples before torch 2.9",
)
def test_a_program_of_torch_takes_any_number_of_samples():
    X = SAMPLES["patch"]
    model = fitted(classifier(router="topk", top_k=2), X, CLASSES)
    module, expected = model.to_torch(), model.predict_proba(X)
    batch = torch.export.Dim("n_samples")
    exported = torch.export.export(
        module, (module.example(),), dynamic_shapes={"X": {0: batch}}, strict=False
    )
    for n in (0, 1, 7, N):
        got = exported.module()(torch.from_numpy(X[:n])).detach()
        np.testing.assert_allclose(got, expected[:n], atol=1e-6)


# Deprecated, and not gone: programs in C++ read these files.
@pytest.mark.filterwarnings("ignore:`?torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`?torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("router", ["top1", "relu", "patch_choice", "merge"])
def test_a_traced_module_takes_any_number_of_samples(router):
    X = SAMPLES["patch"]
    model = fitted(classifier(router=router), X, CLASSES)
    module, expected = model.to_torch(), model.predict_proba(X)
    traced = torch.jit.trace(module, torch.from_numpy(X[:3]), check_trace=False)
    for n in (0, 1, 7, N):
        got = traced(torch.from_numpy(X[:n])).detach()
        np.testing.assert_allclose(got, expected[:n], atol=1e-6)


# -- ONNX ---------------------------------------------------------------------------------


def test_a_missing_extra_is_named_at_once(monkeypatch, tmp_path):
    model = fitted(classifier(), TABLE, CLASSES)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnxscript .* pip install 'sklearn_moe\[onnx\]'"):
        model.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "router"), [("table", "soft"), ("patch", "top1"), ("patch", "patch_choice")]
)
def test_a_file_answers_as_the_model(kind, router, onnx, tmp_path):
    model = fitted(classifier(router=router), SAMPLES[kind], CLASSES)
    check_onnx(model, SAMPLES[kind], tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in file.graph.input] == ["X"]
    assert [value.name for value in file.graph.output] == ["probabilities"]


def test_a_file_that_is_written_in_autocast(onnx, tmp_path):
    model = fitted(classifier(router="top1"), SAMPLES["patch"], CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        check_onnx(model, SAMPLES["patch"], tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "router"), BY_ROUTER)
def test_files_of_every_router(kind, router, onnx, tmp_path):
    options = {"expert": "cnn", "expert_width": 4, "max_iter": 1} if kind == "cnn" else {}
    model = fitted(classifier(router=router, **options), SAMPLES[kind], CLASSES)
    check_onnx(model, SAMPLES[kind], tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_files_take_what_the_model_takes(name, onnx, tmp_path):
    model, X, y = OTHERS[name]
    check_onnx(fitted(model, X, y), X, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("expert", ["resnet18", "mobilenet_v2"])
def test_files_of_deep_experts(expert, onnx, tmp_path):
    model = classifier(**narrow(expert, 4), n_experts=2, max_iter=1)
    X = SAMPLES["cnn"][:200]
    check_onnx(fitted(model, X, CLASSES), X, tmp_path / "model.onnx")


# -- skl2onnx -----------------------------------------------------------------------------

TEXT = np.array(["a", "b", "c"])[CLASSES]
PIPELINES = {
    "classes": (classifier(), TABLE, CLASSES),
    "text": (classifier(router="top1"), TABLE, TEXT),
    "labels": (classifier(), TABLE, LABELS),
    "numbers": (regressor(), TABLE.astype(np.float64), NUMBERS),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "text")) for name in PIPELINES]
)
def test_pipelines_become_files(name, onnx):
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    import sklearn_moe.onnx

    model, X, y = PIPELINES[name]
    pipeline = fitted(make_pipeline(StandardScaler(), model), X, y)
    sklearn_moe.onnx.register()
    options = None if name == "numbers" else {"zipmap": False}
    file = skl2onnx.to_onnx(pipeline, X[:1], options=options).SerializeToString()
    session = runtime.InferenceSession(file, disabled_optimizers=[FUSION])
    got = session.run(None, {"X": X})
    if name == "numbers":
        np.testing.assert_allclose(got[0][:, 0], pipeline.predict(X), rtol=CLOSE)
    else:
        np.testing.assert_array_equal(got[0], pipeline.predict(X))
        np.testing.assert_allclose(got[1], pipeline.predict_proba(X), atol=CLOSE)
