"""Solvers by name, and gradient descent that is normalized expert by expert."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import unwrap
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from ._validation import Registry

__all__ = ["SOLVERS", "NormalizedSGD", "SolverSpec"]

# Groups with the same options make one step.
_OPTIONS = ("lr", "norm", "momentum", "weight_decay", "units")


class _Light(Optimizer):
    """An optimizer that does not import the compiler of torch, which takes 1.6 s."""

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class _Adam(_Light, Adam):
    step = torch.no_grad()(unwrap(Adam.step))


class _AdamW(_Light, AdamW):
    step = torch.no_grad()(unwrap(AdamW.step))


class _SGD(_Light, SGD):
    step = torch.no_grad()(unwrap(SGD.step))


class NormalizedSGD(_Light):
    r"""SGD that scales the gradient of every unit to norm 1.

    A parameter group is one unit: the steps of an expert have the same length, however few samples
    are sent to it (Algorithm 1 of the paper: :math:`W_m \leftarrow W_m - \eta G_m / \|G_m\|_F`). A
    unit whose gradient is zero stays exactly as it is.

    Parameters
    ----------
    params : iterable of tensors or of dicts
        As in every torch optimizer. Each dict is a group and may set any option of its own.
    lr : float, default=1e-3
        Length of a step, since the direction has norm 1.
    norm : {"l2", "sum"} or None, default="l2"
        `"l2"` is the Frobenius norm over all tensors of the unit (paper), `"sum"` the sum of
        the tensors' own norms (authors' code), None leaves the gradient as it is: plain SGD.
    momentum : float, default=0.0
    weight_decay : float, default=0.0
        Added to the normalized gradient, times the weights.
    units : int or None, default=None
        A number of units in one group, such as experts with stacked weights: entry m of the first
        axis of each tensor belongs to unit m. None: the group is one unit.

    Notes
    -----
    A group may have a `"lr_multiplier"` (default 1), a number or a tensor, 0-d or with an entry per
    unit. A tensor is never read on the host, so a schedule can set it on the device in every step.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = NormalizedSGD([weight], lr=0.5)
    >>> weight.grad = torch.tensor([30.0, 40.0])
    >>> optimizer.step()
    >>> weight
    Parameter containing: tensor([-0.3000, -0.4000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        norm: str | None = "l2",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        units: int | None = None,
    ):
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}.")
        defaults = {"lr": lr, "norm": norm, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"units": units, "lr_multiplier": 1.0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its `norm` and `units` are checked here, as groups may set their own."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        norm, units = group["norm"], group["units"]
        if norm not in ("l2", "sum", None):
            raise ValueError(f"norm must be 'l2', 'sum' or None, got {norm!r}.")
        shapes = [tuple(parameter.shape) for parameter in group["params"]]
        if units is not None and any(shape[:1] != (units,) for shape in shapes):
            raise ValueError(
                "units must be the length of the first axis of every tensor of the group, got "
                f"units={units!r} and tensors of shapes {shapes}."
            )

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Make one step.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.
        """
        with torch.enable_grad():
            loss = None if closure is None else closure()
        alike: dict[tuple, list] = {}
        for group in self.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                alike.setdefault(itemgetter(*_OPTIONS)(group), []).append(group)
        for groups in alike.values():
            self._step_groups(groups)
        return loss

    def _step_groups(self, groups):
        """Step groups of the same options; operations on lists of tensors save calls in Python."""
        members = [[p for p in group["params"] if p.grad is not None] for group in groups]
        sizes = [len(group) for group in members]
        parameters = list(chain.from_iterable(members))
        updates = [parameter.grad for parameter in parameters]
        options = groups[0]
        if _is_plain(groups):
            torch._foreach_add_(parameters, updates, alpha=-options["lr"])
            return

        # All on the device: a comparison in Python would wait for it.
        norms = _unit_norms(updates, sizes, options)
        multiplier = _multipliers(groups, norms)
        if options["weight_decay"] or options["momentum"]:
            scale = _per_tensor(_over(1, norms, options), sizes, parameters)
            updates = torch._foreach_mul(updates, scale)
            alive = norms.sign()
            if options["weight_decay"]:
                decay = _per_tensor(alive * options["weight_decay"], sizes, parameters)
                torch._foreach_addcmul_(updates, parameters, decay)
            if options["momentum"]:
                buffers = self._momentum_buffers(parameters)
                keep = _per_tensor(1 - alive * (1 - options["momentum"]), sizes, parameters)
                torch._foreach_mul_(buffers, keep)
                torch._foreach_add_(buffers, updates)
                updates = buffers
            steps = alive * multiplier
        else:
            steps = _over(multiplier, norms, options)
        steps = _per_tensor(steps, sizes, parameters)
        torch._foreach_addcmul_(parameters, updates, steps, -options["lr"])

    def _momentum_buffers(self, parameters):
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]


def _is_plain(groups):
    """Return whether groups of the same options are stepped by their gradient as it is."""
    options = groups[0]
    plain = options["norm"] is None and not options["weight_decay"] and not options["momentum"]
    return plain and not any(
        isinstance(group["lr_multiplier"], torch.Tensor) or group["lr_multiplier"] != 1
        for group in groups
    )


def _unit_norms(gradients, sizes, options):
    """Return the norm of each unit, (n_groups,) or (n_groups, units).

    The gradients of a group are `sizes` consecutive tensors.
    """
    if options["units"] is None:
        norms = _stack(torch._foreach_norm(gradients))
    else:
        norms = _stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    if len(sizes) == len(gradients):
        return norms
    groups = norms.split(sizes)
    if options["norm"] == "sum":
        return _stack([group.sum(0) for group in groups])
    return _stack([torch.linalg.vector_norm(group, dim=0) for group in groups])


def _over(values, norms, options):
    """Return values / norms, or the values where there is no norm; 0 for a gradient of 0."""
    return values * norms.sign() if options["norm"] is None else (values / norms).nan_to_num(0, 0)


def _multipliers(groups, norms):
    """Return the learning-rate multiplier of each unit, in a shape that fits the norms."""
    values = [group["lr_multiplier"] for group in groups]
    if not any(isinstance(value, torch.Tensor) for value in values) and len(set(values)) == 1:
        return values[0]
    like = norms[0]
    # Numbers are written where the norms are: a copy from the host would be waited for.
    return _stack(
        [
            value.to(like).expand_as(like)
            if isinstance(value, torch.Tensor)
            else torch.full_like(like, value)
            for value in values
        ]
    )


def _stack(tensors):
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _per_tensor(values, sizes, parameters):
    """Return for each tensor the value of its unit, or those of its units along the first axis."""
    each = [value for value, size in zip(values.unbind(), sizes, strict=True) for _ in range(size)]
    if values.ndim == 1:
        return each
    return [v.view(-1, *[1] * (p.ndim - 1)) for v, p in zip(each, parameters, strict=True)]


# -- by name ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SolverSpec:
    """An optimizer and what goes with it.

    Parameters
    ----------
    optimizer : callable
        `optimizer(parameters, lr=...)` returns a `torch.optim.Optimizer`. It is given `momentum`
        and `weight_decay` of the estimator if it has arguments of these names.
    learning_rate, router_learning_rate : float, default=0.001, 0.0003
        What "auto" becomes. Routers are slower, so that the experts learn first.
    scale_by_input_norm : bool, default=False
        Whether these are rates for X of norm 1: divided by r and by r^2, with r the root mean
        square norm of the training patches.
    batch_size : int or None, default=None
        What "auto" becomes for classes and labels. None: a quarter of the samples, but 32 at least
        and 200 at most.
    schedule : {"constant", "cosine", "residual"}, default="constant"
        What `solver__schedule="auto"` becomes.
    per_expert : bool, default=False
        Whether every expert is a parameter group of its own, with a "lr_multiplier"
        (`solver__schedule="residual"`).
    units : bool, default=False
        Whether the optimizer supports groups of several units, as `NormalizedSGD` does. Homogeneous
        experts are then one group with stacked weights.
    router_options : dict, default={}
        Options of the router's parameter group.
    """

    optimizer: Callable[..., Optimizer]
    learning_rate: float = 1e-3
    router_learning_rate: float = 3e-4
    scale_by_input_norm: bool = False
    batch_size: int | None = None
    schedule: str = "constant"
    per_expert: bool = False
    units: bool = False
    router_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, solver: "SolverSpec | Callable[..., Optimizer]") -> "SolverSpec":
        """Return a spec as it is, and one with usual rates for an optimizer."""
        return solver if isinstance(solver, SolverSpec) else cls(solver)

    def with_options(self, **options: Any) -> "SolverSpec":
        """Return the same solver with some arguments of its optimizer fixed.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.optim import SOLVERS
        >>> clf = MoEClassifier(solver=SOLVERS["normalized_sgd"].with_options(norm="sum"))
        """
        return replace(self, optimizer=partial(self.optimizer, **options))

    def build(self, parameters: Iterable, **options: Any) -> Optimizer:
        """Return a new optimizer.

        Raises
        ------
        TypeError
            If the callable takes other arguments or returns anything else.
        """
        optimizer = SOLVERS.make(self.optimizer, Optimizer, parameters, **options)
        optimizer.register_load_state_dict_post_hook(_lay_out_state)
        return optimizer


def _lay_out_state(optimizer: Optimizer) -> None:
    """Give a loaded state the memory layout of the parameters, as fused steps require."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


SOLVERS = Registry(
    "solver",
    "a callable (parameters, lr) -> torch.optim.Optimizer",
    {
        "normalized_sgd": SolverSpec(
            NormalizedSGD,
            learning_rate=0.06,
            router_learning_rate=1.0,
            scale_by_input_norm=True,
            # Normalized steps have the same length for noisy gradients: batches are large.
            batch_size=1024,
            schedule="residual",
            per_expert=True,
            units=True,
            router_options={"norm": None},
        ),
        "sgd": SolverSpec(_SGD, learning_rate=1e-2, router_learning_rate=1e-2),
        "adam": SolverSpec(partial(_Adam, fused=True)),
        "adamw": SolverSpec(
            partial(_AdamW, fused=True),
            learning_rate=0.005,
            router_learning_rate=0.0015,
            batch_size=200,
            schedule="cosine",
        ),
    },
)
