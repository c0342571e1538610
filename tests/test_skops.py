"""Files of skops hold arrays and names: what `trusted_types` lists, and no pickle."""

import io
import json
import zipfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas
import pytest
import torch
from helpers import as_kind, narrow
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn_moe.checkpoints import FitCheckpoint

from sklearn_moe import MoEClassifier, MoERegressor, trusted_types
from sklearn_moe.nn import (
    ACTIVATIONS,
    BALANCES,
    EXPERTS,
    GATES,
    LOSSES,
    NETWORKS,
    NOISES,
    ROUTERS,
    TRUNKS,
)
from sklearn_moe.optim import SOLVERS

skops = pytest.importorskip("skops.io")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

classifier = partial(MoEClassifier, 2, max_iter=1, tol=None, random_state=0)
regressor = partial(MoERegressor, 2, max_iter=1, tol=None, random_state=0)
BAGS = np.random.default_rng(0).normal(size=(40, 4, 50)).astype(np.float32)
ROWS = BAGS[:, 0, :6]
PICTURES = as_kind(BAGS, "cnn")
NUMBERS = BAGS[:, 0, 0]
CLASSES = np.array(["no", "yes"])[(NUMBERS > 0).astype(int)]


def models():
    """Yield models of all that is registered, by its name and as it is, and samples for each."""
    for name, router in ROUTERS.items():
        yield classifier(router=name), BAGS, CLASSES
        yield classifier(router=router), BAGS, CLASSES
    for name, expert in EXPERTS.items():
        yield classifier(**narrow(name, 8)), as_kind(BAGS, name), CLASSES
        yield classifier(**narrow(name, 8) | {"expert": expert}), as_kind(BAGS, name), CLASSES
    for name, loss in LOSSES.items():
        for choice in (name, loss):
            if loss.classes:
                yield classifier(loss=choice), ROWS, CLASSES
            if loss.labels:
                yield classifier(loss=choice), ROWS, (ROWS[:, :3] > 0).astype(int)
            if loss.numbers:
                yield regressor(loss=choice), ROWS, NUMBERS
    for solver in SOLVERS.values():
        yield classifier(solver=solver), BAGS, CLASSES
    for balance in BALANCES.values():
        yield classifier(router="topk", balance=balance), BAGS, CLASSES
    for network in NETWORKS.values():
        options = {"router": "top1", "router_network": network, "trunk": None}
        yield classifier(**options, expert="cnn", expert_width=4), PICTURES, CLASSES
    for noise in NOISES.values():
        yield classifier(router_noise=noise), BAGS, CLASSES
    for name, gate in GATES.items():
        router = "relu" if name == "relu" else "topk"
        yield classifier(router=router, gate=gate, top_k=2), BAGS, CLASSES
    for activation in (ACTIVATIONS["cubic"], ACTIVATIONS["linear"]):
        yield classifier(activation=activation), BAGS, CLASSES
    for trunk in TRUNKS.values():
        yield classifier(trunk=trunk), PICTURES, CLASSES
    frame = pandas.DataFrame({"word": CLASSES, "number": NUMBERS})
    yield classifier(device=torch.device("cpu")), frame, CLASSES
    yield make_pipeline(StandardScaler(), classifier()), ROWS, CLASSES
    with TemporaryDirectory() as folder:
        for checkpoint in (Path(folder), FitCheckpoint(folder)):
            yield classifier(checkpoint=checkpoint), ROWS, CLASSES


def answer(model, X):
    return getattr(model, "predict_proba", model.predict)(X)


@pytest.mark.slow
def test_the_listed_types_suffice_and_all_are_needed():
    unfitted = classifier(checkpoint=FitCheckpoint("runs"))
    used = set(skops.get_untrusted_types(data=skops.dumps(unfitted)))
    for model, X, y in models():
        data = skops.dumps(model.fit(X, y))
        used.update(skops.get_untrusted_types(data=data))
        again = skops.loads(data, trusted=trusted_types())
        np.testing.assert_array_equal(answer(again, X), answer(model, X), err_msg=str(model))
    assert used == set(trusted_types())


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_pickle_hides_in_a_file(solver):
    model = classifier(solver=solver).partial_fit(BAGS, CLASSES, classes=["no", "yes"])
    data = skops.dumps(model)
    again = skops.loads(data, trusted=trusted_types())
    np.testing.assert_array_equal(answer(again, BAGS), answer(model, BAGS))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for name in file.namelist():
            if name.endswith(".json"):
                json.loads(file.read(name))
            else:
                np.load(io.BytesIO(file.read(name)), allow_pickle=False)
    np.testing.assert_array_equal(
        answer(again.partial_fit(BAGS, CLASSES), BAGS),
        answer(model.partial_fit(BAGS, CLASSES), BAGS),
    )


def test_parts_of_ones_own_are_not_trusted():
    data = skops.dumps(classifier(activation=torch.sigmoid).fit(BAGS, CLASSES))
    with pytest.raises(TypeError, match=r"torch\.sigmoid"):
        skops.loads(data, trusted=trusted_types())
    skops.loads(data, trusted=[*trusted_types(), "torch.sigmoid"])


@pytest.mark.filterwarnings("ignore")  # those of mlflow
def test_mlflow_stores_by_skops(tmp_path):
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn", exc_type=ImportError)
    model = make_pipeline(StandardScaler(), classifier()).fit(ROWS, CLASSES)
    path = tmp_path / "model"
    mlflow_sklearn.save_model(
        model, path, skops_trusted_types=trusted_types(), pip_requirements=["sklearn_moe"]
    )
    again = mlflow_sklearn.load_model(str(path))
    np.testing.assert_array_equal(answer(again, ROWS), answer(model, ROWS))
    assert (path / "model.skops").exists()
