"""Training steps as CUDA graphs: all operations of a step are launched at once.

A step of small experts is some sixty kernels of a few microseconds, and most of its time goes by
between them. Off until it was measured on a card: `MoENet.capture` is None.
"""

from collections import Counter

import torch

from ..nn.dispatch import answer_at_once
from ..optim import NormalizedSGD

__all__ = ["GraphedSteps", "cuda_capture"]

_WARM_UP = 3  # steps before a capture, as torch asks for; the first one makes the optimizer's state


class GraphedSteps:
    """Make the training steps of a net: some as they are, then those of the same shape by a graph.

    A graph computes in memory of its own: a batch is copied into it, its results are copied out.

    Parameters
    ----------
    net : MoENet
    capture : callable
        `capture(function, generator)` returns what the function, which is recorded and not run,
        will return, and another function that runs it. Draws come from the generator.
    """

    def __init__(self, net, capture):
        self.net = net
        self.capture = capture
        self.n_steps = Counter()
        self.graphs = {}

    def __call__(self, batch):
        """Make a step and return what `MoENet.step` does."""
        if not self._fits(batch):
            return self.net.step(batch)
        # A frozen router takes other operations.
        key = len(batch.y), *(parameter.requires_grad for parameter in self.net.trained_)
        self.n_steps[key] += 1
        if self.n_steps[key] <= _WARM_UP:
            return self.net.step(batch)
        if key not in self.graphs:
            own = type(batch)(*(None if column is None else column.clone() for column in batch))
            results, run = self.capture(lambda: self.net.step(own), self.net.generator_)
            self.graphs[key] = own, results, run
        own, results, run = self.graphs[key]
        for mine, given in zip(own, batch, strict=True):
            if mine is not None:
                mine.copy_(given)
        run()
        return {name: value.clone() for name, value in results.items()}

    def _fits(self, batch):
        """Return whether a step needs nothing from the host but a batch."""
        net = self.net
        of_host = (net.train_transform, net.schedule_, net.draws_inside_, net.has_batch_listeners_)
        return (
            not any(of_host)
            and isinstance(net.optimizer_, NormalizedSGD)
            and not net.module_.united
            and answer_at_once(net.module_.experts, batch.x)
        )


def cuda_capture(function, generator):
    """Record a function as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay
