"""The schedule of rates that ends by itself."""

import math

__all__ = ["Cosine"]

_RISE = 20  # the rates are full after 1 / 20 of the steps


class Cosine:
    """Let the rates of an optimizer rise over a twentieth of the steps, then fall to 0.

    Those of torch do the same, wrapped around every step of the optimizer.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its rates are the highest ones; they are kept as "initial_lr" of each group, as by torch.
    n_steps : int or None
        None: the rates stay at their highest.
    """

    def __init__(self, optimizer, n_steps):
        self.optimizer = optimizer
        self.n_steps = n_steps
        self.n_done = 0
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"])
        self._set_rates()

    def step(self):
        """Go on to the rates of the next step."""
        self.n_done += 1
        self._set_rates()

    def _set_rates(self):
        if self.n_steps is None:
            return
        rise = min(1, _RISE * (self.n_done + 1) / self.n_steps)
        factor = rise * (1 + math.cos(math.pi * min(1, self.n_done / self.n_steps))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
