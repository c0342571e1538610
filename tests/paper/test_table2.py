"""Table 2: images as an experiment, its settings, and what was measured."""

import json
import signal

import numpy as np
import pytest
import torch
from helpers import noise_images, seeded
from PIL import Image
from torchvision.transforms.v2 import functional

from sklearn_moe._training.net import MoENet
from sklearn_moe.nn.seeding import use_generator
from sklearn_moe.paper.__main__ import main
from sklearn_moe.paper._image_runs import TASKS, Images, hide_grid, paper_blur
from sklearn_moe.paper.experiments.table2 import table2

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder of two train and two test images in each of ten classes."""
    return make_folder(tmp_path_factory.mktemp("images"), 2)


def make_folder(root, per_class):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abcdefghij":
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                image = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return str(root)


def test_tasks(folder):
    for task in TASKS:
        problem = Images(task, folder, subset=10)
        X, y, _ = problem.draw("train", 0)
        rotated = task != "cifar10"
        assert X.shape == (20 if rotated else 10, 3, 32, 32)
        np.testing.assert_array_equal(np.bincount(y), [10, 10] if rotated else [1] * 10)
        assert len(problem.draw("test", 0)[0]) == (40 if rotated else 20)


def test_settings_tell_runs_apart(folder, tmp_path):
    def keys(**options):
        options = {"folder": folder, "arch": ["cnn"], "task": ["rotate-paper"]} | options
        return {run.key for cell in table2(**options).cells(2) for run in cell.runs}

    usual = keys()
    assert len(usual) == 4
    changes = {"protocol": "ours", "task": ["rotate-inscribed"], "arch": ["resnet18"], "epochs": 3}
    changes |= {"subset": 10, "blur": False, "hide_grid": True, "width": 8, "precision": "bf16"}
    changes |= {"folder": make_folder(tmp_path / "others", 1)}
    for change in ({"folder": None}, *({name: value} for name, value in changes.items())):
        assert not keys(**change) & usual, change
    assert keys(folder=make_folder(tmp_path / "same", 2)) == usual  # wherever they lie


def test_a_width_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match="'trunk'"):
        table2(arch=["cnn"], model=["trunk"], width=8)
    with pytest.raises(SystemExit, match="'trunk'"):
        main("table2 --arch cnn --model trunk --width 8".split())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_run_goes_on_after_its_last_epoch(folder, tmp_path, monkeypatch):
    what = "--task rotate-paper --arch cnn --width 4 --model mixture --protocol ours --epochs 4"
    options = ["table2", "--data", folder, *what.split(), "--runs", "1", "--device", "cpu"]

    def run(name):
        places = ["--out", str(tmp_path / name), "--resume", str(tmp_path / f"{name}-unfinished")]
        main([*options, *places])
        values = json.loads((tmp_path / name / "table2.json").read_text())["cells"][0]["values"]
        return values | {"fit_seconds": None}

    whole = run("whole")
    predict, tested = MoENet.predict, []

    def stop(self, X):
        tested.append(len(self.history))
        if tested == [1, 2]:  # Ctrl-C in the test of the second epoch
            signal.raise_signal(signal.SIGINT)
        return predict(self, X)

    monkeypatch.setattr(MoENet, "predict", stop)
    with pytest.raises(SystemExit, match="Stopped"):
        run("stopped")
    assert run("stopped") == whole
    assert tested == [1, 2, 3, 4]
    assert not [*tmp_path.glob("*-unfinished/*")]


def test_the_grid_of_jpeg_is_hidden():
    places = np.arange(32) // 8 % 2
    X = np.full((200, 3, 32, 32), 100, np.uint8) + 20 * (places ^ places[:, None]).astype(np.uint8)
    hidden = hide_grid(X, 0)
    assert hidden.dtype == np.uint8
    assert hidden.shape == X.shape
    for axis in (2, 3):
        steps = np.abs(np.diff(hidden.astype(int), axis=axis)).mean((1, 5 - axis))
        # Of 20; a normal density of one pixel has at most .4 in one.
        assert steps.max() < 0.41 * 20
        assert set(steps[:, 8:16].argmax(1)) == set(range(8))
    np.testing.assert_array_equal(hide_grid(X, 0), hidden)


def test_the_blur_of_the_paper():
    for dtype, tolerance in [(torch.uint8, 1), (torch.float32, 1e-6), (torch.float64, 1e-7)]:
        x = torch.from_numpy(noise_images(7, height=11, width=13)).to(dtype)
        x = x if dtype == torch.uint8 else x / 255
        with use_generator(seeded()):
            sigmas = torch.empty(7).uniform_(1.1, 2.2).tolist()
        expected = torch.stack(
            [functional.gaussian_blur(a, [3, 7], [s, s]) for a, s in zip(x, sigmas, strict=True)]
        )
        with use_generator(seeded()):
            found = paper_blur(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.double(), expected.double(), rtol=0, atol=tolerance)
        # Two passes round differently from torchvision's one.
        assert dtype != torch.uint8 or (found != expected).float().mean() < 1e-3
