"""A fitted model as a module of torch, and as a file of ONNX: the same answers elsewhere."""

import io
import json
import sys
from functools import partial

import numpy as np
import pandas
import pytest
import torch
from helpers import predictions, raises
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams
from sklearn_moe.nn import LOSSES, ROUTERS
from sklearn_moe.nn.predictor import require_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

N_TRAIN, N = 60, 1000


def torch_layer(input_shape, n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_outputs), torch.nn.Tanh())


_rng = np.random.default_rng(0)
SAMPLES = {
    "table": _rng.normal(size=(N, 6)).astype(np.float32),
    "patch": _rng.normal(size=(N, 4, 10)).astype(np.float32),
    "cnn": _rng.normal(size=(N, 3, 8, 8)).astype(np.float32),
}
TABLE, PATCHES, IMAGES = SAMPLES.values()
BYTES = _rng.integers(0, 256, size=(N, 3, 8, 8)).astype(np.uint8)
CLASSES = _rng.integers(3, size=N)
TARGETS = {
    "classes": CLASSES > 0,
    "multilabel": (TABLE[:, :3] > 0).astype(int),
    "regression": 100 * TABLE[:, :2].sum(1) + 7,
}
WITH_MISSING = np.where(_rng.random(TABLE.shape) < 0.1, np.nan, TABLE)
WITH_CATEGORIES = np.column_stack([CLASSES, WITH_MISSING]).astype(np.float32)
SMALL_CNN = {"expert": "cnn", "expert_width": 4}


def fitted(X, y, **options):
    """Return a model of classes or labels, or of numbers."""
    model = MoEClassifier if y.dtype.kind in "biU" else MoERegressor
    options = {"n_experts": 3, "max_iter": 2, "tol": None, "random_state": 0} | options
    return model(**options).fit(X[:N_TRAIN], y[:N_TRAIN])


def open_session(path):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    # Releases to 1.23, the last for Python 3.10, fuse products in float64 and then cannot run them.
    return runtime.InferenceSession(path, options, disabled_optimizers=["MatmulTransposeFusion"])


def check_onnx(model, X, path):
    """Compare an exported model with the model itself, on batches of several sizes."""
    model.to_onnx(path)
    session = open_session(path)
    expected = predictions(model, X)
    for n in (0, 1, 7, len(X)):
        (got,) = session.run(None, {"X": X[:n]})
        np.testing.assert_allclose(got, expected[:n], atol=1e-5 * max(1, expected.std()))


def check_torch(model, X):
    module, x = model.to_torch(), torch.from_numpy(X[:100])
    with torch.no_grad():
        got = module(x)
        assert module(x[:0]).shape == (0, *got.shape[1:])
    assert got.dtype == module.dtype
    np.testing.assert_allclose(got, predictions(model, X[:100]), rtol=1e-6, atol=1e-7)


@pytest.fixture
def onnx():
    try:
        require_onnx()
    except ImportError as error:
        pytest.skip(str(error))
    return pytest.importorskip("onnx")


SHARED = {"router": RouterParams("topk", n_shared_experts=1)}
OTHERS = {
    "bytes": (BYTES, CLASSES, {}),
    "byte rows": (BYTES.reshape(N, -1), CLASSES, {"sample_shape": (3, 8, 8), "router": "sigmoid"}),
    "rows of patches": (TABLE, CLASSES, {"sample_shape": (3, 2)}),
    "missing": (WITH_MISSING, CLASSES, {}),
    "categories": (WITH_CATEGORIES, CLASSES, {"categorical_features": [0]}),
    "float64": (TABLE.astype(np.float64), CLASSES, {}),
    "images in float64": (IMAGES.astype(np.float64), CLASSES, SMALL_CNN),
    "labels": (TABLE, TARGETS["multilabel"], SHARED | {"top_k": 2, "balance": "bias"}),
    "one expert": (PATCHES, CLASSES, {"n_experts": 1}),
    "many of many": (TABLE, CLASSES, {"n_experts": 8, "router": "topk", "top_k": 5}),
    "network of scores": (TABLE, CLASSES, {"router": RouterParams("top1", network=torch_layer)}),
    "double softmax": (TABLE, CLASSES, {"loss": "probabilities", "router": "top1"}),
    "several numbers": (TABLE, 10 * TABLE[:, :2], {"loss": "gaussian", "router": "random"}),
}


# -- torch --------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
def test_a_module_answers_as_the_model_whatever_the_router(router):
    for kind, X in SAMPLES.items():
        options = SMALL_CNN if kind == "cnn" else {}
        check_torch(fitted(X, CLASSES, router=router, **options), X)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_module_answers_as_the_model_whatever_the_loss(loss):
    for kind, y in TARGETS.items():
        if getattr(LOSSES[loss], kind):
            check_torch(fitted(TABLE, np.abs(y) if loss == "poisson" else y, loss=loss), TABLE)


@pytest.mark.parametrize("name", OTHERS)
def test_modules_take_what_the_model_takes(name):
    X, y, options = OTHERS[name]
    check_torch(fitted(X, y, **options), X)


@pytest.mark.parametrize("X", SAMPLES.values(), ids=SAMPLES)
def test_modules_are_differentiable_copies_and_saved_whole(X):
    model, file = fitted(X, CLASSES), io.BytesIO()
    before, module = model.predict_proba(X), model.to_torch()
    torch.save(module, file)
    x = torch.from_numpy(X[:20].copy()).requires_grad_()
    module(x)[:, 0].sum().backward()
    assert (x.grad.flatten(1) != 0).any(1).all()
    assert any(parameter.grad.any() for parameter in module.parameters())
    assert not module.training
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.predict_proba(X), before)
    file.seek(0)
    with torch.no_grad():
        got = torch.load(file, weights_only=False)(torch.from_numpy(X))
    np.testing.assert_array_equal(got, before)


def test_large_integers_are_not_rounded_and_units_of_numbers_are_copies():
    X = 10**9 + np.random.default_rng(0).integers(10, size=(N, 3))  # float32: multiples of 64
    model = fitted(X, CLASSES)
    assert model.to_torch().dtype == torch.float32
    check_torch(model, X.astype(np.float64))
    model = fitted(TABLE, TARGETS["regression"])
    before = model.predict(TABLE)
    model.to_torch().mean.add_(1)
    np.testing.assert_array_equal(model.predict(TABLE), before)


def category_cases():
    """Return what is learned from and asked, what stands for it in a tensor, and the columns."""
    rng = np.random.default_rng(0)
    names = np.array([f"k{i:03}" for i in range(300)])
    rare = np.minimum(rng.integers(300, size=400), rng.integers(300, size=400))
    frame = pandas.DataFrame({"x": rng.normal(size=400), "c": names[rare]})
    table = np.column_stack([frame["x"], rng.integers(1, 4, 400)])
    asked, other = frame.copy(), table.copy()
    asked.loc[:3, "c"] = ["new", None, "k000", "k299"]
    other[:4, 1] = [9, np.nan, -1, 1.5]
    coded = pandas.DataFrame({"x": table[:, 0].astype("f4"), "c": pandas.Categorical(7 * rare)})
    return {
        "codes not known": (table, other, other, [1]),
        "300 texts": (frame, asked, None, "from_dtype"),
        "300 numbers": (coded, coded, coded.astype("f4").to_numpy(), "from_dtype"),
    }


CATEGORIES = category_cases()


@pytest.mark.filterwarnings(r"ignore:Column 'c' of X. \d+ of \d+ values:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", CATEGORIES)
def test_exports_encode_categories_as_the_model_does(name, tmp_path, onnx):
    learned, X, given, chosen = CATEGORIES[name]
    y = np.random.default_rng(1).integers(3, size=len(X))
    model = fitted(learned, y, categorical_features=chosen)
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


def test_what_cannot_be_exported_or_is_no_sample_is_refused(tmp_path, onnx):
    noisy = fitted(PATCHES, CLASSES, router=ROUTERS["top1"].with_options(noise_at_predict=True))
    forest = fitted(TABLE, CLASSES, expert=["linear", RandomForestClassifier(2)], n_experts="auto")
    for model, error, match in (
        (noisy, ValueError, "draws noise at prediction"),
        (forest, ValueError, "'RandomForestClassifier' .* cannot be exported"),
        (MoEClassifier(), NotFittedError, "not fitted"),
    ):
        for export in (model.to_torch, partial(model.to_onnx, tmp_path / "model.onnx")):
            raises(error, match, export)
    X = np.array([[2**24, 0], [2**24 + 1, 1]] * 20, dtype=np.int64)
    model = fitted(X, np.array([0, 1] * 20), categorical_features=[0])
    model._format = model._format._replace(dtype="float32")  # which cannot tell them apart
    raises(ValueError, "column 0", model.to_torch)
    module = fitted(BYTES, CLASSES).to_torch()
    match = r"of shape \(n_samples, 3, 8, 8\).*float32"
    raises(ValueError, match, module, torch.from_numpy(IMAGES))
    raises(ValueError, r"of shape \(2, 8, 8\)", module, torch.from_numpy(BYTES[:2, 0]))


# -- ONNX ---------------------------------------------------------------------------------


def test_a_missing_extra_is_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"onnx is needed.* pip install onnx onnxscript"
    raises(ImportError, message, fitted(TABLE, CLASSES).to_onnx, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Counting(torch.nn.Linear):
    """An expert whose outputs depend on how many samples there are."""

    def forward(self, x):
        return super().forward(x) / len(x.tolist())


def test_an_expert_that_torch_cannot_write_is_named(onnx, tmp_path):
    model = fitted(TABLE, CLASSES, expert=lambda shape, n: Counting(shape[0], n), n_experts=2)
    raises(RuntimeError, "one of Counting, SoftRouter", model.to_onnx, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("kind", "options"), [("table", {"n_experts": "auto"}), ("patch", {"router": "top1"})]
)
def test_a_file_answers_as_the_model_also_if_written_in_autocast(kind, options, onnx, tmp_path):
    path, X = tmp_path / "model.onnx", PATCHES if kind == "patch" else WITH_MISSING
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "patch"):
        check_onnx(fitted(X, CLASSES, **options), X, path)
    file = onnx.load(path)
    assert [value.name for value in file.graph.input] == ["X"]
    assert [value.name for value in file.graph.output] == ["probabilities"]


@pytest.mark.slow
def test_files_of_other_models(onnx, tmp_path):
    # An export takes seconds: what others tell of is part of these models too.
    for name in ("byte rows", "labels", "network of scores", "several numbers"):
        X, y, options = OTHERS[name]
        check_onnx(fitted(X, y, **options), X, tmp_path / "model.onnx")
