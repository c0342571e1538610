"""How many experts it takes until every cluster has one, and whether their start decides which."""

from collections import namedtuple
from math import comb

import numpy as np
from scipy.stats import binomtest

from .._experiment import Finding
from .._protocols import paper_classifier
from .._run import LIVE, MATRICES, used_experts
from .._statistics import holm, mean_interval, p_text, share_interval
from .common import TRACE, better, experiment, problems
from .drawing import draw_curves, labelled, legend, log_scale, panels

_EXPERTS = (4, 6, 8, 12, 16, 24, 32)


def coverage(protocol="code", data="fixed"):
    """Return nonlinear mixtures of 4 to 32 experts on setting 1.

    How many experts does it take until each of four clusters has one, as many as if experts
    committed to clusters at random (the coupon collector: Theorem 4.2 asks for K log K of them),
    and does the initialization decide which expert takes which cluster? A cluster is covered if
    most samples of some expert are from it; an expert with less than {live:g} % of the samples is
    unused. Setting 1, 4,000 samples to train on.
    """
    return experiment(
        coverage,
        "How many experts cover the clusters",
        {"live": 100 * LIVE},
        problems=problems((1,), data, n_train=4000, n_test=4000),
        # Models, not a grid: in the paper's form the router's rate goes with their number, too.
        models={f"{m} experts": paper_classifier(protocol, n_experts=m) for m in _EXPERTS},
        trace=TRACE,
        kept=("load", "routing", "initial_features", *MATRICES),
        draw=_draw,
        findings=_findings,
    )


def covered_by_chance(n_clusters, n_experts):
    """Return the probability that experts which commit at random cover all clusters.

    The coupon collector's, by inclusion and exclusion.
    """
    return sum(
        (-1) ** j * comb(n_clusters, j) * (1 - j / n_clusters) ** n_experts
        for j in range(n_clusters + 1)
    )


def expected_covered(n_clusters, n_experts):
    """Return how many clusters experts that commit at random cover on average."""
    return n_clusters * (1 - (1 - 1 / n_clusters) ** n_experts)


Commitments = namedtuple("Commitments", "used cluster covered start end")


def commitments(run):
    """Return which cluster each expert of a run has taken.

    Returns
    -------
    used : ndarray of bool of shape (n_experts,)
        Whether the expert has at least the share `LIVE` of the samples.
    cluster : ndarray of int of shape (n_experts,)
        The cluster of most of its samples, -1 where none has more than half of them or the
        expert is unused.
    covered : int
        Number of clusters that some expert has taken.
    start : float
        Share of the experts that took a cluster whose largest inner product with a feature was,
        before training, with that of this very cluster; NaN where none took one. The gradient of
        z^3 is even in z, so that the class of a filter decides to which side it grows: only a
        start on that side counts.
    end : float
        Share of those whose strongest feature is that of their cluster after training.
    """
    routing = np.array(run["routing"], dtype=float)  # (K, M)
    used = used_experts(routing)
    taken = used & (routing.max(0) > routing.sum(0) / 2)
    cluster = np.where(taken, routing.argmax(0), -1)
    agreements = (
        float((np.argmax(run[name], axis=1) == cluster)[taken].mean()) if taken.any() else np.nan
        for name in ("initial_features", "expert_features")
    )
    return Commitments(used, cluster, len(np.unique(cluster[taken])), *agreements)


def _by_experts(results):
    """Return runs and their commitments by number of experts."""
    return {
        len(cell.runs[0]["load"]): [(run, commitments(run)) for run in cell.runs]
        for cell in results.cells
    }


def _findings(results):
    groups = _by_experts(results)
    n_clusters = len(results.cells[0].runs[0]["routing"])
    yield from _coverage_findings(groups, n_clusters)
    few, *_, many = results.cells
    text = (
        f"More experts than clusters help: {many.mean('accuracy'):.2f} % with {max(groups)} "
        f"experts, {few.mean('accuracy'):.2f} % with {min(groups)},"
    )
    yield better(text, many, few, "points more")
    start = _over_seeds(groups, lambda run, taken: 100 * taken.start)
    end = _over_seeds(groups, lambda run, taken: 100 * taken.end)
    yield Finding(
        f"The initialization has a say: {start.with_mean(0, '%')} of the experts that took a "
        "cluster took that of the feature which was their strongest before training; "
        f"{100 / n_clusters:.0f} % would by chance. After training it is their strongest feature "
        f"for {end.mean:.0f} %.",
        start.above(100 / n_clusters),
    )


def _coverage_findings(groups, n_clusters):
    """Yield what is covered, and what random commitments would cover, by number of experts."""
    covered = {m: np.array([taken.covered for _, taken in runs]) for m, runs in groups.items()}
    tests = [
        binomtest(int((found == n_clusters).sum()), len(found), covered_by_chance(n_clusters, m))
        for m, found in covered.items()
    ]
    p = holm(test.pvalue for test in tests)
    for test, corrected, (m, found) in zip(tests, p, covered.items(), strict=True):
        yield Finding(
            f"{m} experts cover {found.mean():.2f} of {n_clusters} clusters, all of them in "
            f"{test.k} of {test.n} runs ({share_interval(test.k, test.n).text(2)}, uncorrected); "
            f"random commitments cover {expected_covered(n_clusters, m):.2f}, all with probability "
            f"{covered_by_chance(n_clusters, m):.2f} ({p_text(corrected)} by Holm's correction for "
            f"{len(p)} tests)."
        )


def _mean(values):
    """Return the mean of what is known: a run in which no expert took a cluster has no start."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _over_seeds(groups, measure):
    """Return mean and interval of a measure; a seed is one observation, of all its runs together.

    Experts of a run are trained together, and runs of a seed may share their data.
    """
    return mean_interval(
        [_mean([measure(*run) for run in runs]) for runs in zip(*groups.values(), strict=True)]
    )


def _draw(results):
    groups = _by_experts(results)
    n_clusters = len(results.cells[0].runs[0]["routing"])
    figure, axes = panels(1, 3, (11, 3.8), grid="both")
    curves = {  # label of the axis: measure of a run, what it would be by chance
        "clusters covered": (lambda taken: taken.covered, expected_covered),
        "share decided by the start": (lambda taken: taken.start, lambda k, m: 1 / k),
        "share of unused experts": (lambda taken: (~taken.used).mean(), None),
    }
    for ax, (label, (measure, by_chance)) in zip(axes[0], curves.items(), strict=True):
        values = [[measure(taken) for _, taken in runs] for runs in groups.values()]
        draw_curves(ax, list(groups), {"mean and 95 % interval of the runs": values})
        if by_chance:
            chance = [by_chance(n_clusters, m) for m in groups]
            ax.plot(list(groups), chance, "--k", label="if experts committed at random")
        log_scale(ax, list(groups), str)
        ax.set(xlabel="number of experts", ylabel=label)
    return legend(figure, labelled(axes[0, 0]))
