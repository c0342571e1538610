"""Table 2 goes on where it was killed, and says what was measured."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

from sklearn_moe.paper import _pictures, table2
from sklearn_moe.paper.__main__ import main
from sklearn_moe.paper._pictures import TASKS, PictureRun, make_task, picture_classifier
from sklearn_moe.paper._store import RunStore

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder of two train and two test pictures in each of ten classes."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abcdefghij":
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                picture = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{i}.png")
    return root


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
    run = PictureRun(task, "cnn", 4, seed=0, epochs=1, subset=10)
    X, y, groups = make_task(run, folder, "train")
    rotated = task != "cifar10"
    assert X.shape == (20 if rotated else 10, 3, 32, 32)
    assert X.dtype == np.uint8
    assert len(np.unique(groups)) == 10
    np.testing.assert_array_equal(np.bincount(y), [10, 10] if rotated else [1] * 10)
    X_test, _, _ = make_task(run, folder, "test")
    assert len(X_test) == (40 if rotated else 20)


@pytest.mark.parametrize("architecture", _pictures.ARCHITECTURES)
@pytest.mark.parametrize("n_experts", [1, 4])
def test_hyperparameters_are_the_papers(architecture, n_experts):
    run = PictureRun("rotate-paper", architecture, n_experts, seed=0, epochs=3)
    clf = picture_classifier(run, "cpu", 0, [])
    assert clf.batch_size == 128
    if architecture == "cnn":
        assert (clf.solver, clf.learning_rate_init) == ("adam", 0.001)
    else:
        assert clf.solver == ("sgd" if n_experts == 1 else "normalized_sgd")
        assert (clf.learning_rate_init, clf.momentum, clf.weight_decay) == (0.01, 0.9, 5e-4)
        assert clf.router_learning_rate_init == 1e-4


def call(folder, out, *more):
    tasks = ["--task", "cifar10", "rotate-inscribed", "--arch", "cnn", "--runs", "2"]
    main(["table2", "--data", str(folder), "--out", str(out), "--epochs", "2", *tasks, *more])


def test_from_the_command_line(folder, tmp_path, capsys):
    call(folder, tmp_path, "--runs", "1")
    rows = json.loads((tmp_path / "table2.json").read_text())
    assert [(row["task"], row["n_experts"]) for row in rows] == [
        ("cifar10", 1),
        ("cifar10", 4),
        ("rotate-inscribed", 1),
        ("rotate-inscribed", 4),
    ]
    for row in rows:
        assert len(row["accuracy_curve"]) == len(row["loss_curve"]) == 2
        assert row["accuracy"] == pytest.approx(row["accuracy_curve"][-1])
        assert row["best_accuracy"] == max(row["accuracy_curve"])
        assert np.sum(row["dispatch"]) == row["n_test"]
        assert np.shape(row["dispatch"]) == (10, row["n_experts"])
    report = (tmp_path / "table2.md").read_text()
    assert "| cifar10 | cnn | mixture of 4 | 20 | 2 | 1 |" in report
    assert "80.31 ± 0.62" in report
    assert report in capsys.readouterr().out
    assert (tmp_path / "table2.png").stat().st_size > 10_000


def test_an_interrupt_that_a_fit_swallows_ends_the_command(folder, tmp_path, monkeypatch):
    def run_pictures(run, data, **options):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return {"accuracy": 1.0}

    monkeypatch.setattr(table2, "run_pictures", run_pictures)
    with pytest.raises(KeyboardInterrupt):
        call(folder, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_other_pictures_are_other_runs(folder, tmp_path):
    assert table2._where(folder) == table2._where(f"{folder}/.")
    assert table2._where(folder) != table2._where(tmp_path)
    assert str(folder) not in str(table2._where(folder))


def test_a_second_start_repeats_nothing(folder, tmp_path, monkeypatch):
    calls = []

    def run_pictures(run, data, **options):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(run)
        return fake_result(run)

    def fake_result(run):
        curve = [run.seed + 0.5, run.n_experts]
        return {
            "accuracy": curve[-1],
            "best_accuracy": max(curve),
            "accuracy_curve": curve,
            "entropy": 1.0,
            "dispatch": [[1] * run.n_experts] * 10,
            "n_train": 20,
            "seconds": 1.0,
        }

    monkeypatch.setattr(table2, "run_pictures", run_pictures)
    with pytest.raises(KeyboardInterrupt):
        call(folder, tmp_path)
    assert len(calls) == 3
    done = list(calls)
    monkeypatch.setattr(
        table2, "run_pictures", lambda run, *_, **__: calls.append(run) or fake_result(run)
    )
    call(folder, tmp_path)
    assert calls[:3] == done
    assert len(calls) == len(set(calls)) == 8
    call(folder, tmp_path)
    assert len(calls) == 8


def test_pictures_that_are_not_blurred_are_not_the_papers(folder, tmp_path):
    options = ["--task", "rotate-paper", "--arch", "cnn", "--runs", "1", "--epochs", "1"]
    for more, shown in (([], True), (["--no-blur"], False)):
        main(["table2", "--data", str(folder), "--out", str(tmp_path), *options, *more])
        report = (tmp_path / "table2.md").read_text()
        assert ("76.78 ± 1.79" in report) is shown
        assert (", without blur\n" in report) is not shown
    rows = json.loads((tmp_path / "table2.json").read_text())
    assert [row["blur"] for row in rows] == [False, False]
    sharp = PictureRun("rotate-paper", "cnn", 1, seed=0, epochs=1, blur=False)
    assert picture_classifier(sharp, "cpu", 0, []).train_transform is None
