"""A stack: experts that are fitted to all samples, and a gate by what they predict of others."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.sparse import issparse
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import validate_data

from .._compat import progress_bar
from .._data import SamplesLike
from .._data.router import N_FOLDS, fit_router, is_clearly_positive, mixed_losses
from .._data.rows import draw_rows
from .._data.validation import unit_of
from ._defaults import TableEncoder, default_gates
from ._em import code_samples, fit_best, gate_log_proba, posterior
from ._families import Family, LogLoss, OwnDensity
from ._weighted import Template, count_parameters, fit_weighted, last_step, takes_weights

# Samples that a default gate is learned from, and numbers of columns.
_MOST_ROWS, _MOST_NUMBERS = 20_000, 2**22
_MAX_ITER, _TOL, _TOL_OF_FOLDS = 200, 1e-5, 1e-4  # of the EM of a gate
_ROUNDS = 3  # of gate and sharpness, each given the other
_SPREAD = 0.5  # of the logarithm of the sharpness, before any sample is seen
_LEAST_SCALE = 0.05  # of a standard deviation, relative to the largest one
_LEAST_PROBABILITY, _LEAST_WEIGHT = np.finfo(float).eps, 1e-6
# Attributes of no other method.
OF_STACK = "expert_kinds_ oof_predictions_ oof_gate_proba_ sharpness_ _seen".split()
_SAME = 1e-6  # of their deviation: predictions of the same samples, in batches of any size
_OF_EM = "family criterion n_init init max_iter tol min_prior min_scale warm_start".split()


class Stack(NamedTuple):
    """A fitted stack."""

    experts: list
    names: list  # of the experts, each another one
    gate: Any  # None: constant weights
    weights: np.ndarray  # (n_experts,), means of the gate
    family: Family
    scales: list  # standard deviations of the errors by folds, NaN of classes
    outputs: np.ndarray  # (n_samples, n_experts[, n_classes]), by folds; NaN where in none
    gates: np.ndarray  # (n_samples, n_experts), by other folds; NaN where not learned from
    log_likelihood: float  # by folds, of the samples that the gate was learned from
    lower_bound: float  # the same per sample


def fit_stack(problem, experts, X, *, seed, gate, only_best, n_jobs, verbose):
    """Fit experts to all samples, and a gate to what others, without a fold, predict of the fold.

    Parameters
    ----------
    problem : Problem
        Samples, folds and family; it has neither experts nor a gate.
    experts : list of estimator
    X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
    seed : int
    gate : estimator, str or None
        A name stands for the default gates.
    only_best : bool
        Whether the expert of least loss is left alone.
    n_jobs, verbose
        As of mixtures.

    Returns
    -------
    stack : Stack
    """
    y, family, n_experts = problem.y, problem.family, len(experts)
    for expert in experts:
        if np.ptp(problem.weight) and not takes_weights(expert):
            raise ValueError(
                f"estimator={expert!r} was given sample_weight, which its `fit` does not take. Use "
                "estimators whose `fit` does, or no weights."
            )
    parts = [(np.arange(len(y)), None), *problem.splits]
    jobs = [(k, *part) for part in parts for k in range(n_experts)]
    done = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_expert)(problem, experts[k], X, train, test, seed + k)
        for k, train, test in jobs
    )
    fitted = [*progress_bar(done, total=len(jobs), disable=not verbose, desc="stack")]
    outputs = np.full((len(y), n_experts, *fitted[-1].shape[1:]), np.nan)
    folds = np.full(len(y), -1)
    for number, ((k, _, test), found) in enumerate(zip(jobs, fitted, strict=True)):
        if test is not None:
            outputs[test, k], folds[test] = found, number // n_experts - 1
    rows = np.flatnonzero(folds >= 0)
    if isinstance(gate, str):
        rows = rows[draw_rows(len(rows), min(_MOST_ROWS, _MOST_NUMBERS // X.shape[1] + 1))]
    fitted, X, y = fitted[:n_experts], _safe_indexing(X, rows), y[rows]
    if only_best:
        known = _Known(problem, outputs[rows], rows, folds)
        alone = (np.tile(one, (len(rows), 1)) for one in np.eye(n_experts))
        losses = [known.weight @ mixed_losses(known.values, known.losses, one) for one in alone]
        best = [int(np.argmin(losses))]
        fitted, outputs, n_experts = [fitted[best[0]]], outputs[:, best], 1
    for n_round in range(family.has_scale, _ROUNDS):
        given = outputs[rows] if family.has_scale else family.sharpen(outputs[rows])
        known = _Known(problem, given, rows, folds)
        found, unseen = known.learn(gate, X, seed, with_tree=n_round > 0)
        factor = 1.0
        if not family.has_scale:
            factor = _find_sharpness(given, unseen, y, known.weight, family.sharpness)
            family = LogLoss(family.classes, family.sharpness * factor)
        if factor == 1 and n_round:
            break
    outputs = outputs if family.has_scale else family.sharpen(outputs)
    gates, of_folds = known.gates(found, X), np.full((len(folds), n_experts), np.nan)
    of_folds[rows] = unseen
    weights, scales = np.average(gates, axis=0, weights=known.weight), [np.nan] * n_experts
    if family.has_scale:
        squares = gates * (y[:, np.newaxis] - outputs[rows]) ** 2
        scales = np.sqrt(np.average(squares, axis=0, weights=known.weight) / weights)
        scales = np.maximum(scales, max(family.least_scale(y), _LEAST_SCALE * scales.max()))
    density = [family.log_density(y, outputs[rows, k], scale) for k, scale in enumerate(scales)]
    log_gate = np.log(np.maximum(unseen, _LEAST_WEIGHT))
    log_density = posterior(log_gate + np.column_stack(density))[1]
    return Stack(
        fitted,
        _name_experts(fitted),
        None if isinstance(found, np.ndarray) else found,
        weights,
        family,
        [*scales],
        outputs,
        of_folds,
        float(problem.unit_weight[rows] @ log_density),
        float(np.average(log_density, weights=known.weight)),
    )


def _find_sharpness(outputs, gates, y, weight, before):
    """Return the factor of the logits of experts by which their mixture has the least loss.

    1 if that gains nothing clear. A model that is right in its region alone, and is fitted to all
    samples, knows of much chance. Of that there is little in its region. Of few samples, which may
    all be right, it stays near 1, together with the one before: its logarithm has a normal prior.
    Weights are in units of a sample.
    """
    rows = np.arange(len(y))

    def losses(log_factor):
        proba = LogLoss(None, np.exp(log_factor)).sharpen(outputs)[rows, :, y]
        return -np.log(np.maximum((gates * proba).sum(axis=1), _LEAST_PROBABILITY))

    def surprise(log_factor):
        prior = ((np.log(before) + log_factor) / _SPREAD) ** 2 / 2
        return weight @ losses(log_factor) + prior

    found = minimize_scalar(surprise, bounds=(-1, 3), method="bounded").x
    found = np.round(found, 2)  # what rounding errors do not change
    is_clear = is_clearly_positive(losses(0.0) - losses(found), weight)
    return float(np.exp(found)) if is_clear else 1.0


def _name_experts(experts):
    """Return the names of classes, with a number where they are not the only ones."""
    found = [last_step(expert) for expert in experts]
    names = [type(expert).__name__ for expert in found]
    names = [
        type(last_step(expert.estimator)).__name__ if name == "FrozenEstimator" else name
        for name, expert in zip(names, found, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} {names[:k].count(name) + 1}"
        for k, name in enumerate(names)
    ]


def _fit_expert(problem, expert, X, train, test, seed):
    """Return an expert fitted to some samples; if there are others, what it predicts of these."""
    target = problem.target[train]
    weight = problem.weight[train] if takes_weights(expert) else None
    template = Template(expert, _safe_indexing(X, train), target)
    fitted = template.whole(fit_weighted(template.draw(seed), template.X, target, weight))
    return fitted if test is None else problem.family.predict(fitted, _safe_indexing(X, test))


class _Column(BaseEstimator):
    """Stands for a fitted expert in the EM of a gate, where X is what all experts predict."""

    def __init__(self, index):
        self.index = index

    def fit(self, X, y, sample_weight=None):
        """Nothing is left to fit."""
        return self

    def predict(self, X, y=None):
        """Return what the expert predicts."""
        return X[:, self.index]

    score_samples = predict


class _Known:
    """What is known of samples by experts that were not fitted to them, and gates by it.

    Constant weights stand for a gate as an array.
    """

    def __init__(self, problem, outputs, rows, folds):
        y, weight = problem.y[rows], problem.unit_weight[rows]
        self.weight, self.folds = weight / unit_of(weight), folds[rows] % N_FOLDS
        if problem.family.has_scale:  # the mean of errors by weight is the error of the mean
            errors = y[:, np.newaxis] - outputs
            unit = np.sqrt(np.average(errors**2, axis=0, weights=weight).min())
            self.values, given, family = errors / (unit or 1.0), outputs, problem.family
            self.losses = lambda mixed, rows: mixed[:, 0].square() / 2
        else:
            self.values, family = outputs[np.arange(len(y)), :, y], OwnDensity()
            given = np.log(np.maximum(self.values, _LEAST_PROBABILITY))
            self.losses = lambda mixed, rows: -mixed[:, 0].clamp(min=_LEAST_PROBABILITY).log()
        self.values, self.n_experts = self.values[:, :, np.newaxis], outputs.shape[1]
        experts = tuple(Template(_Column(k), given, y) for k in range(self.n_experts))
        changed = {"max_iter": _MAX_ITER, "tol": _TOL, "min_prior": 0.0, "min_scale": _LEAST_SCALE}
        changed |= {"groups": None, "splits": None, "experts": experts}
        self.em = replace(problem, y=y, target=y, weight=self.weight, family=family, **changed)

    def learn(self, gate, X, seed, *, with_tree):
        """Return a fitted gate, or constant weights; and the gates of samples by other folds.

        The default is linear in the columns, or a tree, where samples of other folds say clearly
        that it is better.
        """
        every = np.arange(len(self.weight))
        if not (gate is None or isinstance(gate, str) or self.n_experts == 1):
            return self._climb([gate], X, every, seed), self._unseen([gate], X, seed)
        encoder, features = None, np.empty((len(every), 0))
        if gate is not None:
            encoder = MaxAbsScaler() if issparse(X) else TableEncoder()
            features = encoder.fit_transform(X)
            features = features.toarray() if issparse(features) else features
        found = fit_router(self.values, self.losses, self.weight, features, self.folds)
        is_linear, linear = found.slopes.any(), found.gates(features[:1])[0]
        if is_linear:
            linear = _as_gate(found, encoder)
        if found.unseen is None or not with_tree:
            return linear, self.gates(linear, X) if found.unseen is None else found.unseen
        # Responsibilities are vague at first, and would be pruned away: a large tree sharpens them.
        tree = default_gates(X, self.weight, self.n_experts)[0]
        trees = [clone(tree), tree]
        last_step(trees[0]).set_params(ccp_alpha=0.0)
        start = found.gates(features) if is_linear else None
        by_tree = self._unseen(trees, X, seed, start)
        losses = (mixed_losses(self.values, self.losses, g) for g in (found.unseen, by_tree))
        gain = np.subtract(*losses)
        # That weights depend on the row is clear if they are linear.
        if is_clearly_positive(gain, self.weight) or (is_linear and self.weight @ gain > 0):
            return self._climb(trees, X, every, seed, start, also_equal=True), by_tree
        return linear, found.unseen

    def _unseen(self, gates, X, seed, start=None):
        """Return the weights of experts by gates that were fitted to samples of other folds."""
        found = np.empty((len(self.folds), self.n_experts))
        for fold in np.unique(self.folds):
            known, new = (np.flatnonzero(part) for part in (self.folds != fold, self.folds == fold))
            if not len(known):  # there is one fold
                known = new
            gate = self._climb(gates, _safe_indexing(X, known), known, seed, start)
            found[new] = self.gates(gate, _safe_indexing(X, new))
        return found

    def _climb(self, gates, X, rows, seed, start=None, *, also_equal=False):
        """Return the last of some gates, fitted to samples by EM, each from where another ended.

        It starts from given gates, or equal ones; of both ways the better one by BIC is taken.
        """
        experts = tuple(Template(e.last, e.X[rows], self.em.y[rows]) for e in self.em.experts)
        parts = {name: getattr(self.em, name)[rows] for name in ("y", "target", "weight")}
        parts["tol"] = _TOL if len(rows) == len(self.folds) else _TOL_OF_FOLDS
        starts, ends = [None if start is None else start[rows]], []
        for shares in [*starts, None] if also_equal and start is not None else starts:
            if shares is None:
                shares = np.full((len(rows), self.n_experts), 1 / self.n_experts)
            for gate in gates:
                template = Template(gate, X, self.em.target[rows])
                problem = replace(self.em, gate=template, experts=experts, init=shares, **parts)
                run = fit_best(problem, [seed])
                shares = run.responsibilities
            price = np.log(parts["weight"].sum()) / 2 * (count_parameters(run.model.gate) or 0)
            ends.append((run.log_likelihood - price, template.whole(run.model.gate)))
        return max(ends, key=lambda end: end[0])[1]

    def gates(self, gate, X):
        """Return the weight of each expert for each sample."""
        if isinstance(gate, np.ndarray):
            gate = np.maximum(gate, _LEAST_WEIGHT)
            return np.tile(gate / gate.sum(), (X.shape[0], 1))
        return np.exp(gate_log_proba(gate, X, self.n_experts))


def _as_gate(found, encoder):
    """Return weights by linear functions of the encoded columns as a fitted classifier."""
    slopes, intercept = found.slopes, found.intercept
    if len(intercept) == 2:  # the scores of the first are 0
        slopes, intercept = slopes[1:] - slopes[:1], intercept[1:] - intercept[:1]
    gate = LogisticRegression()
    gate.classes_, gate.n_features_in_ = np.arange(len(found.intercept)), slopes.shape[1]
    gate.coef_, gate.intercept_, gate.n_iter_ = slopes, intercept, np.ones(1, np.int32)
    return make_pipeline(encoder, gate)


class Stacking:
    """What mixtures have with `method="stack"`."""

    _checked: Any
    _log_gate: Any

    def _check_stack(self):
        """Return the experts of a stack."""
        defaults = type(self)()
        for name in _OF_EM:
            value, default = getattr(self, name), getattr(defaults, name)
            if not np.array_equal(value, default):
                raise ValueError(
                    f"{name}={value!r} has no effect with method='stack', which fits each expert "
                    f"once. Leave it at {default!r}."
                )
        experts, expected = self.estimator, "method='stack' needs a list of estimators"
        if not isinstance(experts, list) or not experts:
            raise ValueError(f"{expected}, got estimator={experts!r}.")
        if self.n_components not in (1, defaults.n_components, len(experts)):
            raise ValueError(
                f"{expected}, one per component, got {len(experts)} and n_components="
                f"{self.n_components!r}. Pass n_components={len(experts)}, or leave it out; 1 "
                "keeps the best one alone."
            )
        return experts

    def _stack_splits(self, X, y, target, groups, random_state):
        """Return a number of folds; equal samples are in one, as a sample of weight 2 is.

        They are not where there would be fewer different ones than folds.
        """
        n_folds, codes = self.cv or N_FOLDS, code_samples(X, y)
        first = np.unique(codes, return_index=True)[1]
        labels = target[first] if is_classifier(self) else np.zeros(len(first))
        if groups is not None or np.unique(labels, return_counts=True)[1].max() < n_folds:
            return self._splits(n_folds, X, target, groups, random_state)
        folds = self._splits(n_folds, first, target[first], None, random_state)
        tests = (np.isin(codes, test) for _, test in folds)
        return [(np.flatnonzero(~test), np.flatnonzero(test)) for test in tests]

    def _adopt_stack(self, X, stack):
        """Make the attributes of a stack."""
        validate_data(self, X, skip_check_array=True)  # names and number of the columns
        for name in ("selection_", "lower_bounds_"):
            self.__dict__.pop(name, None)
        self._family, self._scales = stack.family, stack.scales
        self.experts_, self.expert_kinds_, self.gate_ = stack.experts, stack.names, stack.gate
        self.weights_, self.n_components_ = stack.weights, len(stack.experts)
        self.oof_predictions_, self.oof_gate_proba_ = stack.outputs, stack.gates
        self.log_likelihood_, self.lower_bound_ = stack.log_likelihood, stack.lower_bound
        self.n_parameters_, self.n_iter_, self.converged_ = None, 1, True
        self.scale_ = np.array(stack.scales) if stack.family.has_scale else None
        if not stack.family.has_scale:
            self.classes_, self.sharpness_ = stack.family.classes, stack.family.sharpness
        self._seen = self._outputs(X)
        return self

    def _outputs(self, X):
        """Return what the experts predict, (n_samples, n_experts[, n_classes])."""
        return np.stack([self._family.predict(expert, X) for expert in self.experts_], axis=1)

    @available_if(lambda self: hasattr(self, "oof_predictions_"))
    def out_of_fold(self, X: SamplesLike) -> tuple[np.ndarray, np.ndarray]:
        """Return gates and predictions that did not learn from the sample, with `method="stack"`.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        gates : ndarray of shape (n_samples, n_components)
            Of training samples those by folds; of others, and of samples in no fold,
            `gate_proba`.

        predictions : ndarray of shape (n_samples, n_components[, n_classes])
            Of training samples those by folds, NaN of samples in no fold; of others those of
            `experts_`.
        """
        X = self._checked(X)
        gates, outputs = np.exp(self._log_gate(X)), self._outputs(X).astype(float)
        new, seen = (part.reshape(len(part), -1) for part in (outputs, self._seen))
        unit, place = _SAME * (seen.std() or 1.0), np.arange(len(new))
        if new.shape != seen.shape or np.abs(new - seen).max() > unit:
            place = cKDTree(seen).query(new, distance_upper_bound=unit)[1]
        known = place < len(seen)
        of_folds = self.oof_gate_proba_[place[known]]
        gates[known] = np.where(np.isnan(of_folds), gates[known], of_folds)
        outputs[known] = self.oof_predictions_[place[known]]
        return gates, outputs
