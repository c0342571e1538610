"""Training by several processes, on one machine or many, each with its part of every batch."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from ._training.process_group import Connection, DataParallelGroup, use_group

__all__ = ["data_parallel"]


@contextmanager
def data_parallel(*, timeout: float = 600.0) -> Iterator[Any]:
    """Within this context every fit is shared by all processes of a group.

    Each process runs the same program: it calls `fit` with the same X and y and with an int as
    `random_state`, computes its own rows of every batch, and has the same model at the end, which
    is that of one process up to rounding. X may be memory-mapped: a process reads only its own rows
    of a batch. Everything but training, such as `predict`, is done by each process separately.

    The processes are those of a process group of `torch.distributed`. If there is none yet,
    Accelerate makes it from the environment of `accelerate launch`, `torchrun` or MPI. Without any
    of these there is one process, and fits are as usual.

    Parameters
    ----------
    timeout : float, default=600.0
        Seconds to wait for another process. A failure is detected within five.

    Yields
    ------
    group : object
        With `rank`, the number of this process from 0 on, and `size`, the number of processes.

    Raises
    ------
    ImportError
        If there is no process group, and no Accelerate.
    RuntimeError
        By a fit, if another process failed, with its reason.
    ValueError
        By a fit, if the processes were given different data or parameters, or the model has parts
        that cannot be trained in this way, such as BatchNorm.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.distributed import data_parallel
    >>> X, y = make_cluster_patches(500, random_state=0)
    >>> with data_parallel() as group:  # one process, unless launched as many
    ...     clf = MoEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> group.rank, group.size
    (0, 1)
    """
    wait = timedelta(seconds=timeout)
    if not dist.is_initialized():
        _initialize(wait)
    if dist.is_initialized() and dist.get_world_size() > 1:
        with use_group(DataParallelGroup(Connection(wait))) as group:
            yield group
    else:
        yield SimpleNamespace(rank=0, size=1)


def _initialize(wait):
    """Make a process group, if there is to be one."""
    try:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    except ImportError as error:
        raise ImportError(
            "data_parallel() finds the other processes by Accelerate: pip install "
            "'sklearn_moe[distributed]'. Or initialize torch.distributed before."
        ) from error
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=wait)
    # Its threads must not outlive the interpreter.
    atexit.register(state.destroy_process_group)
