"""Arguments of generators, metrics and transformers: a clear error that names them, or a result."""

from functools import partial
from inspect import signature

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint

from sklearn_moe import datasets, metrics, preprocessing

N_SAMPLES = 12
RNG = np.random.default_rng(0)
PICTURES = RNG.random((N_SAMPLES, 3, 8, 8)).astype(np.float32)
CLUSTERS, EXPERTS, Y = (np.arange(N_SAMPLES) % n for n in (3, 4, 2))
EXPERT_PROBA, GATE_PROBA = np.full((N_SAMPLES, 4, 2), 0.5), np.full((N_SAMPLES, 4), 0.25)
SHARES = np.full(4, 0.25)

ARGUMENTS = {
    metrics.dispatch_entropy: {"clusters": CLUSTERS, "experts": EXPERTS},
    metrics.dispatch_entropy_test: {
        **{"clusters": CLUSTERS, "experts": EXPERTS, "n_permutations": 5, "n_bootstraps": 5},
    },
    metrics.expert_error_matrix: {"y": Y, "clusters": CLUSTERS, "expert_proba": EXPERT_PROBA},
    metrics.expert_load: {"experts": EXPERTS},
    metrics.expert_swap_accuracy: {"y": Y, "experts": EXPERTS, "expert_proba": EXPERT_PROBA},
    metrics.knock_out_accuracy: {
        **{"y": Y, "gate_proba": GATE_PROBA, "expert_proba": EXPERT_PROBA, "experts": EXPERTS},
    },
    metrics.last_fluctuation: {"routes": np.tile(EXPERTS, (3, 1)), "steps": [1, 2, 3]},
    metrics.load_cv: {"load": SHARES},
    metrics.dead_experts: {"load": SHARES},
    metrics.usage_entropy: {"load": SHARES},
    metrics.mutual_information: {"clusters": CLUSTERS, "experts": EXPERTS},
    metrics.purity: {"clusters": CLUSTERS, "experts": EXPERTS},
    metrics.routing_agreement: {"first": EXPERTS, "second": CLUSTERS},
    metrics.routing_matrix: {"clusters": CLUSTERS, "experts": EXPERTS},
    metrics.own_other_error: {
        **{"error_matrix": np.ones((4, 3)), "routing_matrix": np.ones((3, 4))},
    },
    metrics.picture_properties: {"X": PICTURES, "n_bins": 3},
    metrics.router_margin: {"gate_proba": GATE_PROBA},
    metrics.split_information: {"groups": CLUSTERS, "experts": EXPERTS, "n_permutations": 5},
    datasets.make_cluster_patches: {"n_samples": 12, "n_clusters": 2, "patch_size": 10},
    datasets.make_orientation_task: {"images": PICTURES},
    datasets.make_rotation_task: {"images": PICTURES},
}
TRANSFORMERS = {
    preprocessing.CenterCropResize: {"crop": 6, "size": 8},
    preprocessing.GaussianBlur: {"kernel_size": 3},
    preprocessing.ImageScaler: {},
    preprocessing.ImageTransform: {"func": torch.neg},
    preprocessing.PatchKMeansFeatures: {"n_clusters": 4, "patch_size": 3, "n_patches": 50},
    preprocessing.Rotate: {"angle": 5.0},
}
VALUES = {
    "nan": np.nan,
    "inf": np.inf,
    "-1": -1,
    "True": True,
    "1e308": 1e308,
    "a string": "nonsense",
    "bytes": b"auto",
    "a list": [],
    "a dict": {},
    "a list of a number": [1],
    "a list of a string": ["a"],
    "a 0-d array": np.array(1),
    "an object": object(),
    "a class": dict,
    "a complex number": 1j,
    "ragged lists": [[1], [1, 2]],
    "objects": np.array([object() for _ in range(N_SAMPLES)]),
    "too few": np.arange(3),
    "two axes": np.ones((N_SAMPLES, 9)),
    "complex numbers": np.ones(N_SAMPLES) * 1j,
}


def calls():
    """Yield a function, its valid arguments, and the name of one to be spoiled."""
    for function, arguments in ARGUMENTS.items():
        names = list(signature(function).parameters)
        for name in names:
            yield function, seeded(arguments, names), name
    for cls, arguments in TRANSFORMERS.items():
        names = ["X", *cls._parameter_constraints]
        for name in names:
            yield partial(transform, cls), seeded(arguments | {"X": PICTURES}, names), name


def seeded(arguments, names):
    return arguments | ({"random_state": 0} if "random_state" in names else {})


def transform(cls, X, **parameters):
    return cls(**parameters).fit_transform(X)


def name_of(value):
    if isinstance(value, partial):
        return value.args[0].__name__
    return getattr(value, "__name__", value if isinstance(value, str) else "")


def constraints_of(function, name):
    if isinstance(function, partial):
        constraints = function.args[0]._parameter_constraints.get(name, [])
    else:
        constraints = function._skl_parameter_constraints.get(name, [])
    return constraints if isinstance(constraints, list) else []


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize(("function", "arguments", "name"), list(calls()), ids=name_of)
def test_a_bad_argument_is_named_or_harmless(function, arguments, name):
    function(**arguments)
    values = dict(VALUES)
    for constraint in map(make_constraint, constraints_of(function, name)):
        try:
            values[f"invalid for {constraint}"] = generate_invalid_param_val(constraint)
        except NotImplementedError:
            pass
    if name == "func":
        del values["a class"]  # it raises an error of its own
    for label, value in values.items():
        message = name
        try:
            function(**arguments | {name: value})
        except (TypeError, ValueError) as error:
            message = str(error)
        assert name in message, f"{label}: {message}"


MISTAKES = {
    "more clusters than fit": (
        partial(datasets.make_cluster_patches, n_clusters=20, patch_size=10),
        "patch_size=10.*n_clusters",
    ),
    "a range upside down": (
        partial(datasets.make_cluster_patches, alpha=(2, 1)),
        r"alpha=\(low, high\) must satisfy",
    ),
    "a range from 0": (partial(datasets.make_cluster_patches, beta=(0, 1)), "beta"),
    "a range of three": (partial(datasets.make_cluster_patches, gamma=(1, 2, 3)), "gamma"),
    "a ragged range": (partial(datasets.make_cluster_patches, gamma=(1, [2, 3])), "gamma: setting"),
    "patches beyond float32": (
        partial(datasets.make_cluster_patches, 12, scale=1e300, random_state=0),
        "scale=1e.300 make patches that leave the range of float32",
    ),
    "half a dictionary": (
        partial(datasets.make_cluster_patches, dictionary=(np.eye(4),)),
        "dictionary must be the pair",
    ),
    "another dictionary": (
        partial(datasets.make_cluster_patches, dictionary=(np.eye(4), np.eye(4))),
        "dictionary must have shape",
    ),
    "bools for counts": (partial(datasets.make_cluster_patches, True), "'n_samples' parameter"),
    "clusters of another length": (
        partial(metrics.dispatch_entropy, CLUSTERS[:3], EXPERTS),
        r"clusters and experts: .*\[3, 12\]",
    ),
    "clusters of two columns": (
        partial(metrics.dispatch_entropy, np.ones((12, 2)), EXPERTS),
        r"clusters: .*\(12, 2\)",
    ),
    "negative experts": (partial(metrics.expert_load, [-1, 0]), "experts must be indices from 0"),
    "experts by name": (partial(metrics.expert_load, ["a", "b"]), "experts must be integer"),
    "fewer experts": (partial(metrics.expert_load, [0, 5], n_experts=3), "n_experts=3, got 5"),
    "negative weights": (
        partial(metrics.expert_load, [0, 1], sample_weight=[-1, 1]),
        "sample_weight must be non-negative",
    ),
    "weights of zero": (
        partial(metrics.expert_load, [0, 1], sample_weight=[0, 0]),
        "sample_weight must be non-negative",
    ),
    "a negative load": (partial(metrics.load_cv, [-1, 2]), "load must be non-negative"),
    "an empty load": (partial(metrics.load_cv, [0, 0]), "load must be non-negative"),
    "tensors for arrays": (partial(preprocessing.paper_blur, PICTURES), "x must be a tensor"),
    "a table for pictures": (
        partial(preprocessing.paper_blur, torch.ones(2, 3)),
        r"x must be a tensor of pictures.*\(2, 3\)",
    ),
}


@pytest.mark.parametrize(("function", "match"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(function, match):
    with pytest.raises((TypeError, ValueError), match=match):
        function()


def test_a_blur_of_no_width_changes_nothing():
    for sigma in (1e-308, 1e-30, 1e-3):
        blurred = preprocessing.GaussianBlur(3, sigma).fit_transform(PICTURES)
        np.testing.assert_allclose(blurred, PICTURES, rtol=1e-6)
