"""What experiments share: problems, models, and what is said of all of them."""

from dataclasses import replace
from itertools import product

import numpy as np

from ..._estimators.classifier import MoEClassifier
from .._experiment import Experiment, Finding
from .._protocols import paper_classifier
from .._published import TABLE_1
from .._run import AUTHORS, DATA_SEEDS, Problem
from .._statistics import LEVEL, holm, p_text, p_value, welch

KINDS = ("linear", "cubic", "relu", "celu", "gelu", "tanh")  # of the activation check
ACTIVATION = {False: "linear", True: "cubic"}  # by nonlinear
SIZES = {"n_train": 4000, "n_test": 4000}
HALF_ENTROPY = 0.7  # nats, half of log 4: the moment at which experts specialize
SPECIALIZED = np.log(4) / 2  # nats: of four clusters, the entropy below which a mixture is
TRACE = 5  # steps between two records: the same everywhere, so that experiments share their runs


def experiment(build, title, said=None, form=None, **parts):
    """Return an experiment with the name of its builder, in the form of another one but for parts.

    What it asks is the docstring of the builder after the first line, with values that are `said`.
    """
    question = " ".join(build.__doc__.partition("\n\n")[2].split()).format(**said or {})
    texts = {"name": build.__name__, "title": title, "question": question}
    return replace(form, **texts | parts) if form else Experiment(**texts | parts)


def problems(settings, data="fixed", **sizes):
    """Return settings; `data` is the "authors'", "fixed" (one of our own), or "fresh" per run."""
    if data == AUTHORS and (others := {*settings} - {1, 2, 3, 4}):
        raise ValueError(f"The authors' data are of settings 1 to 4, got {others}: --data fixed.")
    seeds = {AUTHORS: dict.fromkeys(settings, AUTHORS), "fixed": DATA_SEEDS}.get(data, {})
    return tuple(Problem(setting, data_seed=seeds.get(setting), **sizes) for setting in settings)


def single(nonlinear, filters=128, **parameters):
    """Return the notebooks' single expert with that many filters, half of them per class."""
    return paper_classifier("code", nonlinear, 1, expert_width=filters // 2, **parameters)


def single_with(activation, filters=128, **parameters):
    """Return the single expert of the notebooks' activation check."""
    rate = 0.001 if activation == "linear" else 0.01
    parameters |= {"activation": activation, "learning_rate_init": rate}
    return single(activation != "linear", filters, **parameters)


def mixtures(protocol, **parameters):
    """Return the paper's mixtures of linear and of cubic experts, by name."""
    return {
        f"mixture {activation}": paper_classifier(protocol, nonlinear, **parameters)
        for nonlinear, activation in ACTIVATION.items()
    }


def default(nonlinear=True, **parameters):
    """Return this library's mixture with nothing but the activation chosen."""
    return MoEClassifier().set_params(activation=ACTIVATION[nonlinear], **parameters)


def published_mixtures(settings):
    """Return the published results of `mixtures` by setting and name."""
    return {
        (setting, f"mixture {activation}"): TABLE_1[setting, "mixture", nonlinear]
        for setting in settings
        for nonlinear, activation in ACTIVATION.items()
    }


def better(text, cell, other, unit="points", digits=2, sign="", measure="accuracy"):
    """Return the claim that a cell is better than another one: the difference ends its text."""
    gain = cell.interval(measure, over=other)
    return Finding(f"{text} {gain.with_mean(digits, unit, sign)}.", gain.above(0))


def entropy_tests(cells):
    """Return the p values that mean entropies are `SPECIALIZED`, by cell, corrected by Holm."""
    cells = list(cells)
    p_values = (p_value(cell.values("entropy"), SPECIALIZED) for cell in cells)
    return dict(zip(cells, holm(p_values), strict=True))


def explain_outside(results):
    """Yield what a test says of published means, and how runs outside their range are spread."""
    yield from _welch(results)
    for cell, measure in results.outside():
        mean, std = cell.published.value(measure)
        digits = 3 if measure == "entropy" else 2
        text = f"Setting {_named(cell)}: {measure} {cell.mean(measure):.{digits}f}, published "
        text += f"{mean:.{digits}f}." if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}."
        if len(cell.runs) > 2 and std is not None:
            text += f" {_odd_runs(cell.values(measure), mean, std, digits)}"
        if len(cell.runs) == 1:
            text += " One run of each; `wide` shows how far such runs may differ."
        yield Finding(text)


def _named(cell):
    return ", ".join(map(str, cell.labels.values()))


def _welch(results):
    """Yield which published means of several runs differ from ours by more than chance."""
    tests = [
        (cell, measure, welch(cell.values(measure), mean, std, cell.published.runs))
        for cell, measure in product(results.cells, results.experiment.measures)
        if cell.inside(measure) is not None
        for mean, std in [cell.published.value(measure)]
        if std is not None
    ]
    corrected = holm(p for *_, p in tests)
    flagged = [
        f"setting {_named(cell)}, {measure} ({p_text(p)}, corrected {p_text(of_all)})"
        for (cell, measure, p), of_all in zip(tests, corrected, strict=True)
        if p < LEVEL
    ]
    if tests:
        yield Finding(
            f"Of {len(tests)} published means of several runs, "
            f"{sum(cell.inside(measure) for cell, measure, _ in tests)} have ours within ± 2 of "
            f"their standard deviations. By Welch's test {len(flagged)} differ from ours at p < "
            f"{LEVEL}, {sum(p < LEVEL for p in corrected)} after Holm's correction: "
            f"{'; '.join(flagged) or 'none'}."
        )


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
