"""The processes that train a mixture together, each with its part of every batch."""

import hashlib
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._data.tables import draw_rows
from ..nn.functional import BatchShard, using_shard
from ..nn.router_parts import Noise
from .callbacks import StopTraining

_CTRL_C = KeyboardInterrupt.__name__


class Connection:
    """A process group of its own, over all processes of the one that `torch.distributed` has.

    It is closed when one of them fails, which wakes the others: these find word of the reason in
    the store of the processes.

    Parameters
    ----------
    timeout : datetime.timedelta
        How long to wait for another process.
    """

    def __init__(self, timeout):
        # Gradients travel from GPU to GPU, a few numbers that Python looks at from host to host.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        self.group = dist.new_group(timeout=timeout, backend=backend)
        self.store = dist.distributed_c10d._get_default_store()
        self.rank, self.size = self.group.rank(), self.group.size()
        self._key = f"sklearn_moe/{self.group.group_name}"

    def exchange(self, function, *tensors):
        """Call a collective function of `torch.distributed`.

        Raises
        ------
        KeyboardInterrupt
            If another process was interrupted.
        RuntimeError
            If another process failed, cannot be reached or takes too long.
        """
        if self.group is None:
            raise RuntimeError(
                "This process left the others by an error or Ctrl-C. Leave data_parallel() in all "
                "processes, and enter it again."
            )
        try:
            function(*tensors, group=self.group)
        except RuntimeError as error:
            reason = self._reason() or f"it cannot be reached within the timeout ({error})"
            if reason.startswith(_CTRL_C):
                raise KeyboardInterrupt("Another process was interrupted.") from error
            raise RuntimeError(f"Another process left the training: {reason}") from error

    def close(self, error=None):
        """Wake those who still wait for this process, and say why."""
        if self.group is None:
            return
        group, self.group = self.group, None
        # The store ends with the process that holds it.
        with suppress(RuntimeError):
            if error is not None and self._reason() is None:
                self.store.set(self._key, f"{type(error).__name__}: {error}".removesuffix(": "))
            # Wait until all processes have read the last message: the store may end with this one.
            self.store.set(f"{self._key}/{self.rank}", "")
            every_key = [f"{self._key}/{rank}" for rank in range(self.size)]
            self.store.wait(every_key, timedelta(seconds=5))
        # It is closed with the last reference to it.
        dist.destroy_process_group(group)

    def _reason(self):
        """Return why the first process left, None if none has said so."""
        with suppress(RuntimeError):
            if self.store.check([self._key]):
                return self.store.get(self._key).decode()
        return None


# The processes that train together here and now, None where each trains by itself.
CURRENT_GROUP: ContextVar["DataParallelGroup | None"] = ContextVar("process group", default=None)


@contextmanager
def use_group(group):
    """Within this context fits are those of a process group."""
    token = CURRENT_GROUP.set(group)
    try:
        with group:
            yield group
    finally:
        CURRENT_GROUP.reset(token)
        group.connection.close()


class DataParallelGroup:
    """Several processes that train as one.

    All have the same data, weights and generators, and take the same batches, of which each uses
    its own rows.

    Parameters
    ----------
    connection : Connection

    Attributes
    ----------
    rank : int
        Number of this process, from 0 on.
    size : int
        How many there are.
    """

    def __init__(self, connection):
        self.connection = connection
        self.rank, self.size = connection.rank, connection.size

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        """Wake the others, who wait for this process, if it ends by an error."""
        if error is not None:
            self.connection.close(error)

    def begin(self, training, n_epochs, interrupts):
        """Refuse what processes cannot train together, or would not train alike."""
        net, rows, held_out = training.net, training.rows, training.validation
        self.interrupts = interrupts
        _check_module(net.module_)
        groups = [{**group, "params": None} for group in net.optimizer_.param_groups]
        has_hooks = training.has_batch_hooks
        self._check_equal(
            {
                "training data": (*_look_at(rows), *_look_at(held_out)),
                "weights at the start": _state(net),
                "random draws": _draws(training),
                "parameters": (n_epochs, training.n_steps, net.batch_size, has_hooks, groups),
            },
            "Give every process the same X, y and sample_weight, the same parameters and an int as "
            "random_state; each takes its own rows of every batch.",
        )
        n_batches = -(-len(rows.y) // net.batch_size)
        shared = {"A batch": len(rows.y) // n_batches}
        if held_out is not None:
            shared["Held-out data"] = len(held_out.y)
        for name, n_rows in shared.items():
            if n_rows < self.size:
                raise ValueError(
                    f"{name} of {n_rows} samples cannot be shared by {self.size} processes: use "
                    "fewer of them, or a larger batch_size or validation_fraction."
                )

    def own_draws(self, generators, seed):
        """Return sources of their own, as each process draws for other samples."""
        # Mixed, not shifted: a generator of a CPU looks at the lower 32 bits of its seed only.
        seed = int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0])
        return [torch.Generator(g.device).manual_seed(seed) for g in generators]

    def shards(self, rows, cuts, device):
        """Yield the rows of this process, of each batch, and a context for sums over it."""
        for batch in cuts:
            n_samples = len(batch)
            part = slice(*(n_samples * rank // self.size for rank in (self.rank, self.rank + 1)))
            # Weights are few: all processes have those of all.
            weight = rows.weight[batch].sum().to(device)
            shard = BatchShard(part, n_samples, weight, lambda value: self.all_reduce(value)[0])
            yield rows.take(batch[part], device), using_shard(shard)

    def all_reduce(self, *values):
        """Return the sums over the processes, by one message."""
        flat = torch.cat([value.reshape(-1) for value in values])
        self.connection.exchange(dist.all_reduce, flat)
        parts = flat.split([value.numel() for value in values])
        return [p.view(v.shape).to(v.dtype) for p, v in zip(parts, values, strict=True)]

    def collect(self, numbers):
        """Return the numbers of all steps; weights and gradients are those of all already."""
        names = [name for name in ("loss", "oob_loss", "score") if name in numbers]
        sums = self.all_reduce(*(numbers[name] for name in names))
        return numbers | dict(zip(names, sums, strict=True))

    @torch.no_grad()
    def all_reduce_gradients(self, parameters):
        """Replace the gradients by their sums; None where no process has one."""
        absent = [parameter.grad is None for parameter in parameters]
        for parameter, is_absent in zip(parameters, absent, strict=True):
            # An expert without rows here may have some elsewhere.
            if is_absent:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        present = 1 - gradients[0].new_tensor(absent)
        *sums, present = self.all_reduce(*gradients, present)
        torch._foreach_copy_(gradients, sums)
        if any(absent):
            for parameter, n_present in zip(parameters, present.tolist(), strict=True):
                if not n_present:
                    parameter.grad = None

    def end_epoch(self, training, stop):
        """Stop if any process does; check that all have the same weights and draws."""
        notes = self._check_equal(
            {"weights": _state(training.net), "random draws": _draws(training)},
            "All must be processors of one kind, and no module may keep statistics of the samples "
            "of one process, or draw from the generator of a router.",
            # Of a Ctrl-C, or of a callback that stops the training.
            note=2 if self.interrupts.seen else int(stop is not None),
        )
        if 2 in notes and not self.interrupts.seen:
            raise KeyboardInterrupt("Another process was interrupted.")
        return stop or (StopTraining("Another process stops.") if any(notes) else None)

    def _check_equal(self, values, remedy, note=0):
        """Refuse values that differ between processes, on all of them; return everybody's note."""
        sent = torch.tensor([*map(_digest, values.values()), note])
        received = [torch.empty_like(sent) for _ in range(self.size)]
        self.connection.exchange(dist.all_gather, received, sent)
        *columns, notes = torch.stack(received).T.tolist()
        differ = [name for name, seen in zip(values, columns, strict=True) if len(set(seen)) > 1]
        if differ:
            raise ValueError(
                f"The {self.size} processes differ in {' and '.join(differ)}. {remedy}"
            )
        return notes


def _check_module(module):
    """Refuse parts that use a batch in a way that processes do not know."""
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm):
            raise ValueError(
                f"{name} ({type(part).__name__}) normalizes over a batch, of which each process "
                "has only a part. Use norm='group': "
                "expert=EXPERTS['resnet18'].with_options(norm='group')."
            )
    noise = getattr(module.router, "noise", None)
    if noise is not None and not isinstance(noise, Noise):
        raise ValueError(
            f"router__noise={noise!r} draws for the samples that it is given, and these "
            "differ between processes. Use a name."
        )


def _look_at(rows):
    """Return what tells the data of a fit from others: y, weights and some rows of X."""
    if rows is None:
        return ()
    index = torch.as_tensor(draw_rows(len(rows.y), 64))
    x = rows.x.index_select(0, index.to(rows.y.device))
    return repr((tuple(rows.x.shape), x.dtype)), x, rows.y, rows.weight, rows.in_bag


def _state(net):
    """Return the weights of a net, and what else its modules keep."""
    return *net.module_.state_dict().values(), *net.criterion_.state_dict().values()


def _draws(training):
    """Return the state of the generators that all processes share."""
    return [generator.get_state() for generator in training.generators]


def _digest(values):
    """Return 8 bytes of a hash, as a number."""
    seen = hashlib.blake2b(digest_size=8)
    for value in values:
        if isinstance(value, torch.Tensor):
            seen.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        else:
            seen.update(repr(value).encode())
    return int.from_bytes(seen.digest(), "little", signed=True)
