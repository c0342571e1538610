"""A pool of several kinds of experts on a table: when each is trained, and what each counts.

The experts are trained by their own losses. Each row is hidden from one expert of every kind, so
that every kind has an out-of-bag prediction of it. From these a router is learned that is linear in
the columns. It sees what each kind is worth on new rows, and where.
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from skorch.callbacks import Callback

from .._data.indexing import draw_rows
from .._data.router import N_FOLDS, fit_router, is_clearly_positive, mixed_losses
from .._data.rows import pick
from ..nn import Pool
from ..nn.experts import LinearExpert
from ..nn.routers.base import SoftRouter
from ..nn.routers.scores import LinearScores, PoolScores
from .callbacks import Stopping, StopTraining
from .linear_models import ALPHAS, fit_linear
from .regimes import Rules, may_hold_regimes, seek_regimes

# Rows that a router is learned from, and numbers of columns that a solver is given at once.
_MOST_ROWS, _MOST_NUMBERS = 20_000, 2**21


# -- when each kind is trained ------------------------------------------------------------

_PATIENCE = 0.15  # of the epochs until the best one
_LAST = 0.4  # of the epochs until the best one: as many are trained on all rows in the end
_LEAST_WEIGHT = 0.01  # of a kind that is worth them


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
        """Begin with the kinds that are trained in steps: linear ones if there are no others."""
        pool, n_kinds = net.module_.experts, len(net.module_.experts.kinds)
        solved = solved_kinds(net)
        pool.active = [kind not in solved or len(solved) == n_kinds for kind in range(n_kinds)]
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
    of the gradients: first steps without that would be far too long. Kinds of next to no weight
    have none of these epochs.
    """
    network, weights = net.module_.router.network, [1.0] * len(best_epochs)
    if isinstance(network, PoolScores) and not network.weight.any():
        weights = network.bias.flatten().softmax(0).tolist()
    n_epochs = [
        math.ceil(_LAST * best) if weight >= _LEAST_WEIGHT else 0
        for best, weight in zip(best_epochs, weights, strict=True)
    ]
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
    """Return whether a router is learned from rows that the experts did not see.

    A single expert of a pool has none to learn, but may have a solver.
    """
    router = net.module_.router
    learns = (
        type(router) is SoftRouter
        and type(router.network) in (LinearScores, PoolScores)
        and net.expert_loss_weight == 1
    )
    return isinstance(net.module_.experts, Pool) and (router is None or learns)


@torch.no_grad()
def learn_router(net, rows, validation=None, n_rows=None):
    """Give a pool its solved experts, and its router what each kind is worth on unseen rows.

    A linear kind is one rule, or regimes if these alone predict unseen rows clearly better than
    the pool does without them: a smooth function is not cut into pieces.

    Parameters
    ----------
    net : MoENet
        Its experts are trained.
    rows : Rows
        What they were trained on, with an out-of-bag mask unless other rows were held out.
    validation : Rows or None
        What was held out. The router is learned from these rows, if there are any.
    n_rows : float or None
        How many rows those that were trained on count for: a row of weight 2 may be two. None: as
        many as there are.

    Returns
    -------
    predictions : ndarray of shape (n_rows, n_targets) or None
        What the mixture predicts of each row by experts that have not seen it, NaN where all have.
        None if all have seen all rows.
    """
    of_one = (n_rows or len(rows.y)) / len(rows.y)  # penalties depend on the number of rows
    rows, validation = (
        part and part._replace(weight=part.weight.double() * of_one) for part in (rows, validation)
    )
    unseen, head = validation or rows, net.criterion_
    hidden = torch.full((len(unseen.y),), -1)
    if unseen.in_bag is not None:
        hidden = _hidden_from(net, unseen.in_bag)

    folds = np.full(len(rows.y), -1)  # of the rows that are trained on, -1 for none
    if rows.in_bag is not None:
        folds = np.where(hidden < 0, -1, hidden % N_FOLDS)
    lines = {kind: _solve(net, kind, rows, folds) for kind in solved_kinds(net)}
    if net.module_.router is None or (validation is None and rows.in_bag is None):
        _write(net.module_, lines)
        return None
    experts = _UnseenExperts(net, lines, is_held_out=validation is not None)
    some = np.arange(len(hidden)) if validation is not None else np.flatnonzero(hidden >= 0)
    if not len(some):  # of a row or two
        _write(net.module_, lines)
        return None
    pool, n_columns = net.module_.experts, net.module_.router.network.weight.shape[1]
    n_numbers = head.n_outputs * len(pool) + n_columns
    n_most = min(_MOST_ROWS, max(1, _MOST_NUMBERS // n_numbers))
    some = torch.from_numpy(some[draw_rows(len(some), n_most)])
    x = pick(unseen.x, some.to(getattr(unseen.x, "device", "cpu")))
    y, hidden_some = unseen.y[some.to(unseen.y.device)].cpu(), hidden[some]
    weight = unseen.weight.cpu().double().numpy()[some.numpy()]
    features = net.map_batches(experts.features, x)
    # A line has no end, and few rows tell little of many columns. Of classes in other tables it may
    # be as good by chance: the mean of several kinds is the better guess.
    is_wide = features.shape[1] >= len(rows.y)
    alone = [*lines] if head.kind == "regression" or is_wide else []
    of_router = weight, features, (hidden_some if validation is None else some).numpy(), alone
    values, losses = _values_of_kinds(net, experts, x, hidden_some, y)
    weights, every = fit_router(values, losses, *of_router), torch.arange(len(y))
    of_pool = mixed_losses(values, losses, weights.gates(features))
    for kind in (kind for kind in lines if may_hold_regimes(net, kind)):
        one, of_kind = lines[kind], losses(values[:, kind], every).numpy()
        if _is_clearly_less(of_pool, of_kind, weight, head):
            means = np.average([of_pool, of_kind], axis=1, weights=weight)
            lines[kind] = seek_regimes(net, kind, rows, folds, means) or one
        if lines[kind] is one:
            continue
        new, new_losses = _values_of_kinds(net, experts, x, hidden_some, y)
        if _is_clearly_less(new_losses(new[:, kind], every).numpy(), of_pool, weight, head):
            values, losses, weights = new, new_losses, fit_router(new, new_losses, *of_router)
            of_pool = mixed_losses(values, losses, weights.gates(features))
        else:
            lines[kind] = one
    _write(net.module_, lines, weights)
    net.history[-1]["mixture_oob_loss"] = float(np.average(of_pool, weights=weight))
    if net.module_.sharpness is not None:
        sharpen(net, net.map_batches(experts.mix, x, hidden_some), y, weight)
    predictions = net.map_batches(experts.predict, unseen.x, hidden)
    if validation is None:  # the solved experts have seen all rows
        predictions[hidden.numpy() < 0] = np.nan
    return predictions


def _is_clearly_less(losses, others, weight, head):
    """Tell whether losses of rows are less than others, on average and by three standard errors.

    For numbers these are of the errors, not of their squares, and none counts more than three times
    the usual one: few rows at borders would have most of the loss.
    """
    gain = others - losses
    if head.kind == "regression":
        most = 9 * np.average(others, weights=weight)
        losses, others = (np.minimum(each, most) for each in (losses, others))
        gain = np.sqrt(others) - np.sqrt(losses)
    return weight @ losses < weight @ others and is_clearly_positive(gain, weight)


def sharpen(net, outputs, y, weight):
    """Scale the logits of a mixture so that the loss of rows that it has not seen is least."""
    outputs, y = torch.from_numpy(outputs).double(), y.cpu()
    weight = torch.as_tensor(weight).cpu().double().numpy()

    def loss(log_factor):
        return weight @ net.criterion_.loss(outputs * math.exp(log_factor), y).numpy()

    found = minimize_scalar(loss, bounds=(-1, 1), method="bounded", options={"xatol": 1e-3})
    net.module_.sharpness.fill_(math.exp(found.x))


def _hidden_from(net, in_bag):
    """Return for each row which member of the kinds has not seen it.

    -1 if some kind has no such member: there are few experts, or the kinds are of unequal size.
    """
    pool, solved = net.module_.experts, solved_kinds(net)
    trained = [kind for kind in range(len(pool.kinds)) if kind not in solved] or solved
    fewest = min(map(pool.members, trained), key=len)
    out = ~in_bag[:, fewest].cpu()
    return torch.where(out.any(1), out.int().argmax(1), -1)


def _solve(net, kind, rows, folds):
    """Fit a linear kind to all rows; return its rule, and those fitted without each fold.

    The penalty is the one by which rows of other folds are predicted best: as equal rows are in one
    fold, a row of weight 2 is the row twice. Rows of fold -1 are in none.
    """
    module, head = net.module_, net.criterion_
    columns, n_members = module.experts.columns[kind], len(module.experts.kinds[kind])
    n_columns = module.experts.kinds[kind][0].in_features
    n_most = max(1, _MOST_NUMBERS // n_columns)
    folds = folds[draw_rows(len(folds), n_most)]
    rows = rows.sample(n_most, torch.device(net.device))
    X = net.map_batches(lambda x: module.encode(x)[:, columns], rows.x).astype(float)
    y, weight = rows.y.cpu().numpy(), rows.weight.cpu().numpy()
    # A row or two are in one fold, or in none.
    has_folds = (folds >= 0).any() and all((folds != fold).any() for fold in range(N_FOLDS))
    new = folds >= 0 if has_folds else np.ones(len(X), bool)
    alphas = [*ALPHAS[::2]] if head.kind == "regression" and has_folds else None
    by_fold = [
        fit_linear(head, X[folds != fold], y[folds != fold], weight[folds != fold], alphas)
        for fold in (range(N_FOLDS) if has_folds else ())
    ]
    best, chosen, functions, found = math.inf, None, [], np.zeros((len(X), head.n_outputs))
    for alpha, others in zip(alphas or [None], zip(*by_fold, strict=True), strict=False):
        outputs = np.zeros((len(X), head.n_outputs))
        for fold, (coef, intercept) in enumerate(others):
            outputs[folds == fold] = X[folds == fold] @ coef.numpy().T + intercept.numpy()
        loss = weight[new] @ head.loss(torch.from_numpy(outputs[new]), rows.y.cpu()[new]).numpy()
        if loss < best:
            best, chosen, functions, found = loss, alpha and [alpha], others, outputs
    functions = [*fit_linear(head, X, y, weight, chosen), *functions]
    for _, intercept in functions:
        if getattr(head, "has_scale", False):
            errors = y - found[:, : head.n_targets]
            scale = np.sqrt(np.average(errors**2, axis=0, weights=weight * new))
            intercept[head.n_targets :] = torch.from_numpy(
                np.log(np.expm1(np.maximum(scale, 0.01)))
            )
    return [Rules(*(part.expand(n_members, *part.shape) for part in f)) for f in functions]


class _UnseenExperts:
    """The experts of a pool that have not seen a row, and what they say of it.

    Parameters
    ----------
    net : MoENet
    lines : dict of list
        Of each solved kind its rules, and those that were fitted without the rows of each fold.
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

    def parts(self, x, hidden):
        """Return outputs and shares of all experts for encoded rows, (n, n_experts, n_outputs + 1).

        A share is that of an expert in what its kind says.
        """
        hidden = hidden.cpu()
        features, outputs = self.module.router_input(x).double().cpu(), self.pool(x).double().cpu()
        unseen = torch.ones(len(hidden), len(self.ranks), dtype=torch.double)
        if not self.is_held_out:
            unseen = (self.ranks == hidden.unsqueeze(1)).double()
        shares = unseen / self.of_kinds(unseen)[:, self.pool.kind_of].clamp(min=1)
        for kind, (whole, *others) in self.lines.items():
            members = torch.tensor(self.pool.members(kind))
            z = x[:, self.pool.columns[kind]].double().cpu()
            others = others or [whole]
            for fold, rules in enumerate(others):
                its = torch.where(hidden.clamp(min=0) % len(others) == fold)[0].unsqueeze(1)
                outputs[its, members] = rules.outputs(z[its[:, 0]])
                shares[its, members] = rules.shares(features[its[:, 0]])
        return torch.cat([outputs, shares.unsqueeze(2)], 2)

    def of_kinds(self, values):
        """Return the sums over the experts of each kind, (n, n_kinds, ...)."""
        kinds = values.new_zeros(len(values), len(self.pool.kinds), *values.shape[2:])
        return kinds.index_add(1, torch.tensor(self.pool.kind_of), values)

    def mix(self, x, hidden):
        """Return the output of the mixture, NaN where an expert of some kind is missing."""
        x = self.module.encode(x)
        parts = self.parts(x, hidden)
        gate = self.of_kinds(self.module.router(self.module.router_input(x)).gate.double().cpu())
        log_gate = (gate[:, self.pool.kind_of] * parts[..., -1]).log().log_softmax(1)
        return self.net.criterion_.mix(log_gate, parts[..., :-1])

    def predict(self, x, hidden):
        """Return what the head makes of it."""
        return self.net.criterion_.predict(self.module.sharpened(self.mix(x, hidden).to(x.device)))


def _values_of_kinds(net, experts, x, hidden, y):
    """Return what the loss of a mixture of kinds depends on, and that loss."""
    parts = net.map_batches(lambda x, h: experts.parts(net.module_.encode(x), h), x, hidden)
    parts = torch.from_numpy(parts)
    values, losses = net.criterion_.mixing_parts(parts[..., :-1], y)
    return experts.of_kinds(values * parts[..., -1:]), losses


def _write(module, lines, weights=None):
    """Give solved experts their rules, and the router the weights of kinds and of these rules."""
    pool, network = module.experts, getattr(module.router, "network", None)
    if isinstance(network, PoolScores):
        if weights is not None:
            network.weight.copy_(torch.from_numpy(weights.slopes))
            network.bias.copy_(torch.from_numpy(weights.intercept).unsqueeze(1))
        network.gated.zero_()
    for kind, (rules, *_) in lines.items():
        for expert, *function in zip(pool.kinds[kind], rules.coef, rules.intercept, strict=True):
            expert.become_linear(*function)
        if rules.gate is not None:
            members = pool.members(kind)
            network.own_weight[members] = rules.gate[:, :-1].to(network.own_weight)
            network.own_bias[members] = rules.gate[:, -1:].to(network.own_bias)
            network.gated[members] = True
