"""What processes send each other, and how they learn that one of them is gone."""

from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist

__all__ = ["Connection"]

_GOODBYE = timedelta(seconds=5)  # that all have to leave before the connection is closed
_INTERRUPTED = KeyboardInterrupt.__name__


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
                "This rank left the others by an error or Ctrl-C. Leave data_parallel() on all "
                "ranks, and enter it again."
            )
        try:
            function(*tensors, group=self.group)
        except RuntimeError as error:
            reason = self._reason() or f"it cannot be reached within the timeout ({error})"
            if reason.startswith(_INTERRUPTED):
                raise KeyboardInterrupt("Another rank was interrupted.") from error
            raise RuntimeError(f"Another rank left the training: {reason}") from error

    def close(self, error=None):
        """Wake those who still wait for this process, and say why."""
        if self.group is None:
            return
        group, self.group = self.group, None
        with suppress(RuntimeError):  # the store ends with the process that holds it
            if error is not None and self._reason() is None:
                self.store.set(self._key, f"{type(error).__name__}: {error}".removesuffix(": "))
            # Who leaves, too, may be about to read what was sent last.
            self.store.set(f"{self._key}/{self.rank}", "")
            self.store.wait([f"{self._key}/{rank}" for rank in range(self.size)], _GOODBYE)
        dist.destroy_process_group(group)  # closed with the last reference to it

    def _reason(self):
        """Return why the first process left, None if none has said so."""
        with suppress(RuntimeError):
            if self.store.check([self._key]):
                return self.store.get(self._key).decode()
        return None
