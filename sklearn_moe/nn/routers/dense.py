"""Dense routers, without a choice: every expert with a gate above 0 processes every sample."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..dispatch import apply_all, dispatch_mask, is_exporting, stacked_form
from ..functional import batch_size, batch_weight, sum_over_shards
from .base import Router

_CHUNK = 2**24  # parameters that are merged at a time
_FIRST_PENALTY, _GROWTH = 1e-8, 1.2  # as published


class SoftRouter(Router):
    """The classical mixture: p(y | x) = sum_m gate_m(x) p_m(y | x), trained by its likelihood.

    What p_m is, for classes, labels or a density of numbers, is defined by the head: `Head.mix`.
    """

    gates = ("softmax",)
    mixes = True

    def combine(self, experts, x, route):
        """Mix the experts' distributions."""
        outputs = apply_all(experts, x)
        log_gate = route.gate.to(outputs.dtype).clamp(min=torch.finfo(outputs.dtype).tiny).log()
        return self.mix(log_gate, outputs), None

    def combine_each(self, experts, x, route):
        """Return each expert's own output."""
        return apply_all(experts, x)


class SigmoidRouter(Router):
    """F(x) = sum_m sigmoid(h_m(x)) f_m(x): experts do not compete (arXiv 2405.13997)."""

    gates = ("sigmoid",)


class ReLURouter(Router):
    """F(x) = sum of max(h_m(x), 0) f_m(x) (ReMoE, arXiv 2412.14711).

    Which experts are used is a continuous function of the scores, sample by sample. A penalty on
    the sum of the gates, whose factor grows by 1.2 in every step with more than `top_k` experts per
    sample on average and shrinks otherwise, leaves `top_k` of them.
    """

    gates = ("relu",)

    def __init__(self, network, **options):
        super().__init__(network, **options)
        self.register_buffer("penalty", torch.tensor(_FIRST_PENALTY))

    @classmethod
    def check(cls, input_shape, n_experts, top_k, gate):
        """Refuse to keep more experts than there are."""
        if top_k > n_experts:
            raise ValueError(f"top_k={top_k} experts per sample, but n_experts={n_experts}")

    def combine(self, experts, x, route):
        """Add the gated outputs of the experts with a positive gate."""
        return dispatch_mask(experts, x, route.gate.to(x.dtype)), None

    def balance_loss(self, route, expert_outputs, weight):
        """Return the penalty on the gates, plus the loss of `balance`."""
        if self.frozen:
            return None
        with torch.no_grad():
            active = sum_over_shards(weight @ (route.gate > 0).to(weight.dtype).sum(1))
            active /= batch_weight(weight)
            self.penalty.mul_(_GROWTH ** torch.sign(active - self.top_k))
        loss = self.penalty * (weight @ route.gate.sum(1)) / batch_size(weight)
        balance = super().balance_loss(route, expert_outputs, weight)
        return loss if balance is None else loss + balance


class MergeRouter(Router):
    """F(x) = f(x; sum_m gate_m(x) W_m) (SMEAR, arXiv 2306.03745).

    One expert per sample, whose parameters are the mean of all experts', weighted by the gate. It
    costs little more than one expert where merging is cheap, and is differentiable throughout.
    """

    gates = ("softmax",)

    def combine(self, experts, x, route):
        """Apply the merged expert of each sample."""
        gate = route.gate.to(x.dtype)
        if (form := stacked_form(experts)) is not None:
            return form.merged(x, gate), None
        return _merge(list(experts), x, gate), None


def _merge(experts: list[nn.Module], x: Tensor, gate: Tensor) -> Tensor:
    """Apply a merged expert of its own to each sample; for experts of any kind."""
    shapes = [{name: p.shape for name, p in e.named_parameters()} for e in experts]
    if any(other != shapes[0] for other in shapes) or any(True for _ in experts[0].buffers()):
        raise ValueError(
            "router='merge' averages the parameters of the experts: all need the same ones, and no "
            "buffers such as the statistics of BatchNorm. Use another router or other experts."
        )
    stacked = {
        name: torch.stack([e.get_parameter(name) for e in experts]).flatten(1) for name in shapes[0]
    }

    def apply(weights, sample):
        merged = {n: (weights @ p).view(shapes[0][n]) for n, p in stacked.items()}
        return functional_call(experts[0], merged, (sample.unsqueeze(0),)).squeeze(0)

    if not x.shape[0]:  # vmap does not support an empty batch
        return experts[0](x)
    n_parameters = sum(p.shape[1] for p in stacked.values())
    if is_exporting() and x.ndim == 4:
        return _one_by_one(apply, gate, x)
    chunk = None if is_exporting() else max(1, _CHUNK // n_parameters)
    with torch.autocast(x.device.type, enabled=False):  # vmap does not support mixed precision
        return vmap(apply, chunk_size=chunk)(gate, x)


def _one_by_one(apply, gate, x):
    """Process the samples in a loop that is a part of the exported program.

    `vmap` makes one convolution of as many groups as there are samples, and fixes their number.
    """
    from torch._higher_order_ops.scan import scan

    def step(state, row):
        return state.clone(), apply(*row)

    # One sample of zeros is added: onnxruntime refuses a loop over no samples.
    gate, x = (torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])]) for rows in (gate, x))
    return scan(step, gate.new_zeros(1), (gate, x))[1][:-1]
