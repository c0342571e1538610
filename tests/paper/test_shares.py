"""The law of shares, on curves and loads that are made up."""

import json
import shutil
from importlib import import_module

import pytest
from helpers import raises

from sklearn_moe.paper import get_experiment
from sklearn_moe.paper.__main__ import main

module = import_module("sklearn_moe.paper.experiments.shares")


def cell(kind, curve, seeds=(0, 1), **more):
    values = {"accuracy_curve": [curve] * 2, "loss_curve": [[3.0, 2, 1, 0][: len(curve)]] * 2}
    labels = {"setting": "cifar10", "model": f"cnn {kind}"}
    return {"labels": labels, "seeds": list(seeds), "values": values | more}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Return a function that stores a result of Table 2 where the law looks for them."""
    monkeypatch.setattr(module, "_FOLDER", tmp_path)

    def store(name, *cells, options=""):
        (tmp_path / name).mkdir()
        data = {"command": f"table2 {options}", "cells": cells}
        (tmp_path / name / "table2.json").write_text(json.dumps(data))

    return store


def test_a_mixture_is_read_from_the_curve_of_a_single_network(stored):
    load = [[0.5, 0.5], [1.0, 0.0]]
    cells = cell("single", [10, 20, 30, 40]), cell("mixture", [5, 10, 15, 21], load=load)
    stored("table2-a", *cells)
    stored("table2-b", *cells, options="--protocol ours")
    (found,) = get_experiment("shares").cells()
    assert found.labels == {"setting": "cifar10", "model": "cnn"}
    half, whole = (run.perform() for run in found.runs)
    assert (half["share"], half["predicted_accuracy"], half["predicted_loss"]) == (0.5, 20, 2)
    assert (half["at_equal_epochs"], half["at_equal_images"]) == (-19, 1)
    assert half["predicted_curve"] == [10, 10, 15, 20]  # before the first epoch it is that one
    assert whole["predicted_curve"] == [10, 20, 30, 40]
    assert [run.seed for run in get_experiment("shares").cells(1, seed=1)[0].runs] == [1]
    assert found.runs[0].key != found.runs[1].key


def test_a_mixture_that_noise_routes_is_read_beside_the_cnn_of_all_epochs(stored):
    stored("table2-cnn", cell("single", [10, 20, 30, 40]), cell("mixture", [1] * 4, load=[[1]] * 2))
    stored("table2-random", cell("random", [5, 22], seeds=[1, 2], load=[[0.5, 0.5]] * 2))
    _, found = get_experiment("shares").cells()
    assert found.labels["result"] == "table2-random"
    (run,) = (run.perform() for run in found.runs if run.seed == 1)
    assert (run["predicted_accuracy"], run["at_equal_epochs"]) == (10, 2)


def test_controls_are_read_from_the_single_networks_of_others(stored):
    mixture = cell("mixture", [1, 2, 3, 4], load=[[1]] * 2)
    stored("table2-trunk", cell("single", [10, 20, 30, 40]), mixture)
    stored("table2-library", cell("single", [15, 25]), options="--protocol ours")
    stored("table2-rotate-short", cell("single", [50, 10, 20]))
    stored("table2-softmax", cell("softmax", [45, 30]))
    softmax, library = (found.runs[0].perform() for found in get_experiment("shares").cells())
    assert (softmax["share"], softmax["at_equal_epochs"], softmax["in_best_epochs"]) == (1, 20, -5)
    # The curve of two epochs is where the law reads the second one, and no later one.
    assert (library["at_equal_epochs"], library["at_equal_images"]) == (-36, 2 - 25)
    assert library["loss"] == 2


def test_without_stored_results_it_says_where_they_are(stored):
    raises(ValueError, "docs/results of a checkout", get_experiment, "shares")


def test_the_stored_page_is_computed_again(tmp_path, capsys):
    for path in module._FOLDER.glob("shares.*"):
        shutil.copy(path, tmp_path)
    main(["check", str(tmp_path)])
    assert "shares.json: equal; setting cifar10, result table2-cnn" in capsys.readouterr().out
