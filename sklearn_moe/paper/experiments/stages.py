"""The stages of training: experts explore, then the router learns; and how fast, by the rates."""

import numpy as np

from .._experiment import Finding
from .._protocols import paper_classifier
from .._statistics import crossing, mean_interval, power_law
from .common import HALF_ENTROPY, TRACE, experiment, problems
from .drawing import COLORS, legend, log_scale, mark, panels

_EXPERT, _ROUTER = "learning_rate_init", "router__learning_rate"
_RATES = {_EXPERT: (0.00025, 0.0005, 0.001, 0.002, 0.004), _ROUTER: (0.01, 0.03, 0.1, 0.3)}
_COMMITTED = 50  # times what an expert's strongest inner product with a feature was at the start
_FACTORS = (10, 20, 50, 100, 200)  # for which the order of the stages is put to the test
_NOISE = 1.0  # range of the routing noise
_CENTER = 15.0  # mean of 10 beta: what an inner product <theta_m, c_k> is multiplied by in a score
_TOLERANCE = 0.15  # of an exponent
_STAGES = {
    "commit": "experts commit",
    "route": "router outweighs the noise",
    "dispatch": f"entropy below {HALF_ENTROPY:g} for good",
}


def stages(protocol="code", data="fixed"):
    """Return nonlinear mixtures on setting 1 with learning rates around the protocol's.

    Do the experts commit to a feature before the router learns the clusters, and how do the times
    of both depend on the learning rates? An expert has committed when its strongest <w, v_k> is
    {committed} times that of the start (mean over experts; the order of the stages is shown for
    factors of {least} to {most}); the router outweighs the noise when its strongest <theta_m, c_k>
    (mean over experts) makes a score of {noise:g}, the range of the noise; dispatch is by cluster
    once the entropy stays below {entropy:g}. Setting 1, 4,000 samples to train on.
    """
    return experiment(
        stages,
        "Stages of training: exploration, then router learning",
        {
            "committed": _COMMITTED,
            "least": _FACTORS[0],
            "most": _FACTORS[-1],
            "noise": _NOISE,
            "entropy": HALF_ENTROPY,
        },
        problems=problems((1,), data, n_train=4000, n_test=4000),
        models={"mixture cubic": paper_classifier(protocol)},
        grid=_RATES,
        measures=("accuracy", "entropy", "steps"),
        trace=TRACE,
        kept=("curve",),
        draw=_draw,
        findings=_findings,
    )


def times(curve):
    """Return the steps at which the stages of `_STAGES` are over, NaN for those that never are.

    Numbers among the keys are the steps at which experts have committed by another factor.
    """
    steps = np.asarray(curve["step"], dtype=float)
    features = curve["expert_features"]
    mixed = steps[np.asarray(curve["entropy"]) > HALF_ENTROPY]
    settled = steps[steps > (mixed[-1] if len(mixed) else -np.inf)]
    commit = {factor: crossing(steps, features, factor * features[0]) for factor in _FACTORS}
    return commit | {
        "commit": commit[_COMMITTED],
        "route": crossing(steps, curve["router_centers"], _NOISE / _CENTER),
        "dispatch": float(settled[0]) if len(settled) else np.nan,
    }


def _table(results):
    """Return rates and times of all runs, as arrays."""
    rows = [
        cell.labels | times(run["curve"]) | {"seed": run["seed"]}
        for cell in results.cells
        for run in cell.runs
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _findings(results):
    table = _table(results)
    yield _order(table)
    # Nearly by construction: a normalized step has the length eta.
    exponent = _exponents(table, table["commit"])["expert"]
    yield Finding(
        f"Exploration takes 1/eta steps: exponent {exponent.with_mean(2)}, expected -1; rule: "
        f"interval within {_TOLERANCE:g}.",
        exponent.within(_TOLERANCE, of=-1),
    )
    yield _router_scaling(table)
    never = (f"{np.isnan(table[stage]).sum()} ({name})" for stage, name in _STAGES.items())
    yield Finding(
        f"Of {len(table['commit'])} runs these never get there, and are in none of the times: "
        f"{', '.join(never)}."
    )


def _fit(table, steps, of):
    """Return the exponents of the rates in the times of some runs."""
    return power_law(steps[of], expert=table[_EXPERT][of], router=table[_ROUTER][of])


def _exponents(table, steps):
    """Return the exponents of the rates, and of both changed by one factor, which is their sum.

    Fitted seed by seed, as the runs of a seed have much in common.
    """
    fits = [_fit(table, steps, table["seed"] == seed) for seed in np.unique(table["seed"])]
    fits = [fit | {"both": fit["expert"] + fit["router"]} for fit in fits]
    return {name: mean_interval([fit[name] for fit in fits]) for name in fits[0]}


def _router_scaling(table):
    """Take exploration out of the router's time, and tell its own rate from both together."""
    later = table["route"] - table["commit"]
    later[~(later > 0)] = np.nan
    exponents = _exponents(table, later)
    return Finding(
        "The router takes 1/eta_r steps from the commitment of the experts on, if both rates are "
        f"changed by one factor, as eta_r = M^2 eta does: exponent {exponents['both'].with_mean(2)}"
        f", expected -1; rule: interval within {_TOLERANCE:g}. If the router's rate alone is "
        f"changed, it is {exponents['router'].with_mean(2)}.",
        exponents["both"].within(_TOLERANCE, of=-1),
    )


def _order(table):
    """Put to the test that most runs in which the router learned have this order, seed by seed."""
    learned = ~np.isnan(table["route"])
    first = {factor: (table["route"] > table[factor])[learned] for factor in _FACTORS}
    listed = "; ".join(f"factor {factor}: {of.sum()} of {len(of)}" for factor, of in first.items())
    seeds = table["seed"][learned]
    least = mean_interval([first[_FACTORS[-1]][seeds == seed].mean() for seed in np.unique(seeds)])
    return Finding(
        "Experts commit before the router learns: in how many runs they do, by the factor that "
        f"counts as committed: {listed}. A seed's share of the last: {least.with_mean(2)}.",
        least.above(0.5),
    )


def _draw(results):
    """Draw a row per rate: the times over it, a line per value of the other one."""
    from matplotlib.ticker import LogFormatter

    table = _table(results)
    figure, axes = panels(2, len(_STAGES), (11, 6.4), grid="both", sharey="col")
    names = {_EXPERT: r"$\eta$ of the experts", _ROUTER: r"$\eta_r$ of the router"}
    for row, rate, other in zip(axes, (_EXPERT, _ROUTER), (_ROUTER, _EXPERT), strict=True):
        for ax, (stage, title) in zip(row, _STAGES.items(), strict=True):
            for value, color in zip(np.unique(table[other]), COLORS, strict=False):
                of = (table[other] == value) & ~np.isnan(table[stage])
                x, y = table[rate][of], table[stage][of]
                ax.plot(x, y, ".", color=color, alpha=0.5)
                levels = np.unique(x)
                means = [np.exp(np.log(y[x == level]).mean()) for level in levels]
                ax.plot(levels, means, color=color, label=f"{value:g}")
            log_scale(ax, np.unique(table[rate]), "{:g}".format, fontsize=8)
            ax.set(xlabel=names[rate], ylabel="step", yscale="log")
            ax.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
            ax.set_title(title, fontsize=11)
        row[-1].legend(title=names[other], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    marks = {"one run": {"ls": "", "marker": "."}, "geometric mean": {}}
    return legend(figure, [mark(name, color="black", **style) for name, style in marks.items()])
