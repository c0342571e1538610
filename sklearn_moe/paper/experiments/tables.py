"""Table 1 and the appendix: a single expert against a mixture, on settings 1 to 4."""

from dataclasses import replace

import numpy as np

from .._experiment import Experiment, Finding
from .._published import NOTEBOOK, SINGLES, TABLE_1
from .._statistics import mean_interval
from .models import ACTIVATION, TRACE, default, mixture, problem, single

__all__ = ["appendix", "table1"]

_FILTERS = (80, 128, 512)
_QUESTION = (
    "Does a mixture of experts learn what a single expert cannot, and does it need nonlinear "
    "experts for that? Dispatch entropy of the training samples, in nats, at most log 4 = 1.386. "
    "Single experts are trained by Adam and once, as in the authors' notebooks. The mixtures "
    "named default are this library's, with nothing chosen but the activation."
)


def table1(protocol="code", data="fixed"):
    """Return settings 1 and 2."""
    return _table("table1", "Table 1: settings 1 and 2", (1, 2), protocol, data)


def appendix(protocol="code", data="fixed"):
    """Return settings 3 and 4."""
    return _table("appendix", "Appendix: settings 3 and 4", (3, 4), protocol, data)


def _table(name, title, settings, protocol, data):
    singles, mixtures, published = {}, {}, {}
    for nonlinear, activation in ACTIVATION.items():
        for filters in _FILTERS:
            label = f"single {activation}, {filters} filters"
            singles[label] = single(nonlinear, filters)
            for setting in settings:
                published[setting, label] = SINGLES[setting, activation, filters]
        label = f"mixture {activation}"
        mixtures[label] = mixture(protocol, nonlinear)
        mixtures[f"mixture {activation}, default"] = default(nonlinear)
        for setting in settings:
            published[setting, label] = TABLE_1[setting, "mixture", nonlinear]
    return Experiment(
        name=name,
        title=title,
        question=_QUESTION,
        problems=tuple(problem(setting, data) for setting in settings),
        models=singles | mixtures,
        once=tuple(singles),
        published=published,
        trace=TRACE,
        findings=_findings,
    )


def _findings(results):
    """Yield the paper's claims about the table, then a reason for what lies outside."""
    for setting in results.settings:
        cells = {cell.labels["model"]: cell for cell in results.select(setting=setting)}
        means = {model: cell.summary("accuracy").mean for model, cell in cells.items()}
        best = max((model for model in means if model.startswith("single")), key=means.get)
        cubic, linear = cells["mixture cubic"], cells["mixture linear"]
        yield Finding(
            f"Setting {setting}: the mixture of nonlinear experts ({means['mixture cubic']:.2f} %) "
            f"is better than the best single expert ({means[best]:.2f} %, {best}).",
            cubic.interval("accuracy").above(means[best]),
        )
        gain = cubic.interval("accuracy", minus=linear.values("accuracy"))  # paired by seed
        yield Finding(
            f"Setting {setting}: it is better than the mixture of linear experts, by "
            f"{gain.mean:.2f} points ({gain.text(2)}).",
            gain.above(0),
        )
        yield Finding(
            f"Setting {setting}: nonlinear experts specialize, linear ones hardly: entropy "
            f"{cubic.summary('entropy').mean:.3f} against {linear.summary('entropy').mean:.3f}, "
            "less than half.",
            mean_interval(linear.values("entropy") / 2 - cubic.values("entropy")).above(0),
        )
    yield from explain_outside(results)
    yield from _beside_the_notebook(results)


def _beside_the_notebook(results):
    """Yield where a recorded notebook and the table differ, and on which side we are."""
    for (setting, _, nonlinear), recorded in NOTEBOOK.items():
        for cell in results.select(setting=setting, model=f"mixture {ACTIVATION[nonlinear]}"):
            accuracy, entropy = recorded.value("accuracy"), recorded.value("entropy")
            inside = replace(cell, published=recorded)
            sides = ["inside" if inside.inside(m) else "outside" for m in ("accuracy", "entropy")]
            yield Finding(
                f"Setting {setting}, {cell.labels['model']}: the authors' notebook recorded "
                f"{accuracy[0]:.2f} ± {accuracy[1]:.2f} % (ours is {sides[0]}) and an entropy of "
                f"{entropy[0]:.3f} ± {entropy[1]:.3f} (ours is {sides[1]})."
            )


def explain_outside(results):
    """Yield, for every cell outside of the published range, how its runs are spread."""
    for cell, measure in results.outside():
        ours, (mean, std) = cell.summary(measure), cell.published.value(measure)
        digits = 3 if measure == "entropy" else 2
        label = ", ".join(str(value) for value in cell.labels.values())
        text = (
            f"Setting {label}: {measure} {ours.mean:.{digits}f}, published {mean:.{digits}f}"
            f"{'' if std is None else f' ± {std:.{digits}f}'}."
        )
        if ours.n > 2 and std is not None:
            text += f" {_odd_runs(cell.values(measure), mean, std, digits)}"
        if ours.n == 1:
            text += " One run of each; `wide` shows how far such runs may differ."
        yield Finding(text)


def _odd_runs(values, mean, std, digits):
    odd = np.abs(values - mean) > 2 * std
    if odd.all():
        return f"All {len(values)} runs lie outside of ± 2 std."
    rest = f"{values[~odd].mean():.{digits}f}"
    shown = ", ".join(f"{value:.{digits}f}" for value in np.sort(values[odd]))
    return (
        f"{odd.sum()} of {len(values)} runs lie outside of ± 2 std ({shown}); without them the "
        f"mean is {rest}."
    )
