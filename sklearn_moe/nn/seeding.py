"""Random draws of any torch code taken from an own generator."""

import inspect

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["OwnGenerator"]

_FACTORIES = ("bernoulli", "multinomial", "normal", "rand", "randint", "randn", "randperm")
_IN_PLACE = (
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "uniform_",
)
_INITIALIZERS = tuple(
    function
    for name, function in vars(torch.nn.init).items()
    if name.endswith("_")
    and not name.startswith("_")
    and "generator" in inspect.signature(function).parameters
)
_DRAWS = frozenset(
    [
        *(getattr(torch, name) for name in _FACTORIES),
        *(getattr(torch.Tensor, name) for name in _IN_PLACE),
        *_INITIALIZERS,
    ]
)


class OwnGenerator(TorchFunctionMode):
    """Within this context every draw that names no generator uses `generator`.

    Layers of torch and of users draw their initial weights from the global generator. Here
    they draw from a generator of ours instead: the global one stays untouched and threads that
    fit side by side do not see each other (the context belongs to one thread).

    Parameters
    ----------
    generator : torch.Generator
        Source of the draws. It must live on the device that the drawn tensors live on.

    Examples
    --------
    >>> import torch
    >>> with OwnGenerator(torch.Generator().manual_seed(0)):
    ...     first = torch.nn.Linear(2, 3)
    >>> with OwnGenerator(torch.Generator().manual_seed(0)):
    ...     second = torch.nn.Linear(2, 3)
    >>> torch.equal(first.weight, second.weight)
    True
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, with our generator where it draws and names none."""
        kwargs = dict(kwargs or {})
        if func in _DRAWS and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
