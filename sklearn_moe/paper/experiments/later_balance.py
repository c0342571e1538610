"""A later claim about balance: without a loss."""

from ... import BalanceParams
from .._experiment import Finding
from .._later_runs import LoadRun
from .common import SIZES, better, default, experiment, problems
from .drawing import COLORS, labelled, legend, panels

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
