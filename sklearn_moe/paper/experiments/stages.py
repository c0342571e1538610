"""The stages of training: experts explore, then the router learns; and how fast, by the rates."""

from itertools import pairwise

import numpy as np

from .._experiment import Experiment, Finding
from .._protocols import paper_classifier
from .._statistics import UNDECIDED, crossing, mean_interval, power_law
from .common import TRACE, asked, problems
from .drawing import COLORS, draw_band, draw_never, legend, log_scale, mark, panels

_EXPERT, _ROUTER = "learning_rate_init", "router__learning_rate"
_RATES = {_EXPERT: (0.0005, 0.001, 0.002), _ROUTER: (0.01, 0.03, 0.1, 0.3)}
_COMMITTED = 50  # times what an expert's strongest inner product with a feature was at the start
_FACTORS = (10, 20, 50, 100, 200)  # for which the order of the stages is put to the test
_NOISE = 1.0  # range of the routing noise
_CENTER = 15.0  # mean of 10 beta: what an inner product <theta_m, c_k> is multiplied by in a score
_ENTROPY = 0.7  # nats: half of log 4
_TOLERANCE = 0.15  # of an exponent
_SHIFT = 1.04  # of a color beside the one before, in the figure
_STAGES = {
    "commit": "experts commit",
    "route": "router outweighs the noise",
    "dispatch": f"entropy below {_ENTROPY:g} for good",
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
    return Experiment(
        name="stages",
        title="Stages of training: exploration, then router learning",
        question=asked(
            stages,
            committed=_COMMITTED,
            least=_FACTORS[0],
            most=_FACTORS[-1],
            noise=_NOISE,
            entropy=_ENTROPY,
        ),
        problems=problems((1,), data, n_train=4000, n_test=4000),
        models={"mixture cubic": paper_classifier(protocol)},
        grid=_RATES,
        n_runs=3,
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
    mixed = steps[np.asarray(curve["entropy"]) > _ENTROPY]
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
    explored, routed = _exponents(table, table["commit"]), _exponents(table, table["route"])
    # Nearly by construction: a normalized step has the length eta.
    yield _scaling("Exploration takes 1/eta steps", explored["expert"], -1)
    yield _scaling("It does not depend on eta_r", explored["router"], 0)
    yield _router_scaling(table, routed["router"])
    # While experts still grow, z = eta t, their cubic outputs and with them the router's gradient
    # grow like (eta t)^3: theta ~ eta_r eta^3 t^4 reaches a level at t ~ eta_r^-1/4 eta^-3/4.
    exponent = routed["expert"]
    yield Finding(
        "The router's time depends on the experts' rate, too: exponent of eta "
        f"{exponent.with_mean(2)}. If it learned while they still grow, exponents would be -0.25 "
        "of eta_r and -0.75 of eta."
    )
    never = (f"{np.isnan(table[stage]).sum()} ({name})" for stage, name in _STAGES.items())
    yield Finding(
        f"Of {len(table['commit'])} runs these never get there, and are in none of the times: "
        f"{', '.join(never)}."
    )


def _fit(table, steps, of):
    """Return the exponents of the rates in the times of some runs."""
    return power_law(steps[of], expert=table[_EXPERT][of], router=table[_ROUTER][of])


def _exponents(table, steps):
    """Return the exponents of the rates: fitted seed by seed, as its runs have much in common."""
    fits = [_fit(table, steps, table["seed"] == seed) for seed in np.unique(table["seed"])]
    return {rate: mean_interval([fit[rate] for fit in fits]) for rate in ("expert", "router")}


def _scaling(claim, exponent, expected):
    """Compare an exponent with the expected one."""
    gap = abs(exponent.mean - expected)
    return Finding(
        f"{claim}: exponent {exponent.with_mean(2)}, expected {expected}. The rule is a tolerance "
        f"of {_TOLERANCE:g}, not the interval.",
        UNDECIDED if np.isnan(gap) else bool(gap <= _TOLERANCE),
    )


def _router_scaling(table, exponent):
    """Take exploration out of the router's time; open if the exponent is not the same all over."""
    later = table["route"] - table["commit"]
    later[~(later > 0)] = np.nan
    alone = _exponents(table, later)["router"]
    rates = np.unique(table[_ROUTER])[::-1]
    fits = [_fit(table, later, np.isin(table[_ROUTER], pair)) for pair in pairwise(rates)]
    local = [fit["router"] for fit in fits if not np.isnan(fit["router"])]
    close = bool(abs(alone.mean + 1) <= _TOLERANCE)
    steeper = local[-1] < local[0] - _TOLERANCE if local else True
    return Finding(
        f"The router takes 1/eta_r steps: exponent {exponent.with_mean(2)}, or "
        f"{alone.with_mean(2)} from the commitment of the experts on; between neighboring rates, "
        "from large to small ones, "
        f"{', '.join(f'{b:.2f}' for b in local) or 'unknown'}. The rule for the second of them is "
        f"a tolerance of {_TOLERANCE:g}, and open where it gets steeper by more than that.",
        UNDECIDED if steeper and not close else close,
    )


def _order(table):
    """Put the order of the stages to the test in every run in which the router learned."""
    rows, n = _order_by_factor(table), int((~np.isnan(table["route"])).sum())
    counts = [first for first, _ in rows.values()]
    listed = "; ".join(
        f"factor {factor}: {first} of {n}, {ratio.with_mean(1, 'times')}"
        for factor, (first, ratio) in rows.items()
        if not np.isnan(ratio.mean)
    )
    return Finding(
        "Experts commit before the router learns: in how many runs they do, and how many times as "
        f"long the router takes, by the factor that counts as committed: {listed or 'no runs'}.",
        True if n and min(counts) == n else False if n and max(counts) == 0 else UNDECIDED,
    )


def _order_by_factor(table):
    """Return, by factor, in how many runs experts commit before the router learns, and the ratio.

    Of the runs in which both happen; a seed is one observation.
    """
    rows = {}
    for factor in _FACTORS:
        logs = np.log(table["route"] / table[factor])
        known, seeds = ~np.isnan(logs), np.unique(table["seed"][~np.isnan(logs)])
        ratio = mean_interval([logs[known & (table["seed"] == seed)].mean() for seed in seeds])
        rows[factor] = int((logs > 0).sum()), ratio.exp()
    return rows


def _draw(results):
    """Draw a row per rate: the times over it, a line per value of the other one; and the order."""
    table = _table(results)
    figure, axes = panels(2, len(_STAGES) + 1, (13.5, 7), grid="both")
    names = {_EXPERT: r"$\eta$ of the experts", _ROUTER: r"$\eta_r$ of the router"}
    guides = {(_EXPERT, "commit"): -1, (_EXPERT, "route"): -0.75, (_ROUTER, "route"): -0.25}
    for row, rate, other in zip(axes, (_EXPERT, _ROUTER), (_ROUTER, _EXPERT), strict=True):
        for ax, (stage, title) in zip(row, _STAGES.items(), strict=False):
            _draw_times(ax, table, stage, rate, other)
            if (rate, stage) in guides:
                _draw_guide(ax, table[rate], table[stage], guides[rate, stage])
            log_scale(ax, np.unique(table[rate]), "{:g}".format)
            ax.set(xlabel=names[rate], ylabel="step")
            ax.set_title(title, fontsize=11)
        row[-2].legend(title=names[other], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    for above, below in axes[:, :-1].T:
        above.sharey(below)
    _draw_order(axes[:, -1], table)
    marks = {
        "one run": {"ls": "", "marker": "."},
        "geometric mean": {},
        "some runs never get there": {"ls": "", "marker": "x"},
        "expected slope": {"ls": "--", "lw": 1},
    }
    handles = [mark(name, color="black", **style) for name, style in marks.items()]
    legend(figure, handles, title="Colors are shifted sideways to be told apart.")
    return figure


def _draw_order(axes, table):
    """Draw the share of the runs in which experts commit first, and the ratio, by the factor."""
    rows, n = _order_by_factor(table), max(1, (~np.isnan(table["route"])).sum())
    axes[0].plot(_FACTORS, [first / n for first, _ in rows.values()], "o-", color="black")
    axes[0].set(title="experts commit first", ylabel="share of the runs", ylim=(-0.05, 1.05))
    draw_band(axes[1], _FACTORS, [ratio for _, ratio in rows.values()], "o-", color="black")
    axes[1].axhline(1, color="0.5", lw=0.8)
    axes[1].set(ylabel="router's over experts' time", yscale="log")
    for ax in axes:
        log_scale(ax, _FACTORS, str)
        ax.set_xlabel("factor that counts as committed")


def _draw_times(ax, table, stage, rate, other):
    """Draw runs as dots, and their geometric mean as a line; crosses on top are for no time."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    values = np.unique(table[other])
    for i, (value, color) in enumerate(zip(values, COLORS, strict=False)):
        chosen = table[other] == value
        x, y = table[rate][chosen] * _SHIFT ** (i - (len(values) - 1) / 2), table[stage][chosen]
        known = ~np.isnan(y)
        ax.plot(x[known], y[known], ".", color=color, alpha=0.5)
        levels = np.unique(x[known])
        means = [np.exp(np.log(y[known & (x == level)]).mean()) for level in levels]
        ax.plot(levels, means, color=color, label=f"{value:g}")
        draw_never(ax, np.unique(x[~known]), color)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_guide(ax, x, y, exponent):
    """Draw the predicted power law, through the geometric mean of all."""
    known = ~np.isnan(y)
    if not known.any():
        return
    center_x, center_y = np.exp(np.log(x[known]).mean()), np.exp(np.log(y[known]).mean())
    levels = np.unique(x)
    ax.plot(levels, center_y * (levels / center_x) ** exponent, "--", color="black", linewidth=1)
    ax.annotate(f"slope {exponent:g}", (0.03, 0.03), xycoords="axes fraction", fontsize=9)
