"""Patch-level routing: how many samples it takes if every expert keeps few patches of each."""

from itertools import product

import numpy as np

from ..._classifier import MoEClassifier
from .._artificial_runs import OnePattern, PatchRun
from .._experiment import Experiment, Finding
from .._statistics import UNDECIDED, crossing, mean_interval
from .common import asked
from .drawing import AXES, COLORS, draw_learning_curves, draw_level, labelled, legend, panels

_SINGLE = "single expert"
_KEPT = (1, 4, 8)
_PATCHES, _SIZES = (8, 32), (12, 25, 50, 100, 200, 400, 800)
_GOAL, _N = 80, 100  # % accuracy; samples at which models are compared
_N_EXPERTS, _WIDTH = 4, 8


def patch_routing(protocol="code", data="fixed"):
    """Return learning curves of patch-level routing beside those of a single expert.

    Chowdhury et al. (arXiv 2306.04073) prove that routing single patches saves samples, the more
    the smaller the share l / n of the patches that an expert keeps. One patch of n is a pattern of
    the class in noise, all others are noise. Is it l, or the learned weights of the patches? The
    router "patch_choice" with four ReLU experts, beside a single expert of as many filters, which
    sums over all patches, and a router of whole samples; a new problem for each run. Intervals are
    not corrected for their number.
    """
    usual = {"n_experts": _N_EXPERTS, "expert_width": _WIDTH, "activation": "relu"}
    alone = usual | {"n_experts": 1, "expert_width": _N_EXPERTS * _WIDTH}
    models = {_SINGLE: MoEClassifier(**alone), "top1": MoEClassifier(router="top1", **usual)}
    for kept in _KEPT:
        models[_name(kept)] = MoEClassifier(router="patch_choice", top_k=kept, **usual)
    return Experiment(
        name="patch_routing",
        title="Patch-level routing: how many samples it takes",
        question=asked(patch_routing),
        problems=tuple(OnePattern(n_patches=p, n_train=n) for p in _PATCHES for n in _SIZES),
        models=models,
        n_runs=5,
        measures=("accuracy", "pattern_weight"),
        draw=_draw,
        findings=_findings,
        run=PatchRun,
    )


def _name(kept):
    return f"{kept} patch{'es' * (kept > 1)} kept"


def _findings(results):
    many, one, most = max(_PATCHES), _name(min(_KEPT)), _name(max(_KEPT))
    yield _samples_needed(results, one)
    for n_patches in _PATCHES:
        cells = results.by("model", n_patches=n_patches, n_train=_N)
        for model, other in ((most, _SINGLE), (one, most)):
            gain = cells[model].interval("accuracy", over=cells[other])
            yield Finding(
                f"{n_patches} patches, {_N} samples: {cells[model].mean('accuracy'):.1f} % with "
                f"{model}, {cells[other].mean('accuracy'):.1f} % with {other}, "
                f"{gain.with_mean(1, 'points more')}.",
                gain.above(0),
            )
    weight = results.cell(n_patches=many, n_train=_N, model=one).interval("pattern_weight")
    yield Finding(
        f"The router finds the pattern: with {many} patches and {_N} samples it has "
        f"{weight.with_mean(2, 'of the weight of an expert')}, {1 / many:.2f} if all patches were "
        "equal.",
        weight.above(1 / many),
    )


def _samples_needed(results, model):
    """Compare at how many samples a single expert and a model reach the goal."""
    shown, needed = [], {}
    for n_patches, name in product(_PATCHES, (_SINGLE, model)):
        cells = results.by("n_train", n_patches=n_patches, model=name)
        curves = np.transpose([cell.values("accuracy") for cell in cells.values()])
        samples = np.exp([crossing(np.log(list(cells)), curve, _GOAL) for curve in curves])
        needed[n_patches, name] = np.log(samples)
        mean = np.exp(needed[n_patches, name].mean())
        bound = "at most " if samples.min() <= _SIZES[0] else ""
        shown.append("never" if np.isnan(mean) else f"{bound}{mean:.0f}")
    few, many = _PATCHES
    logs = needed[many, _SINGLE] - needed[many, model]
    text = (
        f"Samples at which {_GOAL} % are reached: {_SINGLE} {shown[0]} and {shown[2]} with {few} "
        f"and {many} patches, {model} {shown[1]} and {shown[3]}"
    )
    if np.isnan(logs).any():
        return Finding(f"{text}.", UNDECIDED)
    ratio = mean_interval(logs).exp()
    text += f"; with {many} a single expert takes {ratio.with_mean(0, 'times as many')}."
    return Finding(text, ratio.above(1))


def _draw(results):
    """Draw accuracies over the number of samples, and what weight the router gives the pattern."""
    figure, axes = panels(1, len(_PATCHES) + 1, (11.5, 4))
    models = results.experiment.models
    styles = dict(zip(models, zip(("black", *COLORS), "sXo^v", strict=False), strict=True))
    for ax, n_patches in zip(axes[0], _PATCHES, strict=False):
        draw_learning_curves(ax, results, "accuracy", styles, most=100, n_patches=n_patches)
        draw_level(ax, _GOAL)
        ax.set(title=f"{n_patches} patches", ylabel=AXES["accuracy"], ylim=(48, 102))
    ax, many = axes[0, -1], max(_PATCHES)
    kept = {_name(k): styles[_name(k)] for k in _KEPT}
    draw_learning_curves(ax, results, "pattern_weight", kept, most=1, n_patches=many)
    draw_level(ax, 1 / many)
    title = f"{many} patches: weight of the pattern"
    ax.set(title=title, ylabel="largest gate of an expert", ylim=(0, 1))
    title = f"band: 95 % interval; dashed: {_GOAL} %, or equal gates"
    legend(figure, labelled(axes[0, 0]), title=title)
    return figure
