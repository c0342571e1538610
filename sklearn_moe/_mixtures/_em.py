"""Expectation maximization of a mixture, from several starts."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from .._compat import progress_bar
from ._families import Family
from ._newton import refit
from ._weighted import Template, fit_weighted

_SHORT = 10  # iterations of all starts, of which the promising ones go on
_GAP = 0.1  # of log-likelihood per sample, behind the best one, and a run does not go on
_WAIT = 10  # iterations without a new best, where steps do not always climb
_LEAST_GATE = 1e-6  # a tree says 0 where no sample of a leaf belongs to a component
_LEAST_RESPONSIBILITY = 1e-12  # a gate does not see samples of less


@dataclass(frozen=True)
class Problem:
    """What a mixture is fitted to, and how."""

    experts: tuple[Template, ...]  # one per component
    gate: Template | None
    family: Family
    y: np.ndarray  # of classes their codes
    target: np.ndarray  # y as the experts take it
    weight: np.ndarray
    groups: np.ndarray | None  # codes 0, 1, ...
    codes: np.ndarray | None  # of equal samples the same, whatever their order
    splits: list | None  # pairs (train, test) of out-of-fold predictions
    init: str | np.ndarray
    tree: np.ndarray | None  # responsibilities of one more start
    max_iter: int
    tol: float
    min_prior: float
    min_scale: float

    @property
    def unit_weight(self):
        """Return the weights of samples by which a group counts as one sample."""
        return weigh_units(self.weight, self.groups)


def code_samples(X, y):
    """Return a code per sample, the same for equal samples, where X is a table of numbers."""
    if issparse(X):  # equal rows have equal products
        X = (X @ np.random.RandomState(0).uniform(size=X.shape[1]))[:, None]
    X = np.asarray(X)
    if X.dtype.kind not in "biuf":
        return np.arange(len(y))
    return np.unique(np.column_stack([X, y]), axis=0, return_inverse=True)[1].ravel()


def weigh_units(weight, groups):
    """Return the weights of samples by which a group counts as one sample."""
    return weight if groups is None else weight / np.bincount(groups, weight)[groups]


class Model(NamedTuple):
    """A fitted mixture; experts and gate are the last steps of their pipelines."""

    experts: list
    gate: Any
    priors: np.ndarray  # of shape (n_components,)
    scales: list
    is_degenerate: bool  # a scale is at its lower bound


@dataclass(frozen=True)
class Run:
    """Where EM stands: the best model so far, and what is needed to go on."""

    seed: int
    components: np.ndarray  # the indices of those that are left
    responsibilities: np.ndarray
    model: Model | None = None
    log_likelihood: float = -np.inf
    lower_bounds: tuple = ()
    converged: bool = False


def fit_best(problem, seeds, n_jobs=None, verbose=False, name="EM"):
    """Run EM once per seed, the most promising runs to the end, and return the best run."""
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    n_iter = problem.max_iter
    runs = [Run(seed, *start(problem, seed)) for seed in seeds]
    if problem.tree is not None:
        runs.insert(0, Run(seeds[0], runs[0].components, problem.tree))
    short = min(_SHORT, n_iter) if len(runs) > 1 else n_iter
    done = []
    for length in (short, n_iter - short):
        if length and runs:
            done = [run for run in done if run.converged]
            bar = progress_bar(total=len(runs), disable=not verbose, desc=name)
            with bar:
                for run in parallel(delayed(climb)(problem, run, length) for run in runs):
                    done.append(run)
                    bar.update()
            done.sort(key=lambda run: (run.model.is_degenerate, -run.log_likelihood))
            least = done[0].log_likelihood - _GAP * problem.unit_weight.sum()
            runs = [run for run in done if run.log_likelihood >= least and not run.converged]
    return done[0]


def start(problem, seed):
    """Return the indices of the components, and responsibilities to start from."""
    random_state, n_components = check_random_state(seed), len(problem.experts)
    responsibilities = problem.init
    if isinstance(responsibilities, str):
        draw = _lines if problem.init == "lines" else _random
        responsibilities = np.eye(n_components)[draw(problem, random_state)]
    return np.arange(n_components), responsibilities


def _random(problem, random_state):
    """Return a random component per sample, the same for equal ones, or per group."""
    codes = problem.codes if problem.groups is None else problem.groups
    return random_state.randint(len(problem.experts), size=codes.max() + 1)[codes]


def _lines(problem, random_state):
    """Return for each sample the best one of experts that are fitted to few samples each.

    Samples are drawn by places on a line, on which each is as long as its weight: a sample of
    weight 2 is drawn as if it were there twice.
    """
    y, family, order = problem.y, problem.family, problem.codes.argsort(kind="stable")
    ends = np.cumsum(problem.weight[order])
    density = np.empty((len(y), len(problem.experts)))
    for k, expert in enumerate(problem.experts):
        n_drawn = min(expert.X.shape[1] + 2, max(10, int(ends[-1]) // (2 * len(problem.experts))))
        places = random_state.uniform(high=ends[-1], size=n_drawn)
        rows = order[np.searchsorted(ends, places, side="right").clip(max=len(y) - 1)]
        if y.dtype.kind == "i":  # a classifier is to see every class
            rows = np.concatenate([rows, order[np.unique(y[order], return_index=True)[1]]])
        rows, counts = np.unique(rows, return_counts=True)
        part = _safe_indexing(expert.X, rows)
        drawn = expert.draw(random_state.randint(2**31 - 1))
        fitted = fit_weighted(drawn, part, problem.target[rows], counts.astype(float))
        density[:, k] = family.log_density(y, family.predict(fitted, expert.X, y))
    return log_joint(0, density, problem.weight, problem.groups).argmax(axis=1)


def climb(problem, run, max_iter):
    """Return the run after at most so many further iterations."""
    best, stale, bounds = run, 0, list(run.lower_bounds)
    model, components, responsibilities = run.model, run.components, run.responsibilities
    unit_weight, converged = problem.unit_weight, False
    total = unit_weight.sum()
    for _ in range(max_iter):
        alive = _alive(problem, responsibilities)
        if not alive.all():  # what the others fitted before is not compared with
            components, responsibilities = components[alive], _without(responsibilities, ~alive)
            model, best = None, replace(best, log_likelihood=-np.inf)
        # What the first iteration has checked needs no further check.
        with config_context(
            assume_finite=model is not None, skip_parameter_validation=model is not None
        ):
            model, joint = maximize(problem, components, responsibilities, run.seed, model)
        if (odd := ~np.isfinite(joint.max(axis=1))).any():
            raise ValueError(
                f"{odd.sum()} of {len(odd)} samples have no finite log density by any component, "
                f"the first one has y={problem.target[odd][0]}. Leave out such samples, or let a "
                "family of your own return finite numbers for them."
            )
        responsibilities, log_density = posterior(joint)
        likelihood = float(unit_weight @ log_density)
        bounds.append(likelihood / total)
        gain = (likelihood - best.log_likelihood) / total
        if gain > 0:
            best = Run(run.seed, components, responsibilities, model, likelihood)
        stale = 0 if gain > problem.tol else stale + 1
        converged = abs(gain) <= problem.tol or stale >= _WAIT
        if converged:
            break
    return replace(best, lower_bounds=tuple(bounds), converged=converged)


def _alive(problem, responsibilities):
    """Tell which components have a share of `min_prior` at least."""
    shares = problem.unit_weight @ responsibilities / problem.unit_weight.sum()
    alive = (shares >= problem.min_prior) & (shares > 0)
    if not alive.any():
        raise ValueError(
            f"All components have shares below min_prior={problem.min_prior}: the largest of "
            f"{len(shares)} is {shares.max():.3g}. Lower min_prior or n_components."
        )
    return alive


def _without(responsibilities, dead):
    """Return responsibilities without some components; the others share what those had."""
    left = responsibilities[:, ~dead]
    total = left.sum(axis=1, keepdims=True)
    return np.divide(left, total, out=np.full_like(left, 1 / left.shape[1]), where=total > 0)


def maximize(problem, components, responsibilities, seed, before=None, experts=None):
    """Return the model that fits these responsibilities best, and the log joint density.

    Fitted experts, if they are given, stay as they are.
    """
    family, y, priors = problem.family, problem.y, problem.unit_weight @ responsibilities
    priors /= priors.sum()
    given, experts, scales, predictions = experts, [], [], []
    for k, component in enumerate(components):
        template, weight = problem.experts[component], problem.weight * responsibilities[:, k]
        if given:
            fitted = given[k]
        else:
            expert = before.experts[k] if before else template.draw(seed + int(component))
            fitted = fit_weighted(expert, template.X, problem.target, weight)
        prediction = family.predict(fitted, template.X, y)
        for train, test in problem.splits or ():
            if not weight[train].any():  # the expert of all samples stands in for it
                continue
            part = [_safe_indexing(template.X, rows) for rows in (train, test)]
            fold = fit_weighted(expert, part[0], problem.target[train], weight[train])
            prediction[test] = family.predict(fold, part[1], y[test])
        experts.append(fitted)
        predictions.append(prediction)
        scales.append(family.fit_scale(y, prediction, weight))
    is_degenerate = False
    if family.has_scale:
        scales = [max(scale, family.least_scale(y)) for scale in scales]
        lowest = problem.min_scale * max(scales)
        is_degenerate = min(scales) < lowest
        scales = [max(scale, lowest) for scale in scales]
    gate, log_gate = _fit_gate(problem, responsibilities, priors, seed, before and before.gate)
    density = np.column_stack([*map(family.log_density, [y] * len(scales), predictions, scales)])
    joint = log_joint(log_gate, density, problem.weight, problem.groups)
    return Model(experts, gate, priors, scales, is_degenerate), joint


def _fit_gate(problem, responsibilities, priors, seed, before):
    """Return the gate, None for constant priors, and the logarithm of its probabilities."""
    template, n_components = problem.gate, len(priors)
    if template is None or n_components == 1:
        return None, np.log(priors)

    gate = template.draw(seed) if before is None else before

    def fit(rows):
        # Each sample once per component that it may belong to.
        weight = problem.unit_weight[rows, None] * responsibilities[rows]
        places, labels = np.nonzero(responsibilities[rows] > _LEAST_RESPONSIBILITY)
        parts = _safe_indexing(template.X, rows[places]), labels, weight[places, labels]
        return refit(gate, *parts) or fit_weighted(gate, *parts)

    fitted = fit(np.arange(len(problem.y)))
    log_gate = gate_log_proba(fitted, template.X, n_components)
    for train, test in problem.splits or ():
        part = _safe_indexing(template.X, test)
        log_gate[test] = gate_log_proba(fit(train), part, n_components)
    return fitted, log_gate


def gate_log_proba(gate, X, n_components):
    """Return the logarithm of the probability of each component, none of them quite 0."""
    proba = np.zeros((X.shape[0], n_components))
    proba[:, gate.classes_] = gate.predict_proba(X)
    proba = proba.clip(min=_LEAST_GATE)
    return np.log(proba / proba.sum(axis=1, keepdims=True))


def posterior(joint):
    """Return the responsibilities and the log density, as SciPy's softmax and logsumexp would."""
    highest = joint.max(axis=1, keepdims=True)
    parts = np.exp(joint - highest)
    total = parts.sum(axis=1, keepdims=True)
    return parts / total, (highest + np.log(total))[:, 0]


def log_joint(log_gate, density, weight, groups):
    """Return log(gate x density) of each sample and component.

    All samples of a group have that of the group: the product of their densities, as often as their
    weights say, times the mean of their gates.
    """
    if groups is None:
        return log_gate + density
    weight = weight[:, None]
    sums = [np.zeros((groups.max() + 1, density.shape[1])) for _ in range(3)]
    for total, part in zip(sums, (weight * density, weight * log_gate, weight), strict=True):
        np.add.at(total, groups, part)
    of_density, of_gate, of_weight = sums
    return (of_density + of_gate / of_weight)[groups]
