"""Gates: from scores to the weights of the experts' answers.

A gate takes the scores without noise, the scores as they were compared (with noise) and the
chosen experts, (n_samples, k), and returns their weights, (n_samples, k). Chosen None stands for
all experts.
"""

from collections.abc import Callable

from torch import Tensor

from ..._registry import Registry
from ..softmax import softmax

__all__ = ["GATES", "standard_gate"]


def _take(values: Tensor, chosen: Tensor | None) -> Tensor:
    return values if chosen is None else values.gather(1, chosen)


def softmax_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return softmax(h)_m over all experts, chosen or not (paper, section 3.2)."""
    return _take(softmax(scores), chosen)


def renormalized_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the softmax over the chosen experts only, so that the weights add up to 1.

    Of a single chosen expert that is 1 whatever its score: the router would learn nothing.
    """
    return softmax(_take(scores, chosen))


def relative_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return M softmax(h)_m, 1 where the router makes no difference between M experts.

    A router that knows nothing yet leaves the answer of a sole chosen expert as it is.
    """
    return softmax_gate(scores, noisy, chosen) * scores.shape[1]


def sigmoid_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return sigmoid(h_m), without competition between experts (arXiv 2405.13997)."""
    return _take(scores.sigmoid(), chosen)


def relu_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return max(h_m, 0) (ReMoE, arXiv 2412.14711)."""
    return _take(scores.relu(), chosen)


def logit_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the raw score with its noise, h_m + r_m: the gate of the authors' notebooks.

    It can be negative, and then turns the expert's vote around.
    """
    return _take(noisy, chosen)


GATES = Registry(
    "gate",
    "a callable (scores, noisy, chosen) -> weights",
    {
        "softmax": softmax_gate,
        "renormalized": renormalized_gate,
        "relative": relative_gate,
        "sigmoid": sigmoid_gate,
        "relu": relu_gate,
        "logit": logit_gate,
    },
)

_STANDARD = tuple(GATES)


def standard_gate(gate: str | Callable) -> str | Callable:
    """Return the name of a gate of the library, or the function that is somebody's own gate.

    A rule may refuse gates of the library by their names; other functions are always taken.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    function = GATES.resolve(gate)
    return next((name for name in _STANDARD if GATES[name] is function), function)
