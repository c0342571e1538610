"""Random draws that do not touch the global generator of torch."""

from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

# Private functions of torch are None where a version of it does not have them.
_FACTORIES = "bernoulli multinomial normal rand randint randn randperm _sample_dirichlet".split()
_IN_PLACE = "bernoulli cauchy exponential geometric log_normal normal random uniform".split()
_INITIALIZERS = (
    "kaiming_normal kaiming_uniform normal orthogonal sparse trunc_normal uniform "
    "xavier_normal xavier_uniform"
).split()
_DRAWS = frozenset(
    [
        *(getattr(torch, name, None) for name in _FACTORIES),
        *(getattr(torch.Tensor, f"{name}_") for name in _IN_PLACE),
        *(getattr(nn.init, f"{name}_") for name in _INITIALIZERS),
    ]
)
# Functions without a generator argument: the global one is seeded, and its state restored.
_GLOBAL_ONLY = frozenset(
    [
        *(getattr(F, name) for name in dir(F) if "dropout" in name and name[0] != "_"),
        *(F.rrelu, F.rrelu_, F.gumbel_softmax, F.fractional_max_pool2d, F.fractional_max_pool3d),
        *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
        *(getattr(torch, name) for name in dir(torch) if "dropout" in name and name[0] != "_"),
        *(torch.rrelu, torch.rrelu_, torch.poisson, torch.binomial),
        *(torch.rand_like, torch.randn_like, torch.randint_like),
        getattr(torch, "_standard_gamma", None),
    ]
)
_DRAWING = (
    *(cls for name, cls in vars(nn).items() if "Dropout" in name),
    *(nn.RReLU, nn.MultiheadAttention),
)
_KNOWN = ("torch.", "torchvision.", "sklearn_moe.")
_OWN = ("sklearn_moe.", "torch.optim.", "builtins.")


def is_own(part: Any) -> bool:
    """Return whether a part is of this library, or a plain value such as a name.

    What our own parts make need not be checked.
    """
    if isinstance(part, partial):
        return all(map(is_own, (part.func, *part.args, *part.keywords.values())))
    origin = part if hasattr(part, "__module__") else type(part)
    return f"{origin.__module__}.".startswith(_OWN)


def is_stochastic(module: nn.Module, *, training: bool = True) -> bool:
    """Return whether the forward pass of a module may draw random numbers.

    That is so for dropout, in training only, and assumed for layers and activations of unknown
    origin.
    """
    for part in module.modules():
        origins = [type(part), getattr(part, "activation", type(part))]
        names = [f"{getattr(origin, '__module__', None)}." for origin in origins]
        if not all(name.startswith(_KNOWN) for name in names):
            return True
        if training and isinstance(part, _DRAWING):
            return True
    return False


class use_generator(TorchFunctionMode):
    """Within this context every draw without a generator argument uses one of the given ones.

    Layers of torch and of users draw their initial weights from the global generator. Here
    they draw from the given generator instead: the global one does not change, and fits in
    several threads do not influence each other (the context belongs to one thread). The few
    functions that can only use the global generator, such as dropout, are called with it seeded
    from the given one, and its state is restored; only with these, threads can influence each
    other.

    Parameters
    ----------
    *generators : torch.Generator
        Sources of the draws, one per device; a draw uses that of its own device.

    Examples
    --------
    >>> import torch
    >>> with use_generator(torch.Generator().manual_seed(0)):
    ...     first = torch.nn.Linear(2, 3)
    >>> with use_generator(torch.Generator().manual_seed(0)):
    ...     second = torch.nn.Linear(2, 3)
    >>> torch.equal(first.weight, second.weight)
    True
    """

    def __init__(self, *generators: torch.Generator):
        super().__init__()
        self.generators = {generator.device.type: generator for generator in generators}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, with a generator of ours if it draws and is given none."""
        kwargs = kwargs or {}
        is_draw = func in _DRAWS
        if not (is_draw or func in _GLOBAL_ONLY) or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        device = torch.device(tensors[0].device if tensors else kwargs.get("device") or "cpu")
        if is_draw and device.type in self.generators:
            return func(*args, **{**kwargs, "generator": self.generators[device.type]})
        seed = int(torch.randint(2**62, (), generator=self.generators["cpu"]))
        with _seeded(seed, device):
            return func(*args, **kwargs)


def fixed_draws(module: nn.Module, device: str | torch.device) -> Any:
    """Return a context in which a module that draws at prediction does so in the same way."""
    types = sorted({"cpu", torch.device(device).type})
    return use_generator(*(torch.Generator(name).manual_seed(0) for name in types))


@contextmanager
def _seeded(seed, device):
    """Seed the global generators of the CPU and of a device, then put them back.

    `torch.manual_seed` would seed those of all devices, also those that are not in use yet.
    """
    on_cpu = device.type == "cpu"
    kind = "cuda" if on_cpu else device.type
    with torch.random.fork_rng([] if on_cpu else [device], device_type=kind):
        torch.default_generator.manual_seed(seed)
        if not on_cpu:
            with getattr(torch, kind).device(device):
                getattr(torch, kind).manual_seed(seed)
        yield


def hash_rows(x: Tensor, n_columns: int, generator: Generator) -> Tensor:
    """Draw `n_columns` functions from samples to [0, 1], uniform over samples and draws.

    It is the fractional part of a steep random linear function: samples that differ by 0.001 get
    unrelated values.
    """
    x = x.flatten(1)
    options: dict[str, Any] = {"generator": generator, "dtype": x.dtype, "device": x.device}
    weight = torch.randn(x.shape[1], n_columns, **options)
    phase = torch.rand(n_columns, **options)
    return (1e3 * (x @ weight) + phase).remainder(1)
