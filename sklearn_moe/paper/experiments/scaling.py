"""How many experts more clusters take, and what else Theorem 4.2 asks for: n, d, J, sigma_0."""

from dataclasses import replace
from functools import partial
from itertools import count
from math import log

from .._artificial_runs import GOOD, Clusters, CoverageRun
from .._experiment import Finding
from .._protocols import expert, paper_classifier
from .._statistics import share_interval
from .common import experiment
from .coverage import covered_by_chance
from .drawing import AXES, COLORS, draw_curves, legend, log_scale, mark, panels

_EXPERTS = {  # by clusters: K of 2 and 4; then K log K times 1, 1.5, 2, 2.5, 3, of 16 times 1, 2, 3
    2: (2, 3, 4, 5, 6),
    4: (4, 6, 8, 11, 14, 17),
    8: (17, 25, 33, 42, 50),
    16: (44, 89, 133),
}
_SLOW = ", slow router"
_SERIES = ((3, ""), (3, _SLOW), (1, _SLOW))  # setting and router
_PER_CLUSTER, _STEPS = 500, 251  # training samples, and steps
_MOST = 0.9  # of the runs, that are to cover all clusters
_MANY = {1: f"K = 16, 89 experts{_SLOW}", 4: f"K = 16, 89 experts{_SLOW}, 4 n"}  # by factor of n
_BASE = f"K = 4, 17 experts{_SLOW}"  # of which more is varied, on setting 1
_DEFAULTS = {"n_train": 4 * _PER_CLUSTER, "patch_size": 50, "expert_width": 8, "init_scale": 1e-3}
_VALUES = {
    "n_train": (250, 500, 1000, 2000, 4000, 8000),
    "patch_size": (8, 20, 50, 100, 200),
    "expert_width": (1, 2, 4, 8, 32),
    "init_scale": (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0),
}
_SYMBOLS = dict(zip(_VALUES, ("n", "d", "J", "initial scale"), strict=True))


def scaling(protocol="paper", data="fresh"):
    """Return the text's nonlinear mixtures of many sizes: new data, whatever the protocol.

    Theorem 4.2 asks for K log K experts, up to constants and log log d. How many does it take until
    nine of ten runs cover all of K clusters? A cluster is covered if most of its test samples are
    routed to experts with an error below {good:g} % on it. And how do coverage and accuracy depend
    on the training samples n, the size of a patch d, the filters per expert J and the initial
    scale? The algorithm of the text; {per_cluster} training samples per cluster, {steps} steps, a
    problem of its own for each run; setting 1 has more feature noise than setting 3. The slow
    router has the rate 0.01 instead of M^2 times 0.001. Intervals are not corrected for their
    number.
    """
    plan = {}
    for setting, router in _SERIES:
        for k, numbers in _EXPERTS.items():
            models = plan.setdefault(Clusters(setting, _PER_CLUSTER * k, 2000, n_clusters=k), {})
            models |= {_name(k, m, router): _model(m, router) for m in numbers}
    more = Clusters(1, 4 * 16 * _PER_CLUSTER, 2000, n_clusters=16)
    plan[more] = {_MANY[4]: _model(89, _SLOW)}
    for name, values in _VALUES.items():
        for value in values:
            of_problem = {name: value} if hasattr(Clusters, name) else {}
            of_model = {} if of_problem else {name: value}
            problem = replace(Clusters(1, 4 * _PER_CLUSTER, 2000), **of_problem)
            plan.setdefault(problem, {})[_varied(name, value)] = _model(17, _SLOW, **of_model)
    return experiment(
        scaling,
        "How many experts more clusters take",
        {"good": GOOD, "per_cluster": _PER_CLUSTER, "steps": _STEPS},
        problems=tuple(plan),
        models={name: model for models in plan.values() for name, model in models.items()},
        only={problem: set(models) for problem, models in plan.items()},
        measures=("accuracy", "learned", "covered"),
        run=CoverageRun,
        draw=_draw,
        findings=_findings,
    )


def covering(protocol="paper", data="fresh"):
    """Return the mixtures of scaling on setting 3 with a slow router, from more seeds.

    How many experts does it take until nine of ten runs cover all of K clusters? Ten runs do not
    tell neighboring numbers of experts apart. All else is as in scaling.
    """
    form = scaling(protocol, data)
    series = {_name(k, m, _SLOW) for k, numbers in _EXPERTS.items() for m in numbers}
    problems = tuple(problem for problem in form.problems if problem.setting == 3)
    return experiment(
        covering,
        "How many experts cover the clusters",
        problems=problems,
        models={name: model for name, model in form.models.items() if name in series},
        only={problem: form.only[problem] & series for problem in problems},
        form=form,
        n_runs=30,
        draw=None,
        findings=partial(_findings_of, setting=3, router=_SLOW),
    )


def _name(n_clusters, n_experts, router):
    return f"K = {n_clusters}, {n_experts} experts{router}"


def _varied(name, value):
    return _BASE if value == _DEFAULTS[name] else f"{_BASE}, {_SYMBOLS[name]} {value:g}"


def _model(n_experts, router, expert_width=8, init_scale=1e-3):
    options = {"n_experts": n_experts, "expert_width": expert_width, "max_iter": _STEPS}
    rate = {"router__learning_rate": 0.01} if router else {}
    return paper_classifier(expert=expert("patch", init_scale), **options, **rate)


def cover(results, setting, router, k):
    """Return the share of the runs with all K clusters covered, and learned, by experts."""
    cells = {m: results.cell(setting=setting, model=_name(k, m, router)) for m in _EXPERTS[k]}
    return {m: [full(c, k, name) for name in ("covered", "learned")] for m, c in cells.items()}


def full(cell, k, name="covered"):
    """Return the share of the runs with all K clusters covered or learned, and its interval."""
    return share_interval((cell.values(name) == k).sum(), len(cell.runs))


def least(shares, learned=False):
    """Return the least number of experts of which nine of ten runs have all, None for none."""
    return next((m for m, both in shares.items() if both[learned].mean >= _MOST), None)


def least_by_chance(k):
    """Return how many experts that commit at random cover all clusters with probability 0.9."""
    return next(m for m in count(k) if covered_by_chance(k, m) >= _MOST)


def _findings_of(results, setting, router):
    """Yield how many experts cover the clusters in one series."""
    for k in _EXPERTS:
        shares = cover(results, setting, router, k)
        found = least(shares)
        m = found or max(shares)
        cell = results.cell(setting=setting, model=_name(k, m, router))
        each = ", ".join(f"{of.with_mean(2)} with {m}" for m, (of, _) in shares.items())
        yield Finding(
            f"Setting {setting}{router}, K = {k}: {m} experts, {m / (k * log(k)):.1f} K log K, "
            f"{'are the least' if found else 'are too few'} to cover all clusters in nine of "
            f"ten runs: {each}. Accuracy is {cell.mean('accuracy'):.2f} %. Every cluster has an "
            "expert that is good on it in nine of ten runs first with "
            f"{least(shares, True) or 'none of these'}. If experts committed at random, "
            f"{least_by_chance(k)} would do.",
            found is not None,
        )


def _findings(results):
    for series in _SERIES:
        yield from _findings_of(results, *series)
    few, many = (results.cell(setting=1, model=name) for name in _MANY.values())
    gain = many.interval("covered", over=few)
    yield Finding(
        f"More clusters take more samples each: of 16 clusters of setting 1, 89 experts and the "
        f"slow router cover {few.mean('covered'):.1f} from {_PER_CLUSTER} samples per cluster, "
        f"{gain.with_mean(1, 'more')} from four times as many.",
        gain.above(0),
    )


def _draw(results):
    """Draw the share of the runs that cover all clusters, and what n, d, J and the start do."""
    figure, axes = panels(2, 4, (14, 7), grid="both")
    for ax, (setting, router) in zip(axes[0], _SERIES, strict=False):
        for k, color in zip(_EXPERTS, COLORS, strict=False):
            shares = cover(results, setting, router, k)
            for which, line in enumerate(("o-", ":")):
                heights = [both[which].mean for both in shares.values()]
                ax.plot([m / (k * log(k)) for m in shares], heights, line, color=color)
        ax.set(xlabel="M / (K log K)", ylabel="share of the runs", ylim=(-0.05, 1.05))
        ax.set_title(f"setting {setting}{router}", fontsize=10)
    axes[0, -1].remove()
    for ax, (name, values) in zip(axes[1], _VALUES.items(), strict=True):
        cells = [results.cell(setting=1, model=_varied(name, value)) for value in values]
        draw_curves(ax, values, {"": [cell.values("accuracy") for cell in cells]}, most=100)
        log_scale(ax, values, "{:g}".format, fontsize=8)
        ax.set(xlabel=_SYMBOLS[name], ylabel=AXES["accuracy"])
    handles = [mark(f"K = {k}", color=c) for k, c in zip(_EXPERTS, COLORS, strict=False)]
    handles.append(mark("all clusters covered", color="0.3", marker="o"))
    return legend(figure, [*handles, mark("an expert is good on each", color="0.3", ls=":")])
