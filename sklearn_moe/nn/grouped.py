"""Linear maps of groups of rows, each by weights of its own."""

import torch
from torch.autograd.function import once_differentiable

__all__ = ["GatheredProducts", "GroupedProducts"]


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
        return _products(weight, bias, x.split(sizes), sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        grads = grad.split(ctx.sizes, 1)
        of_weight, of_bias = _gradients(ctx, weight, grads, x.split(ctx.sizes))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.cat([g.T @ w for g, w in zip(grads, weight, strict=True)])
        return of_x, of_weight, of_bias, None


class GatheredProducts(torch.autograd.Function):
    """The same for groups of samples that are gathered from several sources, without a gradient.

    `sources` are tensors, or what gives (n_samples, n_rows, n_features) by `index_select`; each has
    equally many groups. `places` are the samples that are taken from each, `sizes` the numbers
    of samples in all groups. The samples of one source are gathered at a time, and again for the
    gradient: they stay in the cache while they are multiplied.
    """

    @staticmethod
    def forward(ctx, weight, bias, sources, places, sizes):
        """Return (n_outputs, n_rows)."""
        n_rows = sources[0].shape[1]
        ctx.save_for_backward(weight)
        ctx.has_bias, ctx.sources, ctx.places = bias is not None, sources, places
        ctx.sizes = [size * n_rows for size in sizes]
        return _products(weight, bias, _gathered(ctx), ctx.sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of weight and bias."""
        (weight,) = ctx.saved_tensors
        grads = grad.split(ctx.sizes, 1)
        return *_gradients(ctx, weight, grads, _gathered(ctx)), None, None, None


def _products(weight, bias, groups, sizes):
    """Return W_m X_m^T + b_m side by side; the groups X_m are asked for one by one."""
    z = weight.new_empty(weight.shape[1], sum(sizes))
    each = zip(weight, groups, z.split(sizes, 1), strict=True)
    if bias is None:
        for w, rows, columns in each:
            torch.mm(w, rows.T, out=columns)
    else:
        for b, (w, rows, columns) in zip(bias.unsqueeze(2), each, strict=True):
            torch.addmm(b, w, rows.T, out=columns)
    return z


def _gradients(ctx, weight, grads, groups):
    """Return the gradients of weight and bias."""
    of_weight = torch.empty_like(weight)
    for g, rows, w in zip(grads, groups, of_weight, strict=True):
        torch.mm(g, rows, out=w)
    return of_weight, torch.stack([g.sum(1) for g in grads]) if ctx.has_bias else None


def _gathered(ctx):
    """Yield the rows of each group."""
    n_groups = len(ctx.sizes) // len(ctx.sources)
    for number, (source, places) in enumerate(zip(ctx.sources, ctx.places, strict=True)):
        x = source.index_select(0, places)
        sizes = ctx.sizes[number * n_groups : (number + 1) * n_groups]
        yield from x.reshape(-1, x.shape[2]).split_with_sizes(sizes)
