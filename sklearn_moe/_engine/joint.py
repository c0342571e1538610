"""The optimizers of many nets, stepped as one."""

from torch.optim import SGD, Adam, AdamW

from .._alike import alike
from ..optim import NormalizedSGD

__all__ = ["JointOptimizer"]

_BY_ENTRY = (SGD, Adam, AdamW)  # every weight by itself: groups of equal options are one group


class JointOptimizer:
    """Step the optimizers of many nets as one.

    Each optimizer keeps its parameter groups, whose options are read in every step; `release`
    copies the state back to them. Optimizers of other types are stepped one after the other.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        All of one kind.
    """

    def __init__(self, optimizers):
        self.optimizers = optimizers
        self.one = None
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        kind = type(optimizers[0])
        if kind in _BY_ENTRY:
            groups = alike(groups, _options)
        elif kind is NormalizedSGD:
            groups = [[group] for group in groups]
        else:
            return
        self.groups = groups
        self.one = kind([_merged(members) for members in groups])
        for optimizer in optimizers:
            self.one.state.update(optimizer.state)

    def step(self):
        """Make a step of each."""
        if self.one is None:
            for optimizer in self.optimizers:
                optimizer.step()
            return
        for group, (first, *_) in zip(self.one.param_groups, self.groups, strict=True):
            group["lr"] = first["lr"]  # of a schedule
        self.one.step()

    def release(self):
        """Give every optimizer the state of its weights."""
        if self.one is None:
            return
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter in self.one.state:
                        optimizer.state[parameter] = self.one.state[parameter]


def _options(group):
    return {name: value for name, value in group.items() if name != "params"}


def _merged(members):
    """Return one group in the place of many, a sole one as it is."""
    if len(members) == 1:
        return members[0]
    return members[0] | {"params": [p for group in members for p in group["params"]]}
