"""Load balancing: the published comparison, and what its weight does."""

from itertools import product

import numpy as np

from ... import BalanceParams
from .._experiment import Finding
from .._protocols import NotebookBalance
from .._published import BALANCE
from .common import ACTIVATION, TRACE, default, experiment, explain_outside, mixtures, problems
from .drawing import draw_all_rows

_FORMS = {"notebook": NotebookBalance, "switch": "switch"}
_WEIGHTS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_NONE = "none"
_LITTLE = 1.0  # points of accuracy that balancing may change


def _form(name, weight):
    return {"balance": BalanceParams(_FORMS[name], weight=weight)}


def balance(protocol="code", data="fixed"):
    """Return settings 1 and 2 with and without the load-balancing loss.

    The paper reports that a load-balancing loss changes little: the noise of the router balances
    already. The notebooks add 0.0001 M^2 mean_m(s_m f_m), of the mean noisy scores s_m and the
    share f_m of the samples that expert m gets in this step (notebook). The library's loss (switch)
    has the softmax of the scores and a running share instead. Published numbers are of setting 1.
    Intervals are of 95 % each, not corrected for their number.
    """
    forms = {name: _form(name, 1e-4) for name in _FORMS}  # of every notebook on this problem
    return experiment(
        balance,
        "Load balancing",
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
    for setting, model in product(results.settings, results.experiment.models):
        cells = results.by("balance", setting=setting, model=model)
        for form in _FORMS:
            yield _change(f"Setting {setting}, {model}, {form}", cells[_NONE], cells[form])
    yield from explain_outside(results)


def _change(name, off, on):
    """Compare run by run: seeds are the same."""
    accuracy, entropy = (on.interval(measure, over=off) for measure in ("accuracy", "entropy"))
    return Finding(
        f"{name}: balancing changes the accuracy by less than {_LITTLE:g} point: by "
        f"{accuracy.with_mean(2, 'points', '+')}; the entropy by {entropy.with_mean(3, sign='+')}.",
        accuracy.within(_LITTLE),
    )


def balance_sweep(protocol="code", data="fixed"):
    """Return both forms of the loss with weights from 1e-5 to 1e-1.

    Which weight of a load-balancing loss helps, and which one harms? The notebooks' loss and the
    library's, for the paper's mixtures and for this library's default. 4,000 samples to train on.
    0.01 is the weight of the authors' code for images.
    """
    chosen = {f"{name}, {weight:g}": _form(name, weight) for name in _FORMS for weight in _WEIGHTS}
    return experiment(
        balance_sweep,
        "The weight of the load-balancing loss",
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
    for setting, model in product(results.settings, results.experiment.models):
        cells = results.by("balance", setting=setting, model=model)
        for form in _FORMS:
            shown = (f"{w:g}: {_adds(cells[f'{form}, {w:g}'], cells[_NONE])}" for w in _WEIGHTS)
            yield Finding(
                f"Setting {setting}, {model}, {form}: points of accuracy that a weight adds (95 % "
                f"interval, not corrected for the number of weights): {', '.join(shown)}."
            )


def _adds(weighted, off):
    mean, low, high = weighted.interval("accuracy", over=off)
    return f"{mean:+.2f}" + f" ({low:.2f} to {high:.2f})" * (not np.isnan(low))


def _draw_sweep(results):
    """Draw a row per form and weight, a column per setting and measure."""
    columns = [
        (f"setting {setting}", models, measure)
        for setting in results.settings
        for models in [
            {m: results.by("balance", setting=setting, model=m) for m in results.experiment.models}
        ]
        for measure in ("accuracy", "entropy")
    ]
    return draw_all_rows(columns, (14, 5))
