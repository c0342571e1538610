"""Heads: what the outputs of the experts mean for classes, labels or numbers; losses by name.

The task of a mixture is defined here only. A loss of your own is a subclass of `Head`, passed as it
is or registered in `LOSSES`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss, logsigmoid, softplus

from .._validation import Registry, require_override
from .functional import log_softmax, softmax
from .seeding import is_own

# Of a density, in standard deviations of y: without it a density is unbounded.
_LEAST_SCALE = 1e-3
# Of a rate in units of the mean of y, before its growth is linear.
_LARGEST_LOG = math.log(1000)


class Head(nn.Module):
    """From the outputs of a mixture to a loss and a prediction.

    Subclasses define what an output means. They get `n_targets` and may use several outputs per
    target, or one less.

    Parameters
    ----------
    n_targets : int
        Classes, labels or numbers to be predicted of a sample.

    Attributes
    ----------
    kind : {"classes", "multilabel", "regression"}
        What is predicted: one of several classes, y (n_samples,) of their indices; several labels,
        y (n_samples, n_targets) of zeros and ones; or numbers, y (n_samples, n_targets) of mean 0
        and variance 1, of a `RegressionHead` with `is_rate` of mean 1.
    n_outputs : int
        Outputs of an expert.
    chance_level_error : float
        The `error` of a prediction that does not depend on the sample.
    score_name : str
        Short name of `score`, as in `valid_acc` of the history.
    has_logits : bool
        Whether outputs are logits: a factor makes the probabilities sharper or softer.
    """

    kind: ClassVar[str]
    chance_level_error: float = 1.0
    score_name: ClassVar[str] = "score"
    has_logits: ClassVar[bool] = False

    def __init__(self, n_targets: int):
        super().__init__()
        self.n_targets = n_targets
        self.n_outputs = n_targets

    @property
    def has_plain_outputs(self) -> bool:
        """Whether models that are no networks know the outputs: logits, log rates or numbers."""
        is_margin = self.kind == "classes" and (self.n_targets, self.n_outputs) == (2, 1)
        has_scale = getattr(self, "has_scale", False) and self.n_outputs == 2 * self.n_targets
        return is_margin or has_scale or self.n_outputs == self.n_targets

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss, as criteria of torch do."""
        return self.loss(output, y).mean()

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each sample, (n_samples,), given outputs (n_samples, n_outputs)."""
        raise NotImplementedError

    def losses(self, expert_outputs: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each expert's own output, (n_samples, n_experts).

        `expert_outputs` are (n_samples, n_experts, n_outputs).
        """
        n_experts = expert_outputs.shape[1]
        loss = self.loss(expert_outputs.flatten(0, 1), y.repeat_interleave(n_experts, 0))
        return loss.unflatten(0, (-1, n_experts))

    def mixing_parts(
        self, expert_outputs: Tensor, y: Tensor
    ) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Return what experts contribute to a mixture, and the losses of such mixtures.

        The loss of a mixture with gates g depends on them by sum_m g_m v_m alone. The default is
        that of a mixture of distributions: v_m is the likelihood of y by expert m.

        Parameters
        ----------
        expert_outputs : (n_samples, n_experts, n_outputs)
        y : (n_samples, ...)

        Returns
        -------
        values : (n_samples, n_experts, n_values)
        losses : callable
            From sums, (n, n_values), and the places of n samples to the losses, (n,).
        """
        losses = self.losses(expert_outputs, y)
        least = losses.amin(1)
        values = (least.unsqueeze(1) - losses).exp().unsqueeze(2)
        tiny = torch.finfo(values.dtype).tiny
        return values, lambda mixed, rows: least[rows] - mixed[:, 0].clamp(min=tiny).log()

    def predict(self, output: Tensor) -> Tensor:
        """Return probabilities or numbers, (n_samples, n_targets)."""
        raise NotImplementedError

    def decision(self, output: Tensor) -> Tensor:
        """Return scores of classes or labels, (n_samples, n_targets), the highest is predicted.

        Their softmax is `predict` for classes, their logistic function for labels.
        """
        proba = self.predict(output)
        return proba.logit() if self.kind == "multilabel" else proba.log()

    def error(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the error of each sample, between 0 and 1, (n_samples,).

        With `solver__schedule="residual"` it determines the learning-rate multiplier.
        """
        raise NotImplementedError

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        """Return what early stopping maximizes the mean of, (n_samples,)."""
        raise NotImplementedError

    @staticmethod
    def mix(log_gate: Tensor, expert_outputs: Tensor) -> Tensor:
        """Return the output of the mixture of the experts' distributions, for `router="soft"`.

        Parameters
        ----------
        log_gate : (n_samples, n_experts)
        expert_outputs : (n_samples, n_experts, n_outputs)

        Returns
        -------
        (n_samples, ...)
            An output that `loss`, `predict`, `error` and `score` accept.
        """
        raise NotImplementedError


# -- one of several classes ---------------------------------------------------------------


class _ClassHead(Head):
    """Base of heads for classes: error and score are those of their probabilities."""

    kind = "classes"
    score_name = "acc"

    def __init__(self, n_targets: int):
        super().__init__(n_targets)
        self.chance_level_error = 1 - 1 / n_targets

    def error(self, output, y):
        """Return the probability that is given to the other classes."""
        return 1 - self.predict(output).gather(1, y.unsqueeze(1)).squeeze(1)

    def score(self, output, y):
        """Return 1 for the right class, 0 for another: the mean is the accuracy."""
        return (self.predict(output).argmax(1) == y).to(output.dtype)


class SoftmaxHead(_ClassHead):
    """One logit per class, softmax, cross-entropy."""

    has_logits = True

    def loss(self, output, y):
        """Return the cross-entropy."""
        return -log_softmax(output).gather(1, y.unsqueeze(1)).squeeze(1)

    def losses(self, expert_outputs, y):
        """Return the cross-entropies."""
        # Samples last, as in mix.
        log_proba = expert_outputs.permute(1, 2, 0).log_softmax(1)
        return -log_proba.gather(1, y.expand(len(log_proba), 1, -1)).squeeze(1).T

    def predict(self, output):
        """Return the softmax."""
        return softmax(output)

    def decision(self, output):
        """Return the logits."""
        return output

    @staticmethod
    def mix(log_gate, expert_outputs):
        """Return log sum_m exp(log gate_m + log p_m), whose softmax is the mixture."""
        # Samples last, (n_experts, n_outputs, n_samples): torch is slow along a short last axis.
        log_proba = expert_outputs.permute(1, 2, 0).log_softmax(1)
        return (log_gate.T.unsqueeze(1) + log_proba).logsumexp(0).T


class DoubleSoftmaxHead(SoftmaxHead):
    """Cross-entropy of the softmax taken twice, as in the authors' code.

    The loss cannot fall below log(1 + (n_classes - 1) / e): .313 for two classes.
    """

    has_logits = False
    losses = Head.losses

    def loss(self, output, y):
        """Return the cross-entropy with the probabilities in place of logits."""
        return super().loss(softmax(output), y)


def _mix_binary(log_gate: Tensor, expert_outputs: Tensor) -> Tensor:
    """Return the scores, (n_samples, n_outputs), whose sigmoids are the mixed sigmoids."""
    log_gate = log_gate.unsqueeze(2)
    positive, negative = (
        (log_gate + logsigmoid(sign * expert_outputs)).logsumexp(1) for sign in (1, -1)
    )
    return positive - negative


class MarginHead(_ClassHead):
    """One score F(x) for two classes and the logistic loss log(1 + exp(-y F)) (section 3.2)."""

    has_logits = True

    def __init__(self, n_targets: int):
        if n_targets != 2:
            raise ValueError(
                f"loss='margin' separates two classes by one score, y has {n_targets}. "
                "Use loss='log_loss'."
            )
        super().__init__(n_targets)
        self.n_outputs = 1

    def loss(self, output, y):
        """Return log(1 + exp(-F)) for the second class, log(1 + exp(F)) for the first."""
        return softplus(output[:, 0] * (1 - 2 * y))

    def predict(self, output):
        """Return sigmoid(-F), sigmoid(F)."""
        return torch.cat([-output, output], 1).sigmoid()

    def decision(self, output):
        """Return -F / 2 and F / 2."""
        return torch.cat([-output, output], 1) / 2

    mix = staticmethod(_mix_binary)


# -- several labels, each of which a sample has or has not --------------------------------


class SigmoidHead(Head):
    """One score per label, the logistic function of each, and the mean of their logistic losses."""

    kind = "multilabel"
    has_logits = True
    chance_level_error = 0.5
    score_name = "acc"

    def loss(self, output, y):
        """Return the mean logistic loss of the labels."""
        return softplus(output * (1 - 2 * y)).mean(1)

    def predict(self, output):
        """Return the probability of each label."""
        return output.sigmoid()

    def decision(self, output):
        """Return the scores."""
        return output

    def error(self, output, y):
        """Return the mean probability that is given to the wrong values."""
        return (y - output.sigmoid()).abs().mean(1)

    def score(self, output, y):
        """Return the share of right labels."""
        return ((output > 0) == (y > 0.5)).to(output.dtype).mean(1)

    mix = staticmethod(_mix_binary)

    def mixing_parts(self, expert_outputs, y):
        """Return the likelihoods of the labels, each of which is mixed by itself."""
        values = (expert_outputs * (2 * y - 1).unsqueeze(1)).sigmoid()
        tiny = torch.finfo(values.dtype).tiny
        return values, lambda mixed, rows: -mixed.clamp(min=tiny).log().mean(1)


# -- numbers: regression ------------------------------------------------------------------


class RegressionHead(Head):
    """Base of heads for numbers; a subclass defines `density_loss`, and `point` if needed.

    The output of the mixture of all experts is a density, which has a part for each expert. `mix`
    therefore returns the log gate beside the expert outputs, (n_samples, n_experts, 1 + n_outputs),
    and the methods accept either form.
    """

    kind = "regression"
    score_name = "r2"
    # Of `scipy.stats`: the density around a point, "nbinom" for counts around a rate, of which the
    # rest is found by `MoERegressor`. None: the loss belongs to no density.
    family: ClassVar[str | None] = None
    # Whether the outputs tell the scale of the density.
    has_scale: ClassVar[bool] = False
    # Whether y is divided by its mean, which is not taken off.
    is_rate: ClassVar[bool] = False

    def point(self, expert_outputs: Tensor) -> Tensor:
        """Return the predicted numbers, given outputs of experts, (..., n_targets)."""
        return expert_outputs

    def spread(self, expert_outputs: Tensor) -> Tensor:
        """Return the scales around the points, (..., n_targets), 1 unless `has_scale`."""
        return torch.ones_like(self.point(expert_outputs))

    def density_loss(self, expert_outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log density of y, up to a constant, summed over the targets."""
        require_override(self, RegressionHead, "density_loss", "its loss")
        raise NotImplementedError

    def parts(self, output: Tensor) -> Tensor:
        """Return log weights, points and scales, (n_samples, n_parts, 1 + 2 n_targets)."""
        if output.ndim == 2:
            output = torch.cat([torch.zeros_like(output[:, :1]), output], 1).unsqueeze(1)
        log_gate, output = output[..., :1], output[..., 1:]
        return torch.cat([log_gate, self.point(output), self.spread(output)], 2).double()

    def predict(self, output: Tensor) -> Tensor:
        """Return the numbers; for a mixture their mean."""
        if output.ndim == 2:
            return self.point(output)
        return (output[..., :1].exp() * self.point(output[..., 1:])).sum(1)

    def error(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean absolute error in standard deviations of y, 1 at most."""
        return (y - self.predict(output)).abs().clamp(max=1).mean(1)

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        """Return 1 minus the squared error in variances of y: their mean is about R2."""
        return 1 - (y - self.predict(output)).square().mean(1)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the negative log density, of an expert or of the mixture, per target."""
        if output.ndim == 2:
            return self._scaled_loss(output, y) / self.n_targets
        log_gate, expert_outputs = output[..., 0], output[..., 1:]
        log_density = log_gate - self._scaled_loss(expert_outputs, y.unsqueeze(1))
        return -log_density.logsumexp(1) / self.n_targets

    def losses(self, expert_outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log densities, per target."""
        return self._scaled_loss(expert_outputs, y.unsqueeze(1)) / self.n_targets

    def mixing_parts(
        self, expert_outputs: Tensor, y: Tensor
    ) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Return the predicted numbers, whose weighted mean is the mixture's prediction."""
        if self.has_scale:
            return super().mixing_parts(expert_outputs, y)
        y = y.double()
        return expert_outputs, lambda mixed, rows: self.density_loss(mixed, y[rows]) / y.shape[1]

    def _scaled_loss(self, expert_outputs, y):
        # For each target, if it is learned.
        log_scale = self._parameters.get("log_scale")
        if log_scale is None:
            return self.density_loss(expert_outputs, y)
        unit = log_scale.exp() + _LEAST_SCALE
        return self.density_loss(expert_outputs / unit, y / unit) + unit.log().sum()

    @staticmethod
    def mix(log_gate: Tensor, expert_outputs: Tensor) -> Tensor:
        """Return log gate and expert outputs side by side."""
        return torch.cat([log_gate.unsqueeze(2), expert_outputs], 2)


# The next three are penalties on y - f(x), in standard deviations of y. In a mixture, the density
# of expert m is exp(-penalty(y - f_m)): as wide as y itself, so that experts of about equal error
# learn from the same samples, and few samples form no regions.


class SquaredErrorHead(RegressionHead):
    """Half the squared error, the log density of a Gaussian."""

    family = "norm"

    def density_loss(self, expert_outputs, y):
        """Return the sum of z^2 / 2 over the errors z."""
        return ((y - expert_outputs).square() / 2).sum(-1)


class AbsoluteErrorHead(RegressionHead):
    """The absolute error, whose best prediction is the median."""

    family = "laplace"

    def density_loss(self, expert_outputs, y):
        """Return the sum of |z| over the errors z."""
        return (y - expert_outputs).abs().sum(-1)


class HuberHead(RegressionHead):
    """Half the squared error up to one standard deviation of y, linear beyond."""

    # Its log density is quadratic, then linear, too.
    family = "logistic"

    def density_loss(self, expert_outputs, y):
        """Return the sum of Huber's penalties with delta 1 over the errors."""
        z = y - expert_outputs
        return huber_loss(z, torch.zeros_like(z), reduction="none").sum(-1)


class GaussianHead(RegressionHead):
    """A mean and a standard deviation per target, and the negative log density of a Gaussian.

    An expert has two outputs per target: the means, then the standard deviations before `softplus`.
    """

    family, has_scale = "norm", True

    def __init__(self, n_targets: int):
        super().__init__(n_targets)
        self.n_outputs = 2 * n_targets

    def point(self, expert_outputs):
        """Return the means."""
        return expert_outputs[..., : self.n_targets]

    def spread(self, expert_outputs):
        """Return the standard deviations."""
        return softplus(expert_outputs[..., self.n_targets :]) + _LEAST_SCALE

    def density_loss(self, expert_outputs, y):
        """Return the negative log density of a Gaussian."""
        std = self.spread(expert_outputs)
        z = (y - self.point(expert_outputs)) / std
        return (z.square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)

    def std(self, output: Tensor) -> Tensor:
        """Return the standard deviation of the prediction, (n_samples, n_targets).

        For a mixture it includes the differences between the experts.
        """
        if output.ndim == 2:
            return self.spread(output)
        gate, expert_outputs = output[..., :1].exp(), output[..., 1:]
        mean = self.point(expert_outputs)
        spread = mean - (gate * mean).sum(1, keepdim=True)
        return (gate * (self.spread(expert_outputs).square() + spread.square())).sum(1).sqrt()


class PoissonHead(RegressionHead):
    """The logarithm of a rate per target, and half the deviance of Poisson's distribution.

    y is 0 or more, in units of its mean. Beyond a thousand times this mean a rate grows with the
    output as a line does: an exponential function has no bounds where there were no samples.
    """

    family, is_rate, score_name = "nbinom", True, "score"

    def point(self, expert_outputs):
        """Return the rates."""
        return expert_outputs.clamp(max=_LARGEST_LOG).exp() * self._beyond(expert_outputs)

    def _beyond(self, expert_outputs):
        return 1 + (expert_outputs - _LARGEST_LOG).relu()

    @staticmethod
    def _of_rates(rate, y, log_rate=None):
        if log_rate is None:
            # Of a rate of 0, which is mixed of such, it is finite.
            log_rate = rate.clamp(min=torch.finfo(rate.dtype).tiny).log()
        return rate - y - y * log_rate + torch.xlogy(y, y)

    def density_loss(self, expert_outputs, y):
        """Return the sum of half the deviances, rate - y + y log(y / rate)."""
        log_rate = expert_outputs.clamp(max=_LARGEST_LOG) + self._beyond(expert_outputs).log()
        return self._of_rates(self.point(expert_outputs), y, log_rate).sum(-1)

    def mixing_parts(self, expert_outputs, y):
        """Return the rates, whose weighted mean is the mixture's prediction."""
        y, rates = y.double(), self.point(expert_outputs)

        def losses(mixed, rows):
            return self._of_rates(mixed, y[rows]).mean(1)

        return rates, losses

    def score(self, output, y):
        """Return minus half the deviance of the prediction."""
        return -self._of_rates(self.predict(output), y).mean(1)


# -- by name ------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossSpec:
    """The heads of one loss, by `Head.kind`: callables n_targets -> Head, None where undefined.

    Parameters
    ----------
    classes, multilabel, regression : callable or None, default=None
    """

    classes: Callable[[int], Head] | None = None
    multilabel: Callable[[int], Head] | None = None
    regression: Callable[[int], Head] | None = None


LOSSES = Registry(
    "loss",
    "a subclass of sklearn_moe.nn.Head",
    {
        "auto": LossSpec(SoftmaxHead, SigmoidHead, SquaredErrorHead),
        "log_loss": LossSpec(classes=SoftmaxHead, multilabel=SigmoidHead),
        "margin": LossSpec(classes=MarginHead),
        "probabilities": LossSpec(classes=DoubleSoftmaxHead),
        "squared_error": LossSpec(regression=SquaredErrorHead),
        "absolute_error": LossSpec(regression=AbsoluteErrorHead),
        "huber": LossSpec(regression=HuberHead),
        "gaussian": LossSpec(regression=GaussianHead),
        "poisson": LossSpec(regression=PoissonHead),
    },
)


def choose_head(
    loss: str | LossSpec | Callable[[int], Head], kind: str, *, learns_scale: bool = False
) -> Callable[[int], Head]:
    """Return the head of a loss for a kind of target, as a callable n_targets -> Head.

    With `learns_scale` one for numbers trains the scale of its density.

    The callable checks what it returns: it raises a TypeError if that is no head or lacks a method
    that every head has, a ValueError if it is a head for another kind of target.

    Raises
    ------
    ValueError
        If the loss is unknown, or not defined for such a target.
    """
    spec = LOSSES.resolve(loss, partial(_fitting, kind))
    factory = getattr(spec, kind) if isinstance(spec, LossSpec) else spec
    if factory is None:
        raise ValueError(f"loss={loss!r} is not made for {kind}. Use one of {_fitting(kind)}.")
    return partial(_make_head, factory, kind, learns_scale=learns_scale)


def _make_head(
    factory: Callable[[int], Head], kind: str, n_targets: int, *, learns_scale: bool
) -> Head:
    head = LOSSES.make(factory, Head, n_targets)
    if (other := getattr(head, "kind", None)) != kind:
        raise ValueError(
            f"loss={factory!r} is not made for {kind}: its kind is {other!r}. "
            f"Use one of {_fitting(kind)}, or a Head of kind={kind!r}."
        )
    if not is_own(factory):
        for method in ("loss", "predict"):
            require_override(head, Head, method, f"loss={factory!r}")
    if learns_scale:
        learn_scale(head)
    return head


def learn_scale(head: Any) -> None:
    """Let a head for numbers train the scale of its density, unless its experts predict it.

    Rates have none.
    """
    if getattr(head, "family", None) is not None and not (head.has_scale or head.is_rate):
        head.log_scale = nn.Parameter(torch.zeros(head.n_targets))


def _fitting(kind: str) -> list[str]:
    """Return the names of the losses for such a target."""
    return sorted(
        name
        for name, entry in LOSSES.items()
        if getattr(entry, kind, None) or getattr(entry, "kind", None) == kind
    )
