"""Later claims about balance: without a loss, and what a loss does to the router's rows."""

from ... import BalanceParams
from .._experiment import Finding
from .._later_runs import LoadRun
from .common import SIZES, better, default, experiment, problems
from .drawing import COLORS, draw_curves, labelled, legend, panels

_EXPERTS = (4, 8, 16)
_WEIGHTS = {"switch": (0.01, 0.1, 1.0), "bias": (0.001, 0.01, 0.1)}
_NONE = "none"


def loss_free(protocol="code", data="fixed"):
    """Return mixtures that are balanced by a loss, or by a bias of the choice.

    A bias that is moved against the load is said to balance better than a loss, without harm to
    the accuracy (arXiv 2408.15664). MaxVio is by how much the largest load exceeds the mean one.
    Setting 1, with as many experts as clusters and more; three weights of each form, of which the
    one with the least MaxVio is compared. This library's default, 4,000 samples to train on.
    """
    forms = {
        f"{kind}, {weight:g}": {"balance": BalanceParams(kind, weight=weight)}
        for kind, weights in _WEIGHTS.items()
        for weight in weights
    }
    return experiment(
        loss_free,
        "Balance without a loss",
        problems=problems((1,), "fresh", **SIZES),
        models={f"{m} experts": default(n_experts=m) for m in _EXPERTS},
        grid={"balance": {_NONE: {"balance": None}} | forms},
        measures=("accuracy", "max_violation"),
        run=LoadRun,
        draw=_draw_loss_free,
        findings=_loss_free_findings,
    )


def _loss_free_findings(results):
    for model in results.experiment.models:
        cells = results.by("balance", model=model)
        best = {
            kind: min(
                (cells[f"{kind}, {w:g}"] for w in weights), key=lambda c: c.mean("max_violation")
            )
            for kind, weights in _WEIGHTS.items()
        }
        even = best["bias"].interval("max_violation", over=best["switch"])
        yield Finding(
            f"{model}: the bias balances better: MaxVio {even.with_mean(2, sign='+')}.",
            even.below(0),
        )
        text = f"{model}: the bias leaves more accuracy:"
        yield better(text, best["bias"], best["switch"], sign="+")


def _draw_loss_free(results):
    figure, axes = panels(1, len(_EXPERTS), (10, 3.8), grid="both", sharey=True)
    for ax, model in zip(axes[0], results.experiment.models, strict=True):
        cells = results.by("balance", model=model)
        for (kind, weights), color in zip(_WEIGHTS.items(), COLORS, strict=False):
            path = [cells[f"{kind}, {w:g}"] for w in weights]
            x, y = ([c.mean(m) for c in path] for m in ("max_violation", "accuracy"))
            ax.plot(x, y, "o-", color=color, label={"switch": "a loss", "bias": "a bias"}[kind])
            for weight, *place in zip(weights, x, y, strict=True):
                ax.annotate(f"{weight:g}", place, color=color, fontsize=8)
        none = cells[_NONE]
        ax.plot(none.mean("max_violation"), none.mean("accuracy"), "k*", ms=10, label="no balance")
        ax.set(title=model, xlabel="MaxVio", ylabel="accuracy (%)")
        ax.label_outer()
    title = "mean over the runs by weight, which is written beside it"
    return legend(figure, labelled(axes[0, 0]), title=title)


_LOSS_WEIGHTS = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def alike_rows(protocol="code", data="fixed"):
    """Return mixtures with a balancing loss of growing weight, and how alike the router's rows are.

    A balancing loss is said to make the rows of the router alike (arXiv 2605.12476, known here from
    a summary only). Mean cosine of a row and the one that is most like it, of all experts and of
    those that are used (more than 1 % of the samples). The mean cosine of two rows does not tell:
    the rows of a softmax router that starts at 0 sum to 0, and where their norms are equal it is
    -1 / (M - 1), whichever rows are alike. Setting 1, the default of this library, 4,000 samples.
    """
    weights = {f"{w:g}": {"balance": BalanceParams("switch", weight=w)} for w in _LOSS_WEIGHTS[1:]}
    return experiment(
        alike_rows,
        "Does a balancing loss make the rows of the router alike?",
        problems=problems((1,), "fresh", **SIZES),
        models={f"{m} experts": default(n_experts=m) for m in (8, 16)},
        grid={"weight": {"0": {"balance": None}} | weights},
        measures=("accuracy", "entropy", "nearest", "nearest_used", "cosine", "used"),
        run=LoadRun,
        draw=_draw_alike,
        findings=_alike_findings,
    )


def _alike_findings(results):
    for model in results.experiment.models:
        cells = results.by("weight", model=model)
        off, on = cells["0"], cells["1"]
        more = on.interval("nearest", over=off)
        yield Finding(
            f"{model}: a loss of weight 1 makes the rows of the router more alike: cosine of a row "
            f"and its nearest {off.mean('nearest'):.2f} without, {on.mean('nearest'):.2f} with it, "
            f"{more.with_mean(2, sign='+')}; of two rows {off.mean('cosine'):.2f} and "
            f"{on.mean('cosine'):.2f}.",
            more.above(0),
        )


def _draw_alike(results):
    figure, axes = panels(1, 3, (10, 3.8), grid="both")
    labels = {"nearest": "cosine of a row and its nearest", "cosine": "cosine of two rows"}
    labels["accuracy"] = "accuracy (%)"
    x = range(len(_LOSS_WEIGHTS))
    for ax, (measure, label) in zip(axes[0], labels.items(), strict=True):
        models = {
            model: [cell.values(measure) for cell in results.select(model=model)]
            for model in results.experiment.models
        }
        draw_curves(ax, x, models, most=100)
        ax.set_xticks(x, [f"{w:g}" for w in _LOSS_WEIGHTS])
        ax.set(xlabel="weight of the loss", ylabel=label)
    return legend(figure, labelled(axes[0, 0]), title="mean and 95 % interval over the runs")
