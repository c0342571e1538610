"""A pool of several kinds of experts on a table: when each is trained, and what each counts.

The experts are trained by their own losses. Each row is hidden from one expert of every kind, so
that every kind has an out-of-bag prediction of it. From these a router is learned that is linear in
the columns. It sees what each kind is worth on new rows, and where.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from skorch.callbacks import Callback

from .._data.rows import draw_rows, pick
from ..nn import Pool
from ..nn.experts import LinearExpert
from ..nn.routers.base import SoftRouter
from ..nn.routers.scores import LinearScores
from .callbacks import Stopping, StopTraining
from .linear_start import ALPHAS, fit_linear

_N_FOLDS = 3
# Of the squared slopes, in sums of losses over rows. One after the other is tried, the strongest
# first, as long as rows of other folds are predicted better.
_PENALTIES = (300.0, 30.0, 3.0, 0.3)
_GAIN = 1e-3  # of the loss of a row: what slopes have to be worth
_MAX_ITER = 100
_MOST_ROWS = 20_000  # that a router is learned from


class Weights(NamedTuple):
    """Scores of the kinds of experts: `features @ slopes.T + intercept`, before the softmax."""

    slopes: np.ndarray  # (n_kinds, n_features)
    intercept: np.ndarray  # (n_kinds,)
    loss: float  # mean loss of the mixture on the rows

    def gates(self, features):
        """Return the weight of each kind for each row, (n_rows, n_kinds)."""
        scores = features @ self.slopes.T + self.intercept
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)


def fit_router(values, losses, weight, features, folds):
    """Return the weights of kinds of experts by which the loss of their mixture is least.

    They are functions of the features if these predict rows of other folds better, by more than
    chance gains; otherwise they are constant.

    Parameters
    ----------
    values : Tensor of shape (n_rows, n_kinds, n_values)
    losses : callable
        The loss of the mixture of a row depends on sums of values by weight, see
        `Head.mixing_parts`.
    weight : ndarray of shape (n_rows,)
    features : ndarray of shape (n_rows, n_features)
        What the router reads.
    folds : ndarray of shape (n_rows,), int
        Equal rows are in the same fold.

    Returns
    -------
    weights : Weights
    """
    fit = _Fit(values, losses, np.asarray(weight, dtype=float), np.asarray(features, dtype=float))
    every = np.ones(len(weight), dtype=bool)
    constant = fit.minimize(every)
    if fit.n_kinds == 1 or not features.shape[1]:
        return constant
    parts_of = [(folds % _N_FOLDS != fold, folds % _N_FOLDS == fold) for fold in range(_N_FOLDS)]
    parts_of = [(known, new) for known, new in parts_of if known.any() and new.any()]
    found = [fit.minimize(known) for known, _ in parts_of]
    best = sum(fit.loss(w, new) for w, (_, new) in zip(found, parts_of, strict=True))
    penalty = None
    for tried in _PENALTIES:
        found = [
            fit.minimize(known, tried, w) for w, (known, _) in zip(found, parts_of, strict=True)
        ]
        loss = sum(fit.loss(w, new) for w, (_, new) in zip(found, parts_of, strict=True))
        if loss > best - _GAIN * fit.weight.sum():
            break
        best, penalty = loss, tried
    return constant if penalty is None else fit.minimize(every, penalty, constant)


class _Fit:
    """The loss of a mixture by the scores of its kinds, and where it is least."""

    def __init__(self, values, losses, weight, features):
        self.values, self.loss_of = values, losses
        self.weight, self.features = weight, features
        self.n_kinds = self.values.shape[1]

    def loss(self, weights, rows):
        """Return the sum of the losses of some rows, (n_rows,) bool."""
        gates = torch.from_numpy(weights.gates(self.features[rows]))
        losses = self._losses(gates, torch.from_numpy(rows))
        return float(self.weight[rows] @ losses.numpy())

    def _losses(self, gates, rows):
        return self.loss_of((gates.unsqueeze(2) * self.values[rows]).sum(1), rows)

    def minimize(self, rows, penalty=None, start=None):
        """Return the weights with the least loss on some rows; without penalty, constant ones."""
        n_features = 0 if penalty is None else self.features.shape[1]
        mask = torch.from_numpy(rows)
        x = torch.from_numpy(np.c_[self.features[rows][:, :n_features], np.ones(rows.sum())])
        weight = torch.from_numpy(self.weight[rows])
        total = weight.sum()

        @torch.enable_grad()
        def loss(flat):
            theta = torch.from_numpy(flat).reshape(self.n_kinds, -1).requires_grad_()
            losses = self._losses((x @ theta.T).softmax(1), mask)
            value = weight @ losses / total
            if n_features:
                value = value + penalty / 2 / total * theta[:, :-1].square().sum()
            (gradient,) = torch.autograd.grad(value, theta)
            return value.item(), gradient.numpy().ravel()

        theta = np.zeros((self.n_kinds, n_features + 1))
        if start is not None:
            theta[:, :-1], theta[:, -1] = start.slopes[:, :n_features], start.intercept
        options = {"maxiter": _MAX_ITER}
        found = minimize(loss, theta.ravel(), jac=True, method="L-BFGS-B", options=options)
        theta = found.x.reshape(theta.shape)
        slopes = np.zeros((self.n_kinds, self.features.shape[1]))
        slopes[:, :n_features] = theta[:, :-1]
        return Weights(slopes, theta[:, -1], float(found.fun))


# -- when each kind is trained ------------------------------------------------------------

_PATIENCE = 0.15  # of the epochs until the best one
_LEAST_PATIENCE = 0.05  # of all epochs
_LAST = 0.4  # of the epochs until the best one: as many are trained on all rows in the end


class KindStopping(Stopping):
    """Stop training each kind of experts when its out-of-bag loss ceases to improve.

    In the end each kind has the weights of its best epoch.

    Parameters
    ----------
    tol : float or None
        Least improvement that counts. None: never stop, and keep the last weights.
    patience : float
        Epochs without improvement that are waited for at least.

    Attributes
    ----------
    best_epochs_ : list of int
        Number of epochs until the best one of each kind.
    converged_ : bool
    """

    def __init__(self, tol, patience):
        super().__init__(tol, patience, score="oob_loss")

    def initialize(self):
        """Forget earlier trainings."""
        super().initialize()
        self.n_epochs_ = 0
        self.best_losses_, self.best_epochs_, self.best_weights_ = [], [], []
        return self

    def on_train_begin(self, net, **kwargs):
        """Begin with all kinds that are trained in steps."""
        pool = net.module_.experts
        pool.active = [kind not in solved_kinds(net) for kind in range(len(pool.kinds))]
        self.best_losses_ = [math.inf] * len(pool.kinds)
        self.best_epochs_ = [0] * len(pool.kinds)
        self.best_weights_ = [None] * len(pool.kinds)

    def on_epoch_end(self, net, **kwargs):
        """Compare the epoch with the best one of each kind."""
        pool, losses = net.module_.experts, net.history[-1, "kind_oob_losses"]
        self.n_epochs_ += 1
        for kind in (k for k, is_active in enumerate(pool.active) if is_active):
            if self.tol is None or losses[kind] < self.best_losses_[kind] - self.tol:
                self.best_losses_[kind], self.best_epochs_[kind] = losses[kind], self.n_epochs_
                state = {} if self.tol is None else pool.kinds[kind].state_dict()
                self.best_weights_[kind] = {key: value.clone() for key, value in state.items()}
            waited = self.n_epochs_ - self.best_epochs_[kind]
            patience = max(self.patience, _PATIENCE * self.best_epochs_[kind])
            pool.active[kind] = self.tol is None or waited < patience
        self.best_ = -min(self.best_losses_)
        if not any(pool.active):
            self.converged_ = True
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Return to the best weights of each kind."""
        pool = net.module_.experts
        pool.active = [True] * len(pool.kinds)
        for kind, weights in enumerate(self.best_weights_):
            if weights:
                pool.kinds[kind].load_state_dict(weights)
        self.best_weights_ = []


class LastEpochs(Callback):
    """Train each kind for a number of epochs, so that all end together.

    Parameters
    ----------
    n_epochs : list of int
        Of each kind.
    """

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs
        self.n_left = max(n_epochs)

    def on_epoch_begin(self, net, **kwargs):
        """Let the kinds be trained whose time has come."""
        net.module_.experts.active = [n >= self.n_left for n in self.n_epochs]
        self.n_left -= 1

    def on_train_end(self, net, **kwargs):
        """Let all kinds predict."""
        net.module_.experts.active = [True] * len(self.n_epochs)


def begin_last_epochs(net, best_epochs, max_iter):
    """Return a callback of the last epochs, of all rows, and how many there are.

    The rate of each kind goes on from that of its best epoch, and the optimizer with what it knows
    of the gradients: first steps without that would be far too long.
    """
    n_epochs = [math.ceil(_LAST * best) for best in best_epochs]
    for group, best in zip(net.optimizer_.param_groups, best_epochs, strict=False):
        highest = group.get("initial_lr", group["lr"])
        share = (1 + math.cos(math.pi * min(1, best / max_iter))) / 2
        group["lr"] = group["initial_lr"] = highest * (share if net.schedule == "cosine" else 1)
    return LastEpochs(n_epochs), max(n_epochs)


# -- experts with a solver ----------------------------------------------------------------


def solved_kinds(net):
    """Return the kinds whose weights are found by a solver, not in steps."""
    pool = net.module_.experts
    if net.criterion_.n_outputs < net.criterion_.n_targets:
        return []
    return [kind for kind, experts in enumerate(pool.kinds) if type(experts[0]) is LinearExpert]


# -- the router ---------------------------------------------------------------------------


def learns_router(net):
    """Return whether a router is learned from rows that the experts did not see."""
    router = net.module_.router
    return (
        isinstance(net.module_.experts, Pool)
        and type(router) is SoftRouter
        and type(router.network) is LinearScores
        and net.expert_loss_weight == 1
    )


@torch.no_grad()
def learn_router(net, rows, validation=None):
    """Give a pool its solved experts, and its router what each kind is worth on unseen rows.

    Parameters
    ----------
    net : MoENet
        Its experts are trained.
    rows : Rows
        What they were trained on, with an out-of-bag mask unless other rows were held out.
    validation : Rows or None
        What was held out. The router is learned from these rows, if there are any.

    Returns
    -------
    predictions : ndarray of shape (n_rows, n_targets) or None
        What the mixture predicts of each row by experts that have not seen it, NaN where all have.
        None if all have seen all rows.
    """
    unseen = validation or rows
    hidden = torch.full((len(unseen.y),), -1)
    if unseen.in_bag is not None:
        hidden = _hidden_from(net.module_.experts, unseen.in_bag)
    lines = {kind: _solve(net, kind, rows, hidden) for kind in solved_kinds(net)}
    if validation is None and rows.in_bag is None:
        return None
    experts = _UnseenExperts(net, lines, is_held_out=validation is not None)
    some = np.arange(len(hidden)) if validation is not None else np.flatnonzero(hidden >= 0)
    some = torch.from_numpy(some[draw_rows(len(some), _MOST_ROWS)])
    x = pick(unseen.x, some.to(getattr(unseen.x, "device", "cpu")))
    values, losses = _values_of_kinds(
        net, experts, x, hidden[some], unseen.y[some.to(unseen.y.device)]
    )
    features = net.map_batches(experts.features, x)
    folds = some.numpy() if validation is not None else hidden[some].numpy()
    weight = unseen.weight.cpu().numpy()[some.numpy()]
    weights = fit_router(values, losses, weight, features, folds)
    _write(net.module_, weights)
    net.history[-1]["mixture_oob_loss"] = weights.loss
    if net.module_.sharpness is not None:
        outputs = net.map_batches(experts.mix, x, hidden[some])
        sharpen(net, outputs, unseen.y[some.to(unseen.y.device)], weight)
    return net.map_batches(experts.predict, unseen.x, hidden)


def sharpen(net, outputs, y, weight):
    """Scale the logits of a mixture so that the loss of rows that it has not seen is least."""
    outputs, y, weight = torch.from_numpy(outputs).double(), y.cpu(), np.asarray(weight)

    def loss(log_factor):
        return weight @ net.criterion_.loss(outputs * math.exp(log_factor), y).numpy()

    found = minimize_scalar(loss, bounds=(-1, 1), method="bounded", options={"xatol": 1e-3})
    net.module_.sharpness.fill_(math.exp(found.x))


def _hidden_from(pool, in_bag):
    """Return for each row which member of the kinds has not seen it, -1 if there is none."""
    largest = max(range(len(pool.kinds)), key=lambda kind: len(pool.members(kind)))
    out = ~in_bag[:, pool.members(largest)].cpu()
    return torch.where(out.any(1), out.int().argmax(1), -1)


def _solve(net, kind, rows, hidden):
    """Fit a linear kind to all rows; return the functions of those fitted without a fold.

    The penalty is the one by which rows of other folds are predicted best: as equal rows are in one
    fold, a row of weight 2 is the row twice.
    """
    module, head = net.module_, net.criterion_
    columns = module.experts.columns[kind]
    X = net.map_batches(lambda x: module.encode(x)[:, columns], rows.x).astype(float)
    y, weight = rows.y.cpu().numpy(), rows.weight.cpu().numpy()
    folds = np.full(len(X), -1)
    if rows.in_bag is not None:
        folds = np.where(hidden < 0, -1, hidden % _N_FOLDS)
    new = folds >= 0 if rows.in_bag is not None else np.ones(len(X), bool)
    alphas = ALPHAS[::2] if head.kind == "regression" and rows.in_bag is not None else [None]
    best = math.inf
    for alpha in alphas:
        others = [
            fit_linear(head, X[folds != fold], y[folds != fold], weight[folds != fold], alpha)
            for fold in (range(_N_FOLDS) if rows.in_bag is not None else ())
        ]
        outputs = np.zeros((len(X), head.n_outputs))
        for fold, (coef, intercept) in enumerate(others):
            outputs[folds == fold] = X[folds == fold] @ coef.numpy().T + intercept.numpy()
        loss = weight[new] @ head.loss(torch.from_numpy(outputs[new]), rows.y.cpu()[new]).numpy()
        if loss < best or not others:
            best, chosen, functions, found = loss, alpha, others, outputs
    function = fit_linear(head, X, y, weight, chosen)
    for _, intercept in [function, *functions]:
        if getattr(head, "has_scale", False):
            errors = y - found[:, : head.n_targets]
            scale = np.sqrt(np.average(errors**2, axis=0, weights=weight * new))
            intercept[head.n_targets :] = torch.from_numpy(
                np.log(np.expm1(np.maximum(scale, 0.01)))
            )
    for expert in module.experts.kinds[kind]:
        expert.become_linear(*function)
    return functions or [function]


class _UnseenExperts:
    """The experts of a pool that have not seen a row, and what they say of it.

    Parameters
    ----------
    net : MoENet
    lines : dict of list
        Of each solved kind the functions that were fitted without the rows of a fold.
    is_held_out : bool
        Whether no expert has seen any of the rows.
    """

    def __init__(self, net, lines, *, is_held_out):
        self.net, self.module, self.pool = net, net.module_, net.module_.experts
        self.lines, self.is_held_out = lines, is_held_out
        self.ranks = torch.tensor(self.pool.ranks)

    def features(self, x):
        """Return what the router reads."""
        return self.module.router_input(self.module.encode(x)).double()

    def outputs(self, x, hidden):
        """Return the outputs of all experts, (n, n_experts, n_outputs)."""
        x = self.module.encode(x)
        outputs = self.pool(x).double()
        for kind, functions in self.lines.items():
            z = x[:, self.pool.columns[kind]].double()
            each = torch.stack([z @ coef.T + intercept for coef, intercept in functions], 1)
            fold = hidden.clamp(min=0) % len(functions)
            own = each[torch.arange(len(z)), fold]
            outputs[:, self.pool.members(kind)] = own.unsqueeze(1)
        return outputs

    def shares(self, hidden):
        """Return the share of each expert in what its kind says, (n, n_experts)."""
        unseen = torch.ones(len(hidden), len(self.ranks), dtype=torch.double)
        if not self.is_held_out:
            is_solved = torch.tensor([kind in self.lines for kind in self.pool.kind_of])
            unseen = (is_solved | (self.ranks == hidden.unsqueeze(1))).double()
        kinds = self.of_kinds(unseen.unsqueeze(2))[..., 0]
        return unseen / kinds[:, self.pool.kind_of].clamp(min=1)

    def of_kinds(self, values):
        """Return the sums over the experts of each kind, (n, n_kinds, n_values)."""
        kinds = values.new_zeros(len(values), len(self.pool.kinds), values.shape[2])
        return kinds.index_add(1, torch.tensor(self.pool.kind_of), values)

    def mix(self, x, hidden):
        """Return the output of the mixture, NaN where an expert of some kind is missing."""
        shares = self.shares(hidden)
        scores = self.module.route(x).scores.double()
        n_members = torch.tensor([self.pool.kind_of.count(k) for k in self.pool.kind_of])
        log_gate = (scores + n_members.log()).log_softmax(1)  # as of one expert for each kind
        log_gate = (log_gate + shares.log()).log_softmax(1)
        return self.net.criterion_.mix(log_gate, self.outputs(x, hidden))

    def predict(self, x, hidden):
        """Return what the head makes of it."""
        return self.net.criterion_.predict(self.module.sharpened(self.mix(x, hidden)))


def _values_of_kinds(net, experts, x, hidden, y):
    """Return what the loss of a mixture of kinds depends on, and that loss."""
    outputs = torch.from_numpy(net.map_batches(experts.outputs, x, hidden))
    values, losses = net.criterion_.mixing_parts(outputs, y.cpu())
    return experts.of_kinds(values * experts.shares(hidden).unsqueeze(2)), losses


def _write(module, weights):
    """Give the router the weights of kinds, equal for the experts of a kind."""
    pool, network = module.experts, module.router.network
    for kind, (slopes, intercept) in enumerate(zip(weights.slopes, weights.intercept, strict=True)):
        members = pool.members(kind)
        network.weight[members] = torch.from_numpy(slopes).to(network.weight)
        network.bias[members] = float(intercept - math.log(len(members)))
