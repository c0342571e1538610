"""Normalized gradient descent: one parameter group, one unit."""

import torch
from torch.optim import Optimizer

__all__ = ["NormalizedSGD"]


class NormalizedSGD(Optimizer):
    r"""SGD that scales the gradient of every parameter group to norm 1.

    One group is one unit: an expert of a mixture moves at the same pace however few samples it
    was sent (Algorithm 1 of the paper: :math:`W_m \leftarrow W_m - \eta G_m / \|G_m\|_F`). A
    group whose gradient is zero stays exactly as it is.

    Parameters
    ----------
    params : iterable of tensors or of dicts
        As in every torch optimizer. Each dict is a unit and may set any option of its own.
    lr : float, default=1e-3
        Length of a step, since the direction has norm 1.
    norm : {"l2", "sum"} or None, default="l2"
        `"l2"` is the Frobenius norm over all tensors of the group (paper), `"sum"` the sum of
        the tensors' own norms (authors' code), None leaves the gradient as it is: plain SGD.
    momentum : float, default=0.0
    weight_decay : float, default=0.0
        Added to the normalized gradient, times the weights.

    Notes
    -----
    A group may carry `"pace"`, a number or 0-d tensor that multiplies `lr` (default 1). A tensor
    is never read on the host, so a schedule can set it on the device in every step.

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

    def __init__(self, params, lr=1e-3, *, norm="l2", momentum=0.0, weight_decay=0.0):
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}.")
        defaults = {
            "lr": lr,
            "norm": norm,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "pace": 1.0,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        """Add a unit; its `norm` is checked here, as groups may set their own."""
        super().add_param_group(param_group)
        norm = self.param_groups[-1]["norm"]
        if norm not in ("l2", "sum", None):
            raise ValueError(f"norm must be 'l2', 'sum' or None, got {norm!r}.")

    @torch.no_grad()
    def step(self, closure=None):
        """Make one step.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step_group(group, parameters)
        return loss

    def _step_group(self, group, parameters):
        gradients = [p.grad for p in parameters]
        norm = _norm(gradients, group["norm"] or "l2")
        # All on the device: a comparison in Python would wait for it.
        alive = (norm > 0).to(norm.dtype)
        scale = alive if group["norm"] is None else alive / torch.where(norm > 0, norm, 1)
        updates = torch._foreach_mul(gradients, scale)
        if group["weight_decay"]:
            decay = torch._foreach_mul(parameters, alive * group["weight_decay"])
            torch._foreach_add_(updates, decay)
        if group["momentum"]:
            updates = self._with_momentum(group["momentum"], alive, parameters, updates)
        step = torch._foreach_mul(updates, -(alive * group["lr"] * group["pace"]))
        torch._foreach_add_(parameters, step)

    def _with_momentum(self, momentum, alive, parameters, updates):
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        torch._foreach_mul_(buffers, 1 - alive * (1 - momentum))
        torch._foreach_add_(buffers, updates)
        return buffers


def _norm(gradients, kind):
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    return norms.sum() if kind == "sum" else torch.linalg.vector_norm(norms)
