"""Arguments of generators, metrics and transformers: a clear error that names them, or a result."""

from functools import partial
from inspect import signature

import numpy as np
import pytest
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint

from sklearn_moe import datasets, metrics, preprocessing

N_SAMPLES = 12
IMAGES = np.random.default_rng(0).random((N_SAMPLES, 3, 8, 8)).astype(np.float32)
CLUSTERS, EXPERTS = (np.arange(N_SAMPLES) % n for n in (3, 4))
BY_CLUSTER = {"clusters": CLUSTERS, "experts": EXPERTS}

ARGUMENTS = {
    metrics.dispatch_entropy: BY_CLUSTER,
    metrics.routing_matrix: BY_CLUSTER,
    datasets.make_cluster_patches: {"n_samples": 12, "n_clusters": 2, "patch_size": 10},
    datasets.make_rotation_task: {"images": IMAGES},
}
TRANSFORMERS = {
    preprocessing.PatchKMeansFeatures: {"n_clusters": 4, "patch_size": 3, "n_patches": 50},
}
VALUES = [np.nan, np.inf, -1, True, 1e308, "nonsense", b"auto", [], {}, [1], ["a"], np.array(1)]
VALUES += [object(), dict, 1j, [[1], [1, 2]], np.array([object() for _ in range(N_SAMPLES)])]
VALUES += [np.arange(3), np.ones((N_SAMPLES, 9)), np.ones(N_SAMPLES) * 1j]


def transform(cls, X, **parameters):
    return cls(**parameters).fit_transform(X)


def calls(module):
    """Yield the functions of a module, their valid arguments, and the constraints of each."""
    for function, arguments in (ARGUMENTS | TRANSFORMERS).items():
        if not function.__module__.startswith(module.__name__):
            continue
        if isinstance(function, type):
            constraints = {"X": []} | function._parameter_constraints
            call, arguments = partial(transform, function), arguments | {"X": IMAGES}
        else:
            found = function._skl_parameter_constraints
            call = function
            constraints = {name: found.get(name, []) for name in signature(function).parameters}
        seed = {"random_state": 0} if "random_state" in constraints else {}
        yield call, arguments | seed, constraints


def values_for(constraints):
    """Yield values of which most are bad."""
    yield from VALUES
    for constraint in map(make_constraint, constraints if isinstance(constraints, list) else []):
        try:
            yield generate_invalid_param_val(constraint)
        except NotImplementedError:
            pass


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("module", [metrics, datasets, preprocessing], ids=lambda m: m.__name__)
def test_a_bad_argument_is_named_or_harmless(module):
    n_refused = 0
    for function, arguments, constraints in calls(module):
        function(**arguments)
        for name, allowed in constraints.items():
            for value in values_for(allowed):
                message = name
                try:
                    function(**arguments | {name: value})
                except (TypeError, ValueError) as error:
                    n_refused += 1
                    message = str(error)
                assert name in message, f"{function}: {value!r}: {message}"
    assert n_refused > 40
