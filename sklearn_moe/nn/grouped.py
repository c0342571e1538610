"""Linear maps of groups of rows, each by weights of its own."""

import torch
from torch.autograd.function import once_differentiable

__all__ = ["GroupedProducts"]


class GroupedProducts(torch.autograd.Function):
    """W_m X_m^T + b_m for every group m, side by side: one node of the graph in place of many.

    The X_m are consecutive groups of rows of x, of `sizes`; W is (n_groups, n_outputs, n_features)
    and b (n_groups, n_outputs) or None. The result is (n_outputs, n_rows).
    """

    @staticmethod
    def forward(ctx, x, weight, bias, sizes):
        """Return (n_outputs, n_rows)."""
        ctx.save_for_backward(x, weight)
        ctx.sizes = sizes
        ctx.has_bias = bias is not None
        z = x.new_empty(weight.shape[1], len(x))
        groups = zip(weight, x.split(sizes), z.split(sizes, 1), strict=True)
        if bias is None:
            for w, rows, columns in groups:
                torch.mm(w, rows.T, out=columns)
        else:
            for b, (w, rows, columns) in zip(bias.unsqueeze(2), groups, strict=True):
                torch.addmm(b, w, rows.T, out=columns)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        grads = grad.split(ctx.sizes, 1)
        of_x = of_bias = None
        of_weight = torch.empty_like(weight)
        for g, rows, w in zip(grads, x.split(ctx.sizes), of_weight, strict=True):
            torch.mm(g, rows, out=w)
        if ctx.has_bias:
            of_bias = torch.stack([g.sum(1) for g in grads])
        if ctx.needs_input_grad[0]:
            of_x = torch.cat([g.T @ w for g, w in zip(grads, weight, strict=True)])
        return of_x, of_weight, of_bias, None
