"""Theorem 4.2, statement by statement, and what its proof says of the routing early on."""

from collections import namedtuple

import numpy as np

from .._artificial_runs import GOOD, WAYS, EarlyRouting, TheoremRun
from .._experiment import Finding
from .._protocols import paper_classifier
from .._run import LIVE, Problem, used_experts
from .._statistics import mean_interval, share_interval
from .common import experiment
from .coverage import covered_by_chance
from .drawing import COLORS, legend, mark, panels

_NEAR = 1.0  # percent: what counts as an error near 0
_GROWN = (10, 50, 200)  # times what <w, v_k> was at the start; the second ends the exploration


_MODELS = {
    "8 experts": {},
    # The theorem asks for a small eta: eta_r = M^2 eta, and a fast router moves before the experts
    # have committed. This one has the router rate of eight experts.
    "16 experts, eta / 4": {
        "n_experts": 16,
        "learning_rate_init": 0.00025,
        "router__learning_rate": 0.064,
        "max_iter": 2001,
        "callbacks": [EarlyRouting(240)],
    },
    "8 experts, no noise": {"router__noise": None},
}


def theorem(protocol="paper", data="fresh"):
    """Return the text's nonlinear mixtures on settings 1 and 2: new data, whatever the protocol.

    Training error 0, test error near 0; every expert is good on one cluster, M_k are those of
    cluster k, and none is empty; the router sends a sample of cluster k to an expert of M_k. And
    two steps of its proof: the load is still even when the experts have committed (<w, v_k> is
    {grown} times that of the start), and noise makes routing a smooth function of the scores. The
    algorithm of the text, 4,000 samples to train on, a problem of its own for each run. The cluster
    of an expert is that of its least training error; used are experts with {live:g} % of the test
    samples. What a run fulfills or not holds if it is true in most runs: the 95 % Wilson interval
    lies above one half. Intervals are not corrected for their number.
    """
    return experiment(
        theorem,
        "Theorem 4.2, statement by statement",
        {"grown": _GROWN[1], "live": 100 * LIVE},
        problems=tuple(Problem(s, n_train=4000, n_test=4000) for s in (1, 2)),
        models={
            name: paper_classifier(**{"callbacks": [EarlyRouting()]} | changes)
            for name, changes in _MODELS.items()
        },
        measures=("accuracy", "train_accuracy", "test_entropy"),
        run=TheoremRun,
        kept=("train_errors", "test_errors", "dispatch", "early"),
        draw=_draw,
        findings=_findings,
    )


Experts = namedtuple("Experts", "cluster own others used filled sent")


def experts_of(run):
    """Return what the theorem says of the experts of a run.

    Returns
    -------
    cluster : ndarray of int of shape (n_experts,)
        The k with the expert in M_k.
    own, others : ndarray of shape (n_experts,)
        Test error on it, and mean of those on the other clusters, in percent.
    used : ndarray of bool of shape (n_experts,)
    filled : int
        Number of clusters with an expert whose own error is below `GOOD`.
    sent : float
        Percent of the test samples that are routed to an expert of their cluster's M_k.
    """
    errors, routes = np.array(run["test_errors"]), np.array(run["dispatch"])
    cluster = np.argmin(run["train_errors"], axis=1)
    each = np.arange(len(cluster))
    own = errors[each, cluster]
    others = (errors.sum(1) - own) / (errors.shape[1] - 1)
    filled = len(np.unique(cluster[own < GOOD]))
    sent = 100 * float(routes[cluster, each].sum() / routes.sum())
    return Experts(cluster, own, others, used_experts(routes), filled, sent)


def uneven(run, grown=_GROWN[1]):
    """Return by how many percent of n / M the load departs from it at some growth of experts.

    The largest departure over experts and clusters.
    """
    return 100 * float(np.interp(grown, run["early"]["growth"], run["early"]["uneven"]))


def moved(run, way=""):
    """Return the percent of the samples that a step of exploration moves to another expert."""
    steps = max(1, np.searchsorted(run["early"]["growth"], _GROWN[1]))
    return 100 * float(np.mean(run["early"][f"moved{way}"][:steps]))


def _findings(results):
    for setting in results.settings:
        *noisy, quiet = results.select(setting=setting)
        for cell in noisy:
            for text, holds in (*_counts(cell.runs), *_means(cell.runs), _smooth(cell.runs)):
                yield Finding(f"Setting {setting}, {cell.labels['model']}: {text}.", holds)
        loads = [[uneven(run) for run in cell.runs] for cell in (noisy[0], quiet)]
        change = mean_interval(np.subtract(loads[1], loads[0]))
        yield Finding(
            f"Setting {setting}: it takes noise to keep the load even. At the end of exploration "
            f"it departs from n / M by {np.mean(loads[1]):.0f} % in training without noise, "
            f"{change.with_mean(0, 'points more')}.",
            change.above(0),
        )


def _counts(runs):
    """Yield in how many runs a statement is true, and whether in most."""
    n, (n_clusters, n_experts) = len(runs), np.shape(runs[0]["dispatch"])
    chance = f", {covered_by_chance(n_clusters, n_experts):.2f} if experts committed at random"
    training, test = (
        np.array([100 - run[name] for run in runs]) for name in ("train_accuracy", "accuracy")
    )
    experts = [experts_of(run) for run in runs]
    sent = np.array([e.sent for e in experts])
    for text, true, note in (
        ("training error is 0", training == 0, f", {training.mean():.2g} % on average"),
        ("no M_k is empty", [e.filled == n_clusters for e in experts], chance),
        (f"test error is below {_NEAR:g} %", test < _NEAR, f", {test.mean():.2f} % on average"),
        (
            f"at least {100 - _NEAR:g} % of the samples are routed to an expert of their M_k",
            *(sent >= 100 - _NEAR, f", {sent.mean():.2f} % on average"),
        ),
    ):
        share = share_interval(sum(true), n)
        yield f"{text} in {sum(true)} of {n} runs ({share.text(2)}{note})", share.above(0.5)


def _means(runs):
    """Yield a mean in percent with its interval, and whether all of this is near what it should."""
    experts = [experts_of(run) for run in runs]
    loads = ", ".join(f"{np.mean([uneven(r, g) for r in runs]):.2g} at {g}" for g in _GROWN)
    for text, values, expected, tolerance in (
        ("own cluster, used experts: error", [e.own[e.used].mean() for e in experts], 0, _NEAR),
        ("other clusters, used experts: error", [e.others[e.used].mean() for e in experts], 50, 5),
        (
            f"departure of the load from n / M ({loads} times the start) at the end of exploration",
            *([uneven(run) for run in runs], 0, 10),
        ),
    ):
        mean, rule = mean_interval(values), f"rule: interval within {tolerance:g} of {expected} %"
        yield f"{text} {mean.with_mean(2, '%')}; {rule}", mean.within(tolerance, of=expected)


def _smooth(runs):
    """Compare the routing with that by the same scores without noise, run by run."""
    noisy, without = ([moved(run, way) for run in runs] for way in WAYS)
    more = mean_interval(np.subtract(without, noisy))
    return (
        f"noise smooths routing: a step of exploration moves {np.mean(noisy):.2g} % of the samples,"
        f" by the same scores without noise {np.mean(without):.0f} %, "
        f"{more.with_mean(0, 'points more')}"
    ), more.above(0)


def _draw(results):
    """Draw a row per setting: how uneven the load is, and how the routing changes."""
    settings = results.settings
    figure, axes = panels(len(settings), 2, (9, 4 * len(settings)))
    names = (r"largest $|M \cdot load - 1|$", "share of the samples moved by a step")
    for row, setting in zip(axes, settings, strict=True):
        for cell, color in zip(results.select(setting=setting), COLORS, strict=False):
            style = {"color": color, "lw": 0.8, "alpha": 0.7}
            for early in (run["early"] for run in cell.runs):
                row[0].plot(early["growth"], early["uneven"], **style)
                for way, line in zip(WAYS, "-:", strict=True):
                    share = np.array(early[f"moved{way}"])  # a logarithm has no zero
                    row[1].plot(early["growth"], np.where(share, share, np.nan), line, **style)
        for ax, name in zip(row, names, strict=True):
            ax.set(xscale="log", yscale="log", ylim=(1e-6, 20), ylabel=name)
            ax.set(xlabel="growth of the experts", title=f"setting {setting}")
            ax.axvline(_GROWN[1], color="0.8", zorder=0)
    handles = [mark(name, color=color) for name, color in zip(_MODELS, COLORS, strict=False)]
    return legend(figure, [*handles, mark("the same scores without noise", color="0.5", ls=":")])
