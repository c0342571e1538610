"""Mixtures with parts of the paper's algorithm changed or left out."""

from itertools import pairwise

import numpy as np

from .._experiment import Finding
from .._protocols import NOISY_AT_TEST, SUM_OF_NORMS, NotebookStopping, expert, paper_classifier
from .._statistics import LEVEL, holm, mean_interval, p_text, p_value
from .common import ACTIVATION, TRACE, experiment, problems
from .drawing import by_setting, draw_all_rows

_PUBLISHED, _QUIET = "as published", "no noise"
_PLAIN, _NEITHER = "no normalization", "neither"
# The gradient of a cubic expert is of the second order in its weights: from the published start,
# |<w, v_k>| of 2e-4, plain steps leave zero after about 100 / rate steps. Hence other rates and a
# larger start, the best of those tried: rates .001, .1, .3, .5, 1 and 10; .03, .1 and .3 with the
# larger start. They train to the end: a loss that jumps at a large rate would stop them early.
_RATES = {
    "": {},
    ", rate 0.3": {"learning_rate_init": 0.3, "callbacks": None},
    ", rate 0.1, start x 100": {"learning_rate_init": 0.1, "init_scale": 0.1, "callbacks": None},
}


def simplified(protocol="code", data="fixed"):
    """Return nonlinear mixtures with and without noise and normalization, on settings 1 and 2.

    Does a mixture of nonlinear experts need the noise of the router and the normalized gradients of
    Algorithm 1? Without noise, small random weights of the router tell the experts apart; without
    normalization, experts are trained by plain gradient descent. 4,000 samples to train on.
    """
    models = {_PUBLISHED: {}, _QUIET: {"router__noise": None}}
    for name, noise in ((_PLAIN, {}), (_NEITHER, {"router__noise": None})):
        models |= {name + suffix: {"solver": "sgd"} | noise | _RATES[suffix] for suffix in _RATES}
    return experiment(
        simplified,
        "Without noise, without normalization",
        problems=problems((1, 2), data, n_train=4000, n_test=8000),
        models={name: _mixture(protocol, **changes) for name, changes in models.items()},
        n_runs=5,
        measures=("accuracy", "entropy", "steps"),
        trace=TRACE,
        kept=("curve",),
        draw=_draw_simplified,
        findings=_simplified_findings,
    )


def _mixture(protocol, init_scale=None, **changes):
    model = paper_classifier(protocol, **changes)
    if init_scale is not None:
        model.expert = model.expert.with_options(init_scale=init_scale)
    return model


def _simplified_findings(results):
    for setting in results.settings:
        cells = results.by("model", setting=setting)
        yield _needed(setting, "noise", cells[_PUBLISHED], [cells[_QUIET]])
        for name, left_out in ((_PLAIN, "normalization"), (_NEITHER, "noise or normalization")):
            tried = [cell for model, cell in cells.items() if model.startswith(name)]
            yield _needed(setting, left_out, cells[_PUBLISHED], tried)
        yield _stuck(setting, cells[_PLAIN])


def _needed(setting, left_out, published, tried):
    """Compare with the best of what was tried, run by run: seeds are the same."""
    best = max(tried, key=lambda cell: cell.mean("accuracy"))
    change = published.interval("accuracy", over=best)
    of = f", best of {len(tried)} rates here ({best.labels['model']})" if len(tried) > 1 else ""
    return Finding(
        f"Setting {setting}: {left_out} is needed. Without it{of}, accuracy is "
        f"{change.with_mean(2, 'points')} lower, {best.mean('accuracy'):.2f} % against "
        f"{published.mean('accuracy'):.2f} %; entropy {best.mean('entropy'):.3f} against "
        f"{published.mean('entropy'):.3f}.",
        change.above(0),
    )


def _stuck(setting, cell):
    """Say how far plain gradient descent gets at the published rate."""
    growth = [np.divide(*np.take(run["curve"]["expert_features"], [-1, 0])) for run in cell.runs]
    return Finding(
        f"Setting {setting}: without normalization, at the published rate, experts stay where they "
        f"started: their strongest |<w, v_k>| grows by a factor of {np.max(growth):.3f} at most, "
        f"accuracy {cell.mean('accuracy'):.2f} %.",
        bool(np.max(growth) < 2),
    )


def _draw_simplified(results):
    return draw_all_rows([("", by_setting(results), m) for m in ("accuracy", "entropy")])


CHANGES = {  # in the order in which they are made
    "router rate .1": {"router__learning_rate": 0.1},
    "two logits, 16 filters": {"loss": "log_loss"},
    "biases, uniform init": {"expert": expert("patch_conv", 0.001)},
    "sum of norms": {"solver": SUM_OF_NORMS},
    "raw noisy gate": {"router__gate": "logit"},
    "noise at test": {"router": NOISY_AT_TEST},
    "softmax twice": {"loss": "probabilities"},
    "early stop": {"callbacks": [NotebookStopping()]},
}
_PATH, _ALONE = slice(len(CHANGES) + 1), slice(len(CHANGES) + 1, None)  # of the cells


def departures(protocol="paper", data="fixed"):
    """Return the path from the paper to the code, and every change of the paper alone.

    The authors' code departs from the text of the paper. Lines with ... add one change to the line
    before, until they arrive at the code; the others are the paper with one change alone. Experts
    have 8 filters per output, so that two logits double their filters, too: from 8 to 16. Mixtures
    of nonlinear and of linear experts; 4,000 samples to train on.
    """
    path, alone, parameters = {"paper": paper_classifier()}, {}, {}
    for name, change in CHANGES.items():
        parameters |= change
        path[f"... + {name}"] = paper_classifier(**parameters)
        alone[f"paper + {name}"] = paper_classifier(**change)
    del alone[f"paper + {next(iter(CHANGES))}"]  # the first step of the path
    return experiment(
        departures,
        "Which departures of the code matter",
        problems=problems((1, 2), data, n_train=4000),
        models=path | alone,
        grid={"activation": list(ACTIVATION.values())},  # all else is the same for both
        n_runs=6,
        measures=("accuracy", "entropy", "steps"),
        draw=_draw_departures,
        findings=_departures_findings,
    )


def _departures_findings(results):
    """Yield what the protocols differ by, and which changes make the difference."""
    for activation in results.experiment.grid["activation"]:
        steps, alone = {}, {}
        for setting in results.settings:
            cells = results.select(setting=setting, activation=activation)
            path, name = cells[_PATH], f"Setting {setting}, {activation} experts"
            total = path[-1].interval("accuracy", over=path[0]).with_mean(2, "points", "+")
            yield Finding(f"{name}: from the paper to the code accuracy changes by {total}.")
            changed = [path[1], *cells[_ALONE]]
            for change, step, cell in zip(CHANGES, pairwise(path), changed, strict=True):
                steps[f"{name}, on the path", change] = step
                alone[f"{name}, alone", change] = path[0], cell
        yield from _changes_that_matter(steps)
        yield from _changes_that_matter(alone)


def _changes_that_matter(pairs):
    """Yield the changes, paired by seed, that are largest or no chance, of all that are tested."""
    effects = {
        key: after.values("accuracy") - of.values("accuracy") for key, (of, after) in pairs.items()
    }
    p = dict(zip(effects, holm(map(p_value, effects.values())), strict=True))
    for name in dict.fromkeys(name for name, _ in effects):
        largest, *others = sorted(
            (key for key in effects if key[0] == name), key=lambda key: -abs(effects[key].mean())
        )
        shown = (
            f"{key[1]} {effect.mean:+.2f} ({effect.text(2)}, {p_text(p[key])})"
            for key in [largest, *(key for key in others if p[key] < LEVEL)]
            for effect in [mean_interval(effects[key])]
        )
        yield Finding(
            f"{name}, the change with the largest effect on the accuracy, and others of p < "
            f"{LEVEL} by Holm's correction for {len(p)} tests (intervals are uncorrected): "
            f"{', '.join(shown)}."
        )


def _draw_departures(results):
    """Draw a row for each line of the path, and each change alone."""
    columns = [
        (f"{activation} experts", by_setting(results, activation=activation), measure)
        for activation in results.experiment.grid["activation"]
        for measure in ("accuracy", "entropy")
    ]
    return draw_all_rows(columns, (15, 6))
