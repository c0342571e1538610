"""The stages of training: experts explore, then the router learns; and how fast, by the rates."""

import numpy as np

from .._experiment import Experiment, Finding
from .._statistics import UNDECIDED, Interval, crossing, mean_interval, power_law
from .common import COLORS, TRACE, legend, log_scale, mark, mixture, panels, problems

_EXPERT, _ROUTER = "learning_rate_init", "router__learning_rate"
_RATES = {_EXPERT: (0.0005, 0.001, 0.002), _ROUTER: (0.01, 0.03, 0.1, 0.3)}
_COMMITTED = 50  # times what an expert's strongest inner product with a feature was at the start
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
    """Return nonlinear mixtures on setting 1 with learning rates around the protocol's."""
    return Experiment(
        name="stages",
        title="Stages of training: exploration, then router learning",
        question=(
            "Do the experts commit to a feature before the router learns the clusters, and how do "
            "the times of both depend on the learning rates? An expert has committed when its "
            f"strongest <w, v_k> is {_COMMITTED} times that of the start (mean over experts); the "
            "router outweighs the noise when its strongest <theta_m, c_k> (mean over experts) "
            f"makes a score of {_NOISE:g}, the range of the noise; dispatch is by cluster once the "
            f"entropy stays below {_ENTROPY:g}. Setting 1, 4,000 samples to "
            "train on."
        ),
        problems=problems((1,), data, n_train=4000, n_test=4000),
        models={"mixture cubic": mixture(protocol, True)},
        grid=_RATES,
        max_runs=3,
        measures=("accuracy", "entropy", "steps"),
        trace=TRACE,
        kept=("curve",),
        draw=_draw,
        findings=_findings,
    )


def times(curve):
    """Return the steps at which the stages of `_STAGES` are over, NaN for those that never are."""
    steps = np.asarray(curve["step"], dtype=float)
    features = curve["expert_features"]
    mixed = steps[np.asarray(curve["entropy"]) > _ENTROPY]
    settled = steps[steps > (mixed[-1] if len(mixed) else -np.inf)]
    return {
        "commit": crossing(steps, features, _COMMITTED * features[0]),
        "route": crossing(steps, curve["router_centers"], _NOISE / _CENTER),
        "dispatch": float(settled[0]) if len(settled) else np.nan,
    }


def _table(results):
    """Return rates and times of all runs, as arrays."""
    rows = [
        {
            "seed": run["seed"],
            _EXPERT: cell.labels[_EXPERT],
            _ROUTER: cell.labels[_ROUTER],
            **times(run["curve"]),
        }
        for cell in results.cells
        for run in cell.runs
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _findings(results):
    table = _table(results)
    yield _order(table)
    explored, routed = _exponents(table, "commit"), _exponents(table, "route")
    # Nearly by construction: a normalized step has the length eta.
    yield _scaling("Exploration takes 1/eta steps", explored["expert"], -1)
    yield _scaling("It does not depend on eta_r", explored["router"], 0)
    yield _scaling("The router takes 1/eta_r steps", routed["router"], -1)
    # While experts still grow, z = eta t, their cubic outputs and with them the router's gradient
    # grow like (eta t)^3: theta ~ eta_r eta^3 t^4 reaches a level at t ~ eta_r^-1/4 eta^-3/4.
    exponent = routed["expert"]
    yield Finding(
        "The router's time depends on the experts' rate, too: exponent of eta "
        f"{exponent.mean:.2f} ({exponent.text(2)}). If it learned while they still grow, exponents "
        "would be -0.25 of eta_r and -0.75 of eta."
    )
    yield _never(table)


def _exponents(table, stage):
    """Return the exponents of the rates: fitted seed by seed, as its runs have much in common."""
    fits = [
        power_law(table[stage][of], expert=table[_EXPERT][of], router=table[_ROUTER][of])
        for of in (table["seed"] == seed for seed in np.unique(table["seed"]))
    ]
    return {rate: mean_interval([fit[rate] for fit in fits]) for rate in ("expert", "router")}


def _scaling(claim, exponent, expected):
    """Compare an exponent with the expected one."""
    b = exponent.mean
    return Finding(
        f"{claim}: exponent {b:.2f} ({exponent.text(2)}), expected {expected} within "
        f"{_TOLERANCE:g}.",
        UNDECIDED if np.isnan(b) else bool(abs(b - expected) <= _TOLERANCE),
    )


def _order(table):
    """Put the order of the stages to the test in every run in which the router learned."""
    commit, route = table["commit"], table["route"]
    learned = ~np.isnan(route)
    first = int((commit[learned] < route[learned]).sum())
    text = f"Experts commit before the router learns in {first} of {learned.sum()} runs"
    if learned.any():
        logs = np.log(route[learned] / commit[learned])
        seeds = table["seed"][learned]
        ratio = Interval(
            *np.exp(mean_interval([logs[seeds == s].mean() for s in np.unique(seeds)]))
        )
        text += f"; the router takes {ratio.mean:.1f} times as long ({ratio.text(1)})"
    return Finding(f"{text}.", bool(first == learned.sum()) if learned.any() else UNDECIDED)


def _never(table):
    missing = ", ".join(
        f"{int(np.isnan(table[stage]).sum())} ({name})" for stage, name in _STAGES.items()
    )
    return Finding(
        f"Of {len(table['commit'])} runs these never get there, and are in none of the times: "
        f"{missing}."
    )


def _draw(results):
    """Draw a column per rate: the times over it, a line per value of the other one."""
    table = _table(results)
    figure, axes = panels(2, len(_STAGES), (10.5, 7), sharey="col")
    names = {_EXPERT: r"$\eta$ of the experts", _ROUTER: r"$\eta_r$ of the router"}
    guides = {(_EXPERT, "commit"): -1, (_EXPERT, "route"): -0.75, (_ROUTER, "route"): -0.25}
    for row, rate, other in zip(axes, (_EXPERT, _ROUTER), (_ROUTER, _EXPERT), strict=True):
        for ax, (stage, title) in zip(row, _STAGES.items(), strict=True):
            _draw_times(ax, table, stage, rate, other)
            if (rate, stage) in guides:
                _draw_guide(ax, table[rate], table[stage], guides[rate, stage])
            log_scale(ax, np.unique(table[rate]), "{:g}".format)
            ax.set_xlabel(names[rate])
            ax.set_title(title, fontsize=11)
            ax.set_ylabel("step")
        row[-1].legend(title=names[other], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    marks = {
        "one run": {"ls": "", "marker": "."},
        "geometric mean": {},
        "some runs never get there": {"ls": "", "marker": "x"},
        "expected slope": {"ls": "--", "lw": 1},
    }
    handles = [mark(name, color="black", **style) for name, style in marks.items()]
    legend(figure, handles, title="Colors are shifted sideways to be told apart.")
    return figure


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
        never = np.unique(x[~known])
        ax.plot(
            never, np.full(len(never), 0.96), "x", color=color, transform=ax.get_xaxis_transform()
        )
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(color="0.9")


def _draw_guide(ax, x, y, exponent):
    """Draw the predicted power law, through the geometric mean of all."""
    known = ~np.isnan(y)
    if not known.any():
        return
    center_x, center_y = np.exp(np.log(x[known]).mean()), np.exp(np.log(y[known]).mean())
    levels = np.unique(x)
    ax.plot(levels, center_y * (levels / center_x) ** exponent, "--", color="black", linewidth=1)
    ax.annotate(f"slope {exponent:g}", (0.03, 0.03), xycoords="axes fraction", fontsize=9)
