"""Table 2: pictures as an experiment, its settings, and what was measured."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

from sklearn_moe.paper import get_experiment
from sklearn_moe.paper.__main__ import main
from sklearn_moe.paper._pictures import TASKS, PictureRun, Pictures
from sklearn_moe.paper._store import RunStore
from sklearn_moe.paper.experiments import names_of
from sklearn_moe.paper.experiments.table2 import MODELS, table2

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder of two train and two test pictures in each of ten classes."""
    return make_folder(tmp_path_factory.mktemp("pictures"), 2)


def make_folder(root, per_class):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abcdefghij":
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                picture = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{i}.png")
    return str(root)


def call(folder, out, *more):
    options = ["--arch", "cnn", "--runs", "2", "--epochs", "2", "--device", "cpu"]
    main(["table2", "--data", folder, "--out", str(out), *options, *more])


def test_a_run_is_read_only_when_it_is_complete(tmp_path):
    store = RunStore(tmp_path)
    settings = {"seed": 0, "epochs": 3}
    assert store.get(settings) is None
    store.put(settings, {"accuracy": 1.5})
    assert store.get(dict(reversed(settings.items()))) == {"accuracy": 1.5}
    assert store.get(settings | {"epochs": 4}) is None
    store.path(settings | {"epochs": 4}).with_suffix(".1.part").write_text('{"result": ')
    assert store.get(settings | {"epochs": 4}) is None


@pytest.mark.parametrize("task", TASKS)
def test_tasks(folder, task):
    problem = Pictures(task, folder, subset=10)
    X, y, classes = problem.draw("train", 0)
    rotated = task != "cifar10"
    assert X.shape == (20 if rotated else 10, 3, 32, 32)
    assert X.dtype == np.uint8
    assert len(np.unique(classes)) == 10
    np.testing.assert_array_equal(np.bincount(y), [10, 10] if rotated else [1] * 10)
    assert len(problem.draw("test", 0)[0]) == (40 if rotated else 20)


@pytest.mark.parametrize("label", table2().models)
def test_hyperparameters_are_the_papers(label):
    clf = table2().models[label]
    assert (clf.batch_size, clf.n_experts) == (128, 1 if "single" in label else 4)
    if "cnn" in label:
        assert (clf.solver, clf.learning_rate_init) == ("adam", 0.001)
    else:
        assert clf.solver == ("sgd" if "single" in label else "normalized_sgd")
        assert (clf.learning_rate_init, clf.momentum, clf.weight_decay) == (0.01, 0.9, 5e-4)
        assert clf.router_learning_rate_init == 1e-4


def test_settings_tell_runs_apart(folder, tmp_path):
    def keys(**options):
        cells = table2(**{"folder": folder, "arch": ["cnn"], "task": ["rotate-paper"]} | options)
        runs = [run for cell in cells.cells(2) for run in cell.runs]
        return {json.dumps(run.settings, sort_keys=True) for run in runs}

    usual = keys()
    assert len(usual) == 4
    assert folder not in "".join(usual)
    for change in (
        {"protocol": "ours"},
        {"task": ["rotate-inscribed"]},
        {"arch": ["resnet18"]},
        {"epochs": 3},
        {"subset": 10},
        {"blur": False},
        {"precision": "bf16"},
        {"folder": None},
        {"folder": make_folder(tmp_path / "others", 1)},
    ):
        assert not keys(**change) & usual, change
    assert keys(folder=make_folder(tmp_path / "same", 2)) == usual  # wherever they lie


def test_published_numbers_are_those_of_the_best_epoch():
    def published(*key, **options):
        return table2(**options).published.get(key)

    paper = published("rotate-paper", "cnn single")
    assert paper.value("accuracy") is None
    assert paper.value("best_epoch_accuracy") == (76.78, 1.79)
    assert paper.alike
    for change in ({"protocol": "ours"}, {"subset": 10}, {"epochs": 3}):
        assert not published("rotate-paper", "cnn single", **change).alike
    assert published("rotate-paper", "cnn single", blur=False) is None
    assert published("rotate-corners", "cnn single", task=["rotate-corners"]) is None
    assert published("cifar10", "cnn mixture", blur=False).alike


def test_it_is_not_among_all():
    assert "table2" not in names_of(["all"])
    with pytest.raises(ValueError, match=r"'paper' is not known, choose from \['code', 'ours'\]"):
        get_experiment("table2", "paper")


def test_from_the_command_line(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "larger", {"n_experts": 6})
    options = ("--task", "cifar10", "rotate-paper", "--model", "single", "larger", "--runs", "1")
    call(folder, tmp_path, *options, "--protocol", "ours")
    cells = json.loads((tmp_path / "table2.json").read_text())["cells"]
    assert [tuple(cell["labels"].values()) for cell in cells] == [
        ("cifar10", "cnn single"),
        ("cifar10", "cnn larger"),
        ("rotate-paper", "cnn single"),
        ("rotate-paper", "cnn larger"),
    ]
    for cell in cells:
        values = {name: value[0] for name, value in cell["values"].items()}
        assert len(values["accuracy_curve"]) == len(values["loss_curve"]) == 2
        assert values["accuracy"] == values["accuracy_curve"][-1]
        assert values["best_epoch_accuracy"] == max(values["accuracy_curve"])
        task, model = cell["labels"].values()
        command = f"table2 --task {task} --arch cnn --model {model[4:]} --data FOLDER"
        assert f"{command} --protocol ours --epochs 2 --runs 1 --seed 0" in cell["command"]
    for cell in cells[1::2]:
        (dispatch,) = cell["values"]["dispatch"]
        assert np.shape(dispatch) == (10, 6)
        assert np.sum(dispatch) == cell["values"]["n_test"][0]
    report = (tmp_path / "table2.md").read_text()
    assert "| 76.78 ± 1.79 (quoted) " in report
    assert cells[0]["command"] in report
    assert folder not in report
    assert cells[0]["command"] in (tmp_path / "report.html").read_text()
    assert (tmp_path / "table2.png").stat().st_size > 10_000


def test_an_interrupt_that_a_fit_swallows_ends_the_command(folder, tmp_path, monkeypatch):
    def perform(run):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return {"accuracy": 1.0}

    monkeypatch.setattr(PictureRun, "perform", perform)
    with pytest.raises(SystemExit, match="the same command goes on"):
        call(folder, tmp_path)
    assert not list(tmp_path.rglob("*.json"))
