"""The limit of one expert, over how alike feature and feature noise are."""

from ..._estimators.classifier import MoEClassifier
from ...nn import EXPERTS
from .._experiment import Finding
from .._later_runs import ALL_FILTERS, HandMade, HandMadeRun, Overlap, limit_of
from .._statistics import standard_error
from .common import experiment, single_with
from .drawing import draw_curves, labelled, legend, panels

_OVERLAPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_CLOSE = 0.4  # points
BY_HAND, MIXTURE = "made by hand", "mixture"
_NAMES = {
    BY_HAND: "one expert, made by hand",
    "tanh, 128 filters": "one expert, trained (tanh, 128 filters)",
    "gelu, 16 filters": "one expert, trained (GELU, 16 filters)",
    MIXTURE: "mixture of eight experts, trained",
}


def hand_made(filters):
    """Return a single expert of tanh units whose weights the callback HandMade sets."""
    return MoEClassifier(
        1,
        expert=EXPERTS["patch"].with_options(bias=True),
        expert_width=filters,
        activation="tanh",
        loss="margin",
        max_iter=1,
        tol=None,
        callbacks=[HandMade()],
    )


def limit(protocol="code", data="fixed"):
    """Return single experts and a mixture over the overlap of feature and feature noise.

    The error of a single expert that sums a function over its patches is at least 1/8 of the
    integral of min(p(a) q(b), p(b) q(a)), for densities p of alpha and q of gamma (docs/limit.rst).
    Here alpha is uniform on [1, 2], gamma on a range as wide that is moved up: their overlap, which
    is the integral, goes from 1 to 0 (setting). Is the limit reached by an expert that is made by
    hand, of up to {n} steep tanh units with biases? Do trained ones exceed it, or reach it? Does a
    mixture exceed it? New data for each run, 4,000 samples to train on, 16,000 to test on. Trained
    single experts are those of the activation check, 200 steps of Adam.
    """
    return experiment(
        limit,
        "The limit of one expert",
        {"n": ALL_FILTERS},
        problems=tuple(Overlap(o, n_train=4000, n_test=16_000) for o in _OVERLAPS),
        models={
            BY_HAND: hand_made(ALL_FILTERS),
            "tanh, 128 filters": single_with("tanh", 128, max_iter=200),
            "gelu, 16 filters": single_with("gelu", 16, max_iter=200),
            MIXTURE: MoEClassifier(),
        },
        measures=("accuracy", "hard_accuracy"),
        run=HandMadeRun,
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    for problem in results.experiment.problems:
        overlap, most = problem.setting, limit_of(problem.options)["accuracy"]
        cells = results.by("model", setting=overlap)
        made, mixture = cells.pop(BY_HAND), cells.pop(MIXTURE)
        named = f"Overlap {overlap:g}"
        found = made.interval("accuracy")
        yield Finding(
            f"{named}: the limit of {most:g} % is reached to {_CLOSE:g} points: by hand "
            f"{found.with_mean(2, '%')}.",
            found.within(_CLOSE, of=most),
        )
        # Four standard errors: there are 180 runs.
        allowed = min(100, most + 4 * standard_error(most, problem.n_test))
        highest = max(cell.values("accuracy").max() for cell in (made, *cells.values()))
        yield Finding(
            f"{named}: no single expert exceeds it: the best run has {highest:.2f} %; with four "
            f"standard errors it is {allowed:.2f} %.",
            bool(highest <= allowed),
        )
        best = max(cells.values(), key=lambda cell: cell.mean("accuracy"))
        gap = made.interval("accuracy", over=best)
        yield Finding(
            f"{named}: training does not find it: {best.interval('accuracy').with_mean(2, '%')}, "
            f"{best.labels['model']}; by hand {gap.with_mean(2, 'points more')}. Without use of "
            f"the centers at most {2 * most - 100:g} % is possible.",
            gap.above(0),
        )
        found = mixture.interval("accuracy")
        text = f"a mixture {'exceeds it' if overlap else 'has'}: {found.with_mean(2, '%')}."
        yield Finding(f"{named}: {text}", found.above(most) if overlap else None)


def _draw(results):
    figure, axes = panels(1, 1, (7.5, 4.8))
    ax = axes[0, 0]
    most = [limit_of(p.options)["accuracy"] for p in results.experiment.problems]
    ax.fill_between(_OVERLAPS, most, 100, color="0.9", lw=0)
    ax.plot(_OVERLAPS, most, color="black", lw=1.5, label="limit of one expert")
    without = [2 * value - 100 for value in most]  # at least twice the error, by the same proof
    ax.plot(_OVERLAPS, without, "k--", lw=1, label="its limit without use of the centers")
    text = "out of reach of a single expert,\nwhatever its function"
    ax.text(0.985, 94, text, ha="right", color="0.3")
    accuracies = {
        label: [cell.values("accuracy") for cell in results.select(model=model)]
        for model, label in _NAMES.items()
    }
    draw_curves(ax, _OVERLAPS, accuracies, most=100)
    ax.set(
        xlabel="overlap of feature and feature noise: 1 if their strengths have one distribution",
        ylabel="test accuracy (%)",
        xlim=(-0.02, 1.02),
        ylim=(72, 101),
    )
    ax.grid(color="0.93")
    return legend(figure, labelled(ax), ncols=2)
