"""Load balancing: the published comparison, and what its weight does."""

import numpy as np

from ... import BalanceParams
from .._experiment import Experiment, Finding
from .._protocols import NotebookBalance
from .._published import BALANCE
from .common import (
    ACTIVATION,
    COLORS,
    TRACE,
    default,
    explain_outside,
    legend,
    mark,
    mixtures,
    panels,
    problems,
)

_FORMS = {"notebook": NotebookBalance, "switch": "switch"}
_PUBLISHED_WEIGHT = 1e-4  # of every notebook on this problem
_WEIGHTS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_NONE = "none"
_LITTLE = 1.0  # points of accuracy that balancing may change


def _form(name, weight):
    return {"balance": BalanceParams(_FORMS[name], weight=weight)}


def balance(protocol="code", data="fixed"):
    """Return settings 1 and 2 with and without the load-balancing loss."""
    forms = {name: _form(name, _PUBLISHED_WEIGHT) for name in _FORMS}
    return Experiment(
        name="balance",
        title="Load balancing",
        question=(
            "The paper reports that a load-balancing loss changes little: the noise of the router "
            "balances already. The notebooks add 0.0001 M^2 mean_m(s_m f_m), of the mean noisy "
            "scores s_m and the share f_m of the samples that expert m gets in this step "
            "(notebook). The library's loss (switch) has the softmax of the scores and a running "
            "share instead. Published numbers are of setting 1."
        ),
        problems=problems((1, 2), data),
        models=mixtures(protocol),
        grid={"balance": {_NONE: {"balance": None}} | forms},
        published={
            (1, f"mixture {ACTIVATION[nonlinear]}", form): published
            for (nonlinear, balanced), published in BALANCE.items()
            for form in (_FORMS if balanced else [_NONE])
        },
        trace=TRACE,
        kept=("load",),
        findings=_balance_findings,
    )


def _balance_findings(results):
    """Yield what the loss does to accuracy, entropy and load."""
    for setting in results.settings:
        for model in results.experiment.models:
            cells = {c.labels["balance"]: c for c in results.select(setting=setting, model=model)}
            for form in _FORMS:
                yield _change(f"Setting {setting}, {model}, {form}", cells[_NONE], cells[form])
            least = {name: 100 * c.values("load").min(1).mean() for name, c in cells.items()}
            shares = ", ".join(f"{name} {share:.1f} %" for name, share in least.items())
            yield Finding(
                f"Setting {setting}, {model}: share of the samples of the least used expert: "
                f"{shares}."
            )
    n = len(results.settings) * len(results.experiment.models) * len(_FORMS)
    yield Finding(f"The {n} intervals are of 95 % each, not corrected for their number.")
    yield from explain_outside(results)


def _change(name, off, on):
    """Compare run by run: seeds are the same."""
    accuracy = on.interval("accuracy", minus=off.values("accuracy"))
    entropy = on.interval("entropy", minus=off.values("entropy"))
    return Finding(
        f"{name}: balancing changes the accuracy by less than {_LITTLE:g} point: by "
        f"{accuracy.mean:+.2f} points ({accuracy.text(2)}); the entropy by {entropy.mean:+.3f} "
        f"({entropy.text(3)}).",
        accuracy.within(_LITTLE),
    )


def balance_sweep(protocol="code", data="fixed"):
    """Return both forms of the loss with weights from 1e-5 to 1e-1."""
    chosen = {f"{name}, {weight:g}": _form(name, weight) for name in _FORMS for weight in _WEIGHTS}
    return Experiment(
        name="balance_sweep",
        title="The weight of the load-balancing loss",
        question=(
            "Which weight of a load-balancing loss helps, and which one harms? The notebooks' loss "
            "and the library's, for the paper's mixtures and for this library's default. 4,000 "
            "samples to train on. 0.01 is the weight of the authors' code for images."
        ),
        problems=problems((1, 2), data, n_train=4000, n_test=4000),
        models=mixtures(protocol) | {"default cubic": default()},
        grid={"balance": {_NONE: {"balance": None}} | chosen},
        n_runs=4,
        kept=("load",),
        draw=_draw_sweep,
        findings=_sweep_findings,
    )


def _sweep_findings(results):
    """Yield the effect of every weight, run by run."""
    for setting in results.settings:
        for model in results.experiment.models:
            cells = {c.labels["balance"]: c for c in results.select(setting=setting, model=model)}
            off = cells[_NONE].values("accuracy")
            for form in _FORMS:
                shown = ", ".join(
                    f"{w:g}: {_adds(cells[f'{form}, {w:g}'].interval('accuracy', minus=off))}"
                    for w in _WEIGHTS
                )
                yield Finding(
                    f"Setting {setting}, {model}, {form}: points of accuracy that a weight adds "
                    f"(95 % interval, not corrected for the number of weights): {shown}."
                )


def _adds(effect):
    known = not np.isnan(effect.low)
    return f"{effect.mean:+.2f}" + f" ({effect.low:.2f} to {effect.high:.2f})" * known


def _draw_sweep(results):
    """Draw a row per measure and a column per setting and model, a line per form."""
    models = list(results.experiment.models)
    columns = [(setting, model) for setting in results.settings for model in models]
    figure, axes = panels(2, len(columns), (2.7 * len(columns), 5.6), sharex=True, sharey="row")
    for column, (setting, model) in zip(axes.T, columns, strict=True):
        column[0].set_title(f"setting {setting},\n{model}", fontsize=11)
        for ax, measure in zip(column, ("accuracy", "entropy"), strict=True):
            cells = {c.labels["balance"]: c for c in results.select(setting=setting, model=model)}
            off = cells[_NONE].summary(measure).mean
            ax.axhline(off, color="black", lw=1, ls="--", label="without balancing")
            for form, color, marker in zip(_FORMS, COLORS, "os", strict=False):
                rows = [cells[f"{form}, {w:g}"] for w in _WEIGHTS]
                for w, cell in zip(_WEIGHTS, rows, strict=True):
                    values = cell.values(measure)
                    ax.plot([w] * len(values), values, ".", color=color, alpha=0.4)
                means = [cell.summary(measure).mean for cell in rows]
                ax.plot(_WEIGHTS, means, marker=marker, color=color, ms=5, label=f"{form} form")
            ax.set_xscale("log")
            ax.grid(color="0.9")
        column[1].set_xlabel("weight of the loss")
    axes[0, 0].set_ylabel("test accuracy (%)")
    axes[1, 0].set(ylabel="dispatch entropy (nats)", ylim=(-0.05, np.log(4) + 0.05))
    handles, _ = axes[0, 0].get_legend_handles_labels()
    dots = mark("one run; lines are means", color="0.3", ls="", marker=".")
    legend(figure, [*handles, dots])
    return figure
