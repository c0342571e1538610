"""Where a model is trained, with how many threads, and what is said when memory runs out."""

import math
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

from .. import _devices
from .._devices import OutOfMemoryError, is_out_of_memory

# Multiply-adds of a step, below which a GPU gains nothing.
LARGE = 1e8
# And a second thread. On a busy machine the threads of a small step wait for each other, spinning,
# and it takes tens of times longer; of steps of that size a tenth to a quarter.
_WORTH_THREADS = 4e7


@contextmanager
def as_many_threads_as_useful(work):
    """Compute small steps with one thread; the settings of the process stay as they are.

    The limit is that of OpenMP, which belongs to the calling thread.
    """
    if work > _WORTH_THREADS:
        yield
        return
    torch.get_num_threads()  # torch sets its own number at the first use in a thread
    with _controller().limit(limits=1, user_api="openmp"):
        yield


def one_thread():
    """Return a context in which small products are computed with one thread."""
    return _controller().limit(limits=1)


@cache
def _controller():
    return ThreadpoolController()  # searches all loaded libraries: once is enough


def work_of_a_step(module, n_samples, input_shape):
    """Return about how many multiply-adds a batch takes forwards."""
    positions = {1: 1, 2: input_shape[0]}.get(len(input_shape), math.prod(input_shape[1:]))
    work = _n_weights(module.experts) / len(module.experts) * _n_used(module)
    if module.trunk is None:
        return n_samples * positions * work
    return n_samples * (positions * _n_weights(module.trunk) + work)  # of vectors, as a rule


def units_of_a_sample(module):
    """Return about how many hidden units a sample has, those with a bias, in all its experts."""
    named = module.experts.named_parameters()
    biases = (parameter.numel() for name, parameter in named if name.endswith("bias"))
    return sum(biases) * _n_used(module) // len(module.experts)


def _n_used(module):
    """Return how many experts a sample goes through."""
    router = module.router
    n_used = 1 if router is None else router.top_k if router.sparse else len(module.experts)
    return n_used + len(module.shared)


def _n_weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def explained_errors(batch_size, device):
    """Name the parameters that help if training runs out of memory, or of samples of a batch."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):  # of torch
            raise
        raise ValueError(
            "A layer such as BatchNorm, which normalizes over the samples of a batch, cannot be "
            f"trained on a batch of one sample, got batch_size={batch_size}. Raise batch_size, "
            "pass several samples to each call of partial_fit, or use GroupNorm or LayerNorm."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kind = type(error) if isinstance(error, OutOfMemoryError) else MemoryError
        raise kind(
            f"A training step of {batch_size} samples ran out of memory on {device}. Lower "
            "batch_size, expert_width or n_experts, or choose a router that selects few "
            f"experts, such as 'top1'. The error of torch: {error}"
        ) from error


def place(plan, module, input_shape):
    """Return device and precision of training of a new net.

    Parameters
    ----------
    plan : Plan
    module : MixtureOfExperts
    input_shape : tuple of int

    Raises
    ------
    ValueError
        If there is no such device.
    """
    device, of_large = plan.devices
    if device != of_large and work_of_a_step(module, plan.training.batch_size, input_shape) > LARGE:
        device = of_large
    device = _devices.as_device(device, float64=True)
    use_bf16 = plan.training.may_use_bf16 and _devices.is_fast_in_bf16(device)
    return str(device), "bf16" if use_bf16 else "float32"
