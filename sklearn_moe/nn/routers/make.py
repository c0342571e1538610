"""Put a router together, or say why its parts do not go together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..._registry import is_auto
from ..running import RunningMean
from ..trial import try_out
from .base import Router
from .gates import GATES, standard_gate
from .noise import NOISES, Noise, make_noise
from .presets import Preset, preset_of
from .scores import NETWORKS, CentroidScores, NormalizedScores, make_scores

if TYPE_CHECKING:
    from ..balance import Balance

__all__ = ["make_router"]

_MEMORY = 100  # steps over which an expert's default answer is averaged
_TIE_BREAK = 0.1


def make_router(
    router: str | type[Router] | Preset,
    input_shape: tuple[int, ...],
    n_experts: int,
    n_outputs: int,
    *,
    network: str | Callable = "auto",
    top_k: int | Literal["auto"] = "auto",
    gate: str | Callable = "auto",
    noise: str | Callable | None = "auto",
    per_row: bool = False,
    balance: "Balance | None" = None,
    init_std: float = 1.0,
    mix: Callable[[Tensor, Tensor], Tensor] | None = None,
    normalize: bool = False,
) -> Router:
    """Return a router for samples of shape `input_shape`.

    Parameters
    ----------
    router : str, subclass of Router or Preset
        A name in `ROUTERS`, or a rule of your own.
    network, gate, noise : str, callable or None
        Names in `NETWORKS`, `GATES`, `NOISES`, or callables like those. "auto" is what the router
        is made for, None none.
    balance : Balance or None
    per_row : bool, default=False
        Whether noise is a function of the sample, see `Noise`.
    init_std : float, default=1.0
        Deviation of initial weights that makes scores of about 1, for routers that cannot start
        at zero. Where noise is merely switched off, a tenth of it tells the experts apart.
    mix : callable or None
        `Head.mix`, for rules that mix distributions.
    normalize : bool, default=False
        Whether scores are those of normalized samples, see `NormalizedScores`.

    Raises
    ------
    ValueError
        If a name is unknown or the parts do not go together; the message says why.
    TypeError
        If a callable is none of its kind, or returns something else than asked for.
    """
    preset = preset_of(router)
    rule = preset.rule
    top_k = preset.top_k if is_auto(top_k) else top_k
    with _refusals_name(router):
        noise = make_noise(preset.noise if is_auto(noise) else noise, per_row)
        gate = standard_gate(preset.gates[0] if is_auto(gate) else gate)
        if preset.one_expert and top_k != 1:
            raise ValueError(f"one expert answers, got top_k={top_k}. Use router='topk'")
        _check_network(preset, network)
        _check_gate(rule, gate)
        _check_noise(rule, noise)
        rule.check(input_shape, n_experts, top_k, gate)
        _check_gradient(preset, gate)
        if normalize and preset.network is CentroidScores:
            raise ValueError(
                "its centers are those of samples, not of features that change. Use trunk=None"
            )
    _try_functions(rule, gate, noise, input_shape, n_experts, top_k)
    silent = rule.noisy and noise is None
    std = init_std if preset.random_start else _TIE_BREAK * init_std if silent else 0.0
    network = "linear" if is_auto(network) else network
    network = network if preset.network is None else preset.network
    scores = make_scores(network, input_shape, n_experts, init_std=std)
    if normalize:
        scores = NormalizedScores(scores)
    if balance is not None:
        with _refusals_name(router):
            is_trained = any(parameter.requires_grad for parameter in scores.parameters())
            some_are_left = top_k < n_experts or n_experts == 1
            _check_balance(balance.needs, rule, is_trained, noise, some_are_left)
    parts: dict[str, Any] = {
        "top_k": top_k,
        "gate": gate,
        "noise": noise,
        "mix": mix,
        "balance": balance,
    }
    if preset.dense_gradient:
        parts["defaults"] = RunningMean(torch.zeros(n_experts, n_outputs), _MEMORY, per_row=True)
    return rule.build(scores, input_shape, n_experts, **parts)


@contextmanager
def _refusals_name(router: Any) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"router={router!r}: {reason}.") from None


def _check_network(preset: Preset, network: str | Callable) -> None:
    if is_auto(network):
        return
    NETWORKS.resolve(network)
    if preset.network is not None:
        raise ValueError(
            f"its scores are fixed, got router_network={network!r}. Use router_network='auto'"
        )


def _check_gate(rule: type[Router], gate: str | Callable) -> None:
    if isinstance(gate, str) and gate not in rule.gates:
        raise ValueError(f"gate={gate!r} is none of its gates, which are {list(rule.gates)}")


def _check_noise(rule: type[Router], noise: Callable | None) -> None:
    if noise is None and rule.learns_noise:
        raise ValueError("it learns the scale of noise. Without noise, use router='topk'")
    if noise is not None and not rule.noisy:
        raise ValueError("it makes no choice that noise could change. Use router_noise='auto'")


def _try_functions(
    rule: type[Router],
    gate: str | Callable,
    noise: Callable | None,
    input_shape: tuple[int, ...],
    n_experts: int,
    top_k: int,
) -> None:
    """Try those that are the user's on a sample of zeros."""
    scores = torch.zeros(1, n_experts)
    if callable(gate):
        chosen = torch.arange(min(top_k, n_experts)).unsqueeze(0) if rule.noisy else None
        shape = scores.shape if chosen is None else chosen.shape
        try_out(GATES.must(gate), gate, scores, scores, chosen, shape=shape)
    if noise is not None and not isinstance(noise, Noise):
        x, generator = torch.zeros(1, *input_shape), torch.Generator()
        try_out(NOISES.must(noise), noise, x, scores, generator, shape=scores.shape)


def _check_gradient(preset: Preset, gate: str | Callable) -> None:
    if preset.dense_gradient and not (preset.rule.sparse and gate in ("softmax", "sigmoid")):
        raise ValueError(
            "dense_gradient=True is for routers that choose experts, with gate='softmax' or "
            f"'sigmoid', got gate={gate!r}. Use dense_gradient=False"
        )


def _check_balance(
    needs: str, rule: type[Router], is_trained: bool, noise: Callable | None, some_are_left: bool
) -> None:
    if needs != "choice" and not is_trained:
        raise ValueError(
            "its scores are not trained and no loss can balance them. Use balance='bias' or None"
        )
    if needs != "gradient" and not rule.sparse:
        raise ValueError("balance='bias' and 'load' are for routers that choose experts")
    if needs == "noise" and getattr(type(noise), "survival", None) in (None, Noise.survival):
        raise ValueError(
            "balance='load' needs router_noise of a known distribution: "
            f"{sorted(NOISES)}, or a Noise with a method 'survival'"
        )
    if needs == "noise" and not some_are_left:
        raise ValueError("balance='load' needs top_k < n_experts: all are always chosen")
