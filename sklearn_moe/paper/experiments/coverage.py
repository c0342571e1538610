"""How many experts it takes until every cluster has one, and whether their start decides which."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from .._dynamics import LIVE
from .._experiment import Experiment, Finding
from .._statistics import Interval, mean_interval
from ._theory import COLORS, covered_by_chance, expected_covered
from .models import TRACE, mixture, problem

__all__ = ["Commitments", "commitments", "coverage"]

_EXPERTS = (4, 6, 8, 12, 16, 24, 32)


def coverage(protocol="code", data="fixed"):
    """Return nonlinear mixtures of 4 to 32 experts on setting 1."""
    return Experiment(
        name="coverage",
        title="How many experts cover the clusters",
        question=(
            "How many experts does it take until each of four clusters has one, as many as if "
            "experts committed to clusters at random (the coupon collector: Theorem 4.2 asks for "
            "K log K of them), and does the initialization decide which expert takes which "
            "cluster? A cluster is covered if most samples of some expert are from it; an expert "
            f"with less than {100 * LIVE:g} % of the samples is unused. Setting 1, 4,000 samples "
            "to train on."
        ),
        problems=(problem(1, data, n_train=4000, n_test=4000),),
        # Models, not a grid: in the paper's form the router's rate goes with their number, too.
        models={f"{m} experts": mixture(protocol, True, n_experts=m) for m in _EXPERTS},
        max_runs=10,
        trace=TRACE,
        draw=_draw,
        findings=_findings,
    )


class Commitments(NamedTuple):
    """Which cluster each expert of a run has taken.

    Attributes
    ----------
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

    used: np.ndarray
    cluster: np.ndarray
    covered: int
    start: float
    end: float


def commitments(run):
    """Return the :class:`Commitments` of a run."""
    routing = np.array(run["routing"], dtype=float)  # (K, M)
    samples = routing.sum(0)
    used = samples >= LIVE * samples.sum()
    taken = used & (routing.max(0) > samples / 2)
    cluster = np.where(taken, routing.argmax(0), -1)
    agreements = (
        float((np.argmax(run[name], axis=1) == cluster)[taken].mean()) if taken.any() else np.nan
        for name in ("initial_features", "expert_features")
    )
    return Commitments(used, cluster, len(np.unique(cluster[taken])), *agreements)


def _alignment(run, used):
    """Return the mean of the strongest |<theta_m, c_k>| and |<theta_m, v_k>| over used experts."""
    return tuple(
        float(np.abs(np.array(run[name])[used]).max(1).mean())
        for name in ("router_centers", "router_features")
    )


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
    yield _unused(groups)
    yield _decided_at_start(groups, n_clusters)
    yield _centers(groups)


def _coverage_findings(groups, n_clusters):
    """Yield what is covered, and what random commitments would cover, by number of experts."""
    for n_experts, runs in groups.items():
        covered = np.array([taken.covered for _, taken in runs])
        chance = expected_covered(n_clusters, n_experts)
        full = int((covered == n_clusters).sum())
        low, high = binomtest(full, len(runs)).proportion_ci(method="wilson")
        yield Finding(
            f"{n_experts} experts cover {covered.mean():.2f} of {n_clusters} clusters, all of them "
            f"in {full} of {len(runs)} runs (95 % interval {low:.2f} to {high:.2f}); random "
            f"commitments cover {chance:.2f}, all with probability "
            f"{covered_by_chance(n_clusters, n_experts):.2f}."
        )
    few, many = min(groups), max(groups)
    least, most = (np.array([run["accuracy"] for run, _ in groups[m]]) for m in (few, many))
    gain = mean_interval(most - least)  # paired by seed
    yield Finding(
        f"More experts than clusters help: {most.mean():.2f} % with {many} experts, "
        f"{least.mean():.2f} % with {few}, {gain.mean:.2f} points more ({gain.text(2)}).",
        gain.above(0),
    )


def _unused(groups):
    counts = ", ".join(
        f"{np.mean([(~taken.used).sum() for _, taken in runs]):.1f} of {n_experts}"
        for n_experts, runs in groups.items()
    )
    return Finding(f"Unused experts on average: {counts}.")


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


def _decided_at_start(groups, n_clusters):
    """Compare with chance."""
    start = _over_seeds(groups, lambda run, taken: 100 * taken.start)
    end = _over_seeds(groups, lambda run, taken: 100 * taken.end)
    return Finding(
        f"The initialization has a say: {start.mean:.0f} % ({start.text(0)}) of the experts that "
        "took a cluster took that of the feature which was their strongest before training; "
        f"{100 / n_clusters:.0f} % would by chance. After training it is their strongest feature "
        f"for {end.mean:.0f} %.",
        start.above(100 / n_clusters),
    )


def _centers(groups):
    """Put to the test that the router learns centers, not features."""
    logs = _over_seeds(groups, lambda run, taken: np.log(np.divide(*_alignment(run, taken.used))))
    ratio = Interval(*np.exp(logs))
    return Finding(
        "The router learns the centers of the clusters, not the features: the strongest "
        f"|<theta_m, c_k>| is {ratio.mean:.1f} times ({ratio.text(1)}) the strongest "
        "|<theta_m, v_k>|, mean over used experts.",
        ratio.above(1),
    )


def _draw(results):
    from matplotlib.figure import Figure

    groups = _by_experts(results)
    n_clusters = len(results.cells[0].runs[0]["routing"])
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    (covered, complete, accuracy), (entropy, unused, start) = figure.subplots(2, 3)

    _draw_runs(covered, groups, lambda run, taken: taken.covered)
    fine = np.arange(min(groups), max(groups) + 1)
    chance = {"color": "black", "linestyle": "--", "label": "if experts committed at random"}
    covered.plot(fine, [expected_covered(n_clusters, m) for m in fine], **chance)
    covered.set_ylabel("clusters covered")
    covered.yaxis.get_major_locator().set_params(integer=True)

    shares = [np.mean([taken.covered == n_clusters for _, taken in g]) for g in groups.values()]
    complete.plot(list(groups), shares, "o-", color=COLORS[0])
    complete.plot(fine, [covered_by_chance(n_clusters, m) for m in fine], **chance)
    complete.set_ylabel("share of the runs that cover all")
    complete.set_ylim(-0.05, 1.05)

    _draw_runs(accuracy, groups, lambda run, taken: run["accuracy"])
    accuracy.set_ylabel("test accuracy (%)")
    _draw_runs(entropy, groups, lambda run, taken: run["entropy"])
    entropy.set_ylabel("dispatch entropy (nats)")
    _draw_runs(unused, groups, lambda run, taken: (~taken.used).mean())
    unused.set_ylabel("share of unused experts")
    _draw_runs(start, groups, lambda run, taken: taken.start)
    start.axhline(1 / n_clusters, **chance)
    start.set_ylabel("share decided by the start")
    start.set_ylim(-0.05, 1.05)
    for ax in figure.axes:
        _scale(ax, list(groups))
    handles, labels = covered.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_runs(ax, groups, measure):
    """Draw runs as dots, and their mean as a line."""
    values = [[measure(*run) for run in runs] for runs in groups.values()]
    of_experts = np.repeat(list(groups), [len(of_runs) for of_runs in values])
    ax.plot(of_experts, np.concatenate(values), ".", color=COLORS[5], alpha=0.6, label="one run")
    means = [_mean(of_runs) for of_runs in values]
    ax.plot(list(groups), means, "o-", color=COLORS[0], label="mean of the runs")


def _scale(ax, numbers):
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(number) for number in numbers])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of experts")
    ax.grid(color="0.9")
