"""How many threads a training step is worth."""

import math
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["LARGE", "as_many_threads_as_useful", "work_of_a_step"]

# Multiply-adds. Below that neither a second thread nor a GPU gains anything. On a busy machine the
# threads of a step wait for each other, spinning, and it takes tens of times longer.
LARGE = 1e8


@contextmanager
def as_many_threads_as_useful(work):
    """Compute small steps with one thread; the settings of the process stay as they are.

    The limit is that of OpenMP, which belongs to the calling thread.
    """
    if work > LARGE:
        yield
        return
    torch.get_num_threads()  # torch sets its own number at the first use in a thread
    with _controller().limit(limits=1, user_api="openmp"):
        yield


@cache
def _controller():
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


def work_of_a_step(module, n_samples, input_shape):
    """Return about how many multiply-adds a batch takes forwards."""
    positions = {1: 1, 2: input_shape[0]}.get(len(input_shape), math.prod(input_shape[1:]))
    router = module.router
    answering = 1 if router is None else router.top_k if router.sparse else len(module.experts)
    work = _n_weights(module.experts[0]) * (answering + len(module.shared))
    if module.trunk is None:
        return n_samples * positions * work
    return n_samples * (positions * _n_weights(module.trunk) + work)  # of vectors, as a rule


def _n_weights(module):
    return sum(parameter.numel() for parameter in module.parameters())
