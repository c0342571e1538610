"""Random draws of any torch code taken from an own generator."""

import inspect
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["OwnGenerator", "may_draw"]

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


def _existing(module, *names):
    """Return private functions of torch where this version of it has them."""
    return [getattr(module, name) for name in names if hasattr(module, name)]


_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
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
        *_existing(torch, "_sample_dirichlet"),
        *_INITIALIZERS,
    ]
)
# Functions without a generator argument: the global one is seeded from ours and then restored.
_GLOBAL_ONLY = frozenset(
    [
        *(getattr(F, name) for name in dir(F) if "dropout" in name and name[0] != "_"),
        *(F.rrelu, F.rrelu_, F.gumbel_softmax, F.fractional_max_pool2d, F.fractional_max_pool3d),
        *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
        *(getattr(torch, name) for name in dir(torch) if "dropout" in name and name[0] != "_"),
        *(torch.rrelu, torch.rrelu_, torch.poisson, torch.binomial),
        *_existing(torch, "_standard_gamma"),
        torch.randint_like,
    ]
)
_DRAWING = (
    *(cls for name, cls in vars(nn).items() if "Dropout" in name),
    *(nn.RReLU, nn.MultiheadAttention),
)
_KNOWN = ("torch.", "torchvision.", "sklearn_moe.")


def may_draw(module: nn.Module, *, training: bool = True) -> bool:
    """Return whether a module may draw at random in its forward pass: dropout, or not known.

    Layers of torch draw in training only.
    """
    return any(
        (training and isinstance(part, _DRAWING)) or not type(part).__module__.startswith(_KNOWN)
        for part in module.modules()
    )


class OwnGenerator(TorchFunctionMode):
    """Within this context every draw that names no generator uses one of ours.

    Layers of torch and of users draw their initial weights from the global generator. Here
    they draw from a generator of ours instead: the global one stays untouched and threads that
    fit side by side do not see each other (the context belongs to one thread). The few functions
    that know the global generator only, such as dropout, find it seeded by ours and leave it as
    it was; of these alone threads can disturb each other.

    Parameters
    ----------
    *generators : torch.Generator
        Sources of the draws, one per device; a draw takes the one of its own device.

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

    def __init__(self, *generators: torch.Generator):
        super().__init__()
        self.generators = {generator.device.type: generator for generator in generators}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, with our generator where it draws and names none."""
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if func in _LIKE:  # they take no generator
            like = torch.empty_like(*args, **kwargs)
            options = {"dtype": like.dtype, "device": like.device}
            return _LIKE[func](like.shape, generator=self._of(like.device), **options)
        if func in _DRAWS:
            tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
            device = tensors[0].device if tensors else kwargs.get("device") or "cpu"
            kwargs["generator"] = self._of(torch.device(device))
        if func in _GLOBAL_ONLY:
            seed = int(torch.randint(2**62, (), generator=self._of(torch.device("cpu"))))
            devices = {arg.device for arg in args if isinstance(arg, torch.Tensor)}
            with _seeded(seed, devices):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _of(self, device: torch.device) -> torch.Generator:
        """Return the generator for a device."""
        if device.type not in self.generators:
            raise ValueError(
                f"A draw on {device.type}, but there are generators for "
                f"{sorted(self.generators)} only."
            )
        return self.generators[device.type]


@contextmanager
def _seeded(seed, devices):
    """Seed the global generators of the CPU and of some devices, then put them back.

    `torch.manual_seed` would seed those of all devices, also of some that are not in use yet.
    """
    with ExitStack() as stack:
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        torch.default_generator.manual_seed(seed)
        for device in devices:
            if device.type != "cpu":
                module = getattr(torch, device.type)
                stack.callback(module.set_rng_state, module.get_rng_state(device), device)
                with module.device(device):
                    module.manual_seed(seed)
        yield
