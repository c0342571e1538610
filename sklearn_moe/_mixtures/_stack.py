"""A stack: experts that are fitted to all samples, and a gate by what they predict of others."""

from dataclasses import replace
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from scipy.optimize import minimize_scalar
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from .._compat import numbered
from .._data.router import N_FOLDS, fit_router, is_clearly_positive, mixed_losses
from .._data.tables import draw_rows, hash_rows
from .._data.validation import as_row_counts
from .._threads import threads_for
from .._validation import last_step
from ._defaults import MOST_ROWS, default_gates, make_scaler
from ._em import (
    Run,
    climb,
    code_samples,
    complete,
    gate_shares,
    log_densities,
    log_shares,
    posterior,
    without_negligible,
)
from ._families import LEAST_PROBABILITY, LogLoss, predict_known
from ._weighted import LARGEST_SEED, Template, fit_weighted, takes_weights

_OF_EM = "family n_init max_iter tol min_prior".split()


def refuse_changed(mixture, names, why):
    """Refuse parameters that have no effect, unless they are left at their defaults."""
    defaults = type(mixture)()
    for name in names:
        value, default = getattr(mixture, name), getattr(defaults, name)
        if not np.array_equal(value, default):
            raise ValueError(f"{name}={value!r} has no effect {why}. Leave it at {default!r}.")


def models_of(models):
    """Return the models of a list, in which some may be pairs of a name and a model."""
    return [model[1] if isinstance(model, tuple) else model for model in models]


def check_stack(mixture):
    """Return the experts of a stack."""
    refuse_changed(mixture, _OF_EM, "with method='stack', which fits each expert once")
    experts = mixture.estimator
    expected = "method='stack' needs a list of estimators, or of pairs of names and estimators"
    if not isinstance(experts, list) or not experts:
        raise ValueError(f"{expected}, got estimator={experts!r}.")
    mixture._validate_names([model[0] for model in experts if isinstance(model, tuple)])
    experts = models_of(experts)
    if mixture.n_components not in (1, type(mixture)().n_components, len(experts)):
        raise ValueError(
            f"{expected}, one per component, got {len(experts)} and n_components="
            f"{mixture.n_components!r}. Pass n_components={len(experts)}, or leave it out."
        )
    return experts


def fit_stack(mixture, problem, experts, random_state):
    """Return family, scales and other attributes of a fitted stack.

    Experts are fitted to all samples, and a gate to what others, without a fold, predict of it.
    """
    for expert in experts:
        if np.ptp(problem.weight) and not takes_weights(expert):
            raise ValueError(
                f"estimator={expert!r} was given sample_weight, which its `fit` does not take. Use "
                "estimators whose `fit` does, or no weights."
            )
    splits = _split(mixture, problem, random_state)
    if is_classifier(mixture) and not all(np.ptp(problem.y[train]) for train, _ in splits):
        raise ValueError(
            "A fold holds all samples of a class, so that others hold one class only. Pass cv= or "
            "groups whose folds leave samples of two classes or more."
        )
    seed = random_state.randint(LARGEST_SEED)
    fitted, outputs, folds = _fit_experts(problem, splits, experts, seed, mixture.n_jobs)
    rows = np.flatnonzero(folds >= 0)
    names = _name_experts(mixture.estimator)
    # scikit-learn's checks set it.
    if mixture.n_components == 1:
        best = _GateLearner(problem, outputs, rows, folds).best_alone()
        fitted, names, outputs = [fitted[best]], [names[best]], outputs[:, [best]]
    if isinstance(mixture.gate, str):
        # Few rows of a wide table hold many numbers.
        n_rows = min(MOST_ROWS, 2**22 // problem.X.shape[1] + 1)
        rows = rows[draw_rows(len(rows), n_rows)]
    family = problem.family
    learner = _GateLearner(problem, outputs, rows, folds)
    learner.learn(mixture.gate, seed)
    if not family.has_scale:
        family = LogLoss(family.classes, _find_sharpness(learner))
        outputs = family.sharpen(outputs)
        if family.sharpness != 1:
            learner = _GateLearner(problem, outputs, rows, folds)
            learner.learn(mixture.gate, seed)
    gates = learner.gates(learner.gate, learner.X)
    weights = np.average(gates, axis=0, weights=learner.weight)
    scales = np.full(len(fitted), np.nan)
    if family.has_scale:
        squares = gates * (learner.y[:, np.newaxis] - learner.outputs) ** 2
        scales = np.sqrt(np.average(squares, axis=0, weights=learner.weight) / weights)
        scales = family.bound_scales(learner.y, scales)[0]
    density = log_densities(family, learner.y, outputs[rows].swapaxes(0, 1), scales)
    log_density = posterior(log_shares(learner.unseen) + density)[1]
    gates_of_folds = np.full((len(folds), len(fitted)), np.nan)
    gates_of_folds[rows] = learner.unseen
    attributes = {
        "experts_": fitted,
        "expert_kinds_": names,
        "gate_": None if isinstance(learner.gate, np.ndarray) else learner.gate,
        "weights_": weights,
        "oof_predictions_": outputs,
        "oof_gate_proba_": gates_of_folds,
        "log_likelihood_": float(problem.unit_weight[rows] @ log_density),
        "lower_bound_": float(np.average(log_density, weights=learner.weight)),
        "n_parameters_": None,
        "n_iter_": 1,
        "converged_": True,
        "_seen": hash_rows(problem.X),
    }
    if not family.has_scale:
        attributes["sharpness_"] = family.sharpness
    return family, [*scales], attributes


def _split(mixture, problem, random_state):
    """Return pairs (train, test) of indices.

    Of a number of folds equal samples are in one, as a sample of weight 2 is, unless there are
    fewer different ones than folds.
    """
    cv, target, groups = mixture.cv, problem.target, problem.groups
    if problem.splits is not None:
        splits = [split for split in problem.splits if len(split[1])]
        is_complete = bool(splits) and all(len(train) for train, _ in splits)
        if not is_complete or np.bincount(np.concatenate([test for _, test in splits])).max() > 1:
            raise ValueError(
                f"cv={cv!r} must have samples to fit in every fold, and predict none of them in "
                "several folds, as KFold or GroupKFold. Samples of weight 0 are left out before."
            )
        return splits
    n_folds = cv or N_FOLDS
    seed = random_state.randint(LARGEST_SEED)
    if groups is not None:
        n_groups = groups.max() + 1
        if n_groups < (cv or 2):
            raise ValueError(
                f"A stack with cv={cv} needs {cv or 2} groups or more, as the samples of a group "
                f"are in one fold, got {n_groups}. Use fewer folds, or no groups."
            )
        return [*GroupKFold(min(n_folds, n_groups)).split(target, target, groups)]
    codes = code_samples(problem.X, problem.y)
    first = np.unique(codes, return_index=True)[1]
    kind, largest = KFold, len(first)
    if is_classifier(mixture):
        kind, largest = StratifiedKFold, np.unique(target[first], return_counts=True)[1].max()
    if largest < n_folds:
        codes = first = np.arange(len(target))
    splits = kind(n_folds, shuffle=True, random_state=seed).split(first, target[first])
    tests = [np.isin(codes, test) for _, test in splits]
    return [(np.flatnonzero(~test), np.flatnonzero(test)) for test in tests]


def find_samples(hashes, seen):
    """Tell which samples are training samples, and return the places of these, by their hashes.

    The second of equal samples is the second of those of the training, and so on.
    """
    order = seen.argsort(kind="stable")
    first, end = (np.searchsorted(seen[order], hashes, side) for side in ("left", "right"))
    of_new = hashes.argsort(kind="stable")
    number = np.empty(len(hashes), int)
    number[of_new] = np.arange(len(hashes)) - np.searchsorted(hashes[of_new], hashes[of_new])
    is_known = end > first
    return is_known, order[(first + number % np.maximum(end - first, 1))[is_known]]


def _fit_experts(problem, splits, experts, seed, n_jobs):
    """Return experts of all samples, what those without a fold predict of it, and the folds.

    Samples that are in no fold have NaN, and the fold -1.
    """
    n_experts = len(experts)
    n_samples = len(problem.y)
    parts = [(np.arange(n_samples), None), *splits]
    jobs = [(k, train, test) for train, test in parts for k in range(n_experts)]
    done = Parallel(n_jobs)(
        delayed(_fit_expert)(problem, experts[k], train, test, seed + k)
        for k, train, test in numbered("model", jobs)
    )
    outputs = np.full((n_samples, n_experts, *done[-1].shape[1:]), np.nan)
    folds = np.full(n_samples, -1)
    for number in range(n_experts, len(jobs)):
        k, _, test = jobs[number]
        outputs[test, k] = done[number]
        folds[test] = number // n_experts - 1
    return done[:n_experts], outputs, folds


def _fit_expert(problem, expert, train, test, seed):
    """Return an expert fitted to some samples; if there are others, what it predicts of these."""
    target = problem.target[train]
    weight = problem.weight[train] if takes_weights(expert) else None
    template = Template(expert, _safe_indexing(problem.X, train), target)
    fitted = template.whole(fit_weighted(template.draw(seed), template.X, target, weight))
    if test is None:
        return fitted
    part = _safe_indexing(problem.X, test)
    return predict_known(problem.family, fitted, part)


def _find_sharpness(learner):
    """Return the factor of the logits of experts by which their mixture has the least loss.

    1 if that gains nothing clear. A model that is right in its region alone, and is fitted to all
    samples, knows of much chance. Of that there is little in its region.
    """
    rows = np.arange(len(learner.y))

    def losses(log_factor):
        proba = LogLoss(None, np.exp(log_factor)).sharpen(learner.outputs)[rows, :, learner.y]
        return -np.log(np.maximum((learner.unseen * proba).sum(axis=1), LEAST_PROBABILITY))

    def negative_log_density(log_factor):
        # Of few samples, which may all be right, it stays near 1.
        return learner.weight @ losses(log_factor) + (log_factor / 0.5) ** 2 / 2

    # Two digits do not depend on rounding errors.
    best = np.round(minimize_scalar(negative_log_density, bounds=(-1, 3), method="bounded").x, 2)
    is_clear = is_clearly_positive(losses(0.0) - losses(best), learner.weight)
    return float(np.exp(best)) if is_clear else 1.0


def _name_experts(models):
    """Return the given names of models, or those of classes; numbered where there are several."""
    names = []
    for model, expert in zip(models, map(last_step, models_of(models)), strict=True):
        if type(expert).__name__ == "FrozenEstimator":
            expert = last_step(expert.estimator)
        names.append(model[0] if isinstance(model, tuple) else type(expert).__name__)
    return [
        name if names.count(name) == 1 else f"{name} {names[:k].count(name) + 1}"
        for k, name in enumerate(names)
    ]


class _GateLearner:
    """Learns a gate from what experts predict of samples that they were not fitted to.

    Attributes
    ----------
    gate : estimator or ndarray of shape (n_experts,)
        Or constant weights.

    unseen : ndarray of shape (n_samples, n_experts)
        Gates of the samples by those of other folds.
    """

    def __init__(self, problem, outputs, rows, folds):
        weight = problem.unit_weight[rows]
        self.X = _safe_indexing(problem.X, rows)
        self.y = problem.y[rows]
        self.weight = as_row_counts(weight)
        self.outputs = outputs[rows]
        self.folds = folds[rows] % N_FOLDS
        self.family = problem.family
        self.problem = problem
        self.n_experts = outputs.shape[1]
        if self.family.has_scale:
            # The mean of the errors by weight is the error of the mean.
            errors = self.y[:, np.newaxis] - self.outputs
            unit = np.sqrt(np.average(errors**2, axis=0, weights=weight).min())
            values = errors / (unit or 1.0)
            self.losses = lambda mixed, rows: mixed[:, 0].square() / 2
        else:
            values = self.outputs[np.arange(len(self.y)), :, self.y]
            self.losses = lambda mixed, rows: -mixed[:, 0].clamp(min=LEAST_PROBABILITY).log()
        self.values = values[:, :, np.newaxis]

    def best_alone(self):
        """Return the expert that has the least loss alone."""
        alone = [np.tile(gate, (len(self.weight), 1)) for gate in np.eye(self.n_experts)]
        losses = [mixed_losses(self.values, self.losses, gates) for gates in alone]
        return int(np.argmin([self.weight @ loss for loss in losses]))

    def learn(self, gate, seed):
        """Learn a gate. The default is that of `fit_router`, or a tree.

        A tree is chosen where samples of other folds say clearly that it is better.
        """
        every = np.arange(len(self.weight))
        if not (gate is None or isinstance(gate, str) or self.n_experts == 1):
            self.gate = self._fit_by_em([gate], every, seed)
            self.unseen = self._predict_folds([gate], seed)
            return
        encoder, features = None, np.empty((len(every), 0))
        if gate is not None:
            weights = {} if issparse(self.X) else {"sample_weight": self.weight}
            encoder = make_scaler(self.X).fit(self.X, **weights)
            features = encoder.transform(self.X)
            # Many categories are sparse columns, too.
            features = features.toarray() if issparse(features) else features
        # Torch computes the losses.
        with threads_for(0, "openmp"):
            router = fit_router(self.values, self.losses, self.weight, features, self.folds)
        is_linear = router.slopes.any()
        self.gate = _as_gate(router, encoder) if is_linear else router.gates(features[:1])[0]
        self.unseen = router.unseen
        if router.unseen is None:
            self.unseen = self.gates(self.gate, self.X)
        else:
            self._try_tree(router.gates(features) if is_linear else None, seed)

    def _try_tree(self, start, seed):
        """Take a tree as gate where it is clearly better."""
        # Responsibilities are vague at first, and would be pruned away: a large tree sharpens them.
        tree = default_gates(self.X, self.weight, self.n_experts)[0]
        large = clone(tree)
        last_step(large).set_params(ccp_alpha=0.0)
        unseen = self._predict_folds([large, tree], seed, start)
        before = mixed_losses(self.values, self.losses, self.unseen)
        gain = before - mixed_losses(self.values, self.losses, unseen)
        # That weights depend on the row is clear if they are linear.
        is_better = start is not None and self.weight @ gain > 0
        if is_better or is_clearly_positive(gain, self.weight):
            self.gate = self._fit_by_em([large, tree], np.arange(len(self.weight)), seed, start)
            self.unseen = unseen

    def _predict_folds(self, gates, seed, start=None):
        """Return the weights of experts by gates that were fitted to samples of other folds."""
        weights = np.empty((len(self.folds), self.n_experts))
        for fold in np.unique(self.folds):
            is_new = self.folds == fold
            # There may be one fold only.
            known = np.flatnonzero(~is_new | is_new.all())
            gate = self._fit_by_em(gates, known, seed, start)
            weights[is_new] = self.gates(gate, _safe_indexing(self.X, np.flatnonzero(is_new)))
        return weights

    def _fit_by_em(self, gates, rows, seed, start=None):
        """Return the last of some gates, fitted to samples by EM, each from where another ended.

        The experts stay as they are. It starts from given gates, or equal ones.
        """
        X, y, weight = _safe_indexing(self.X, rows), self.y[rows], self.weight[rows]
        predictions = self.outputs[rows].swapaxes(0, 1)
        problem = replace(self.problem, y=y, target=y, weight=weight, groups=None)
        equal = np.full((len(rows), self.n_experts), 1 / self.n_experts)
        run = Run(np.arange(self.n_experts), equal if start is None else start[rows])

        def step(components, responsibilities, model):
            gate = template.draw(seed) if model is None else model.gate
            return complete(problem, [], predictions, responsibilities, gate)

        # The gates of the folds may be less exact.
        tol = 1e-5 if len(rows) == len(self.y) else 1e-4
        find_alive = partial(np.ones_like, dtype=bool)
        for gate in gates:
            template = Template(gate, X, y, weight)
            problem = replace(problem, gate=template)
            run = Run(run.components, run.responsibilities)
            run = climb(run, step, find_alive, weight, max_iter=200, tol=tol)
        return template.whole(run.model.gate)

    def gates(self, gate, X):
        """Return the weight of each expert for each sample."""
        if isinstance(gate, np.ndarray):
            return np.tile(without_negligible(gate), (X.shape[0], 1))
        return gate_shares(gate, X, self.n_experts)


def _as_gate(router, encoder):
    """Return weights by linear functions of the encoded columns as a fitted classifier."""
    slopes, intercept = router.slopes, router.intercept
    gate = LogisticRegression().fit(np.zeros(slopes.shape), np.arange(len(slopes)))
    # Of two experts the scores of the first are 0.
    if len(intercept) == 2:
        slopes, intercept = slopes[1:] - slopes[:1], intercept[1:] - intercept[:1]
    gate.coef_, gate.intercept_ = slopes, intercept
    return make_pipeline(encoder, gate)
