"""Patch-level routing: how many samples it takes if every expert keeps few patches of each."""

from ..._estimators.classifier import MoEClassifier
from .._artificial_runs import OnePattern, PatchRun
from .._experiment import Finding
from .common import better, experiment
from .drawing import AXES, draw_learning_curves, labelled, legend, panels

_SINGLE = "single expert"
_KEPT = (1, 4, 8)
_PATCHES, _SIZES = (8, 32), (12, 25, 50, 100, 200, 400, 800)
_N = 100  # samples at which models are compared


def patch_routing(protocol="code", data="fixed"):
    """Return learning curves of patch-level routing beside those of a single expert.

    Chowdhury et al. (arXiv 2306.04073) prove that routing single patches saves samples, the more
    the smaller the share l / n of the patches that an expert keeps. One patch of n is a pattern of
    the class in noise, all others are noise. Is it l, or the learned weights of the patches? The
    router "patch_choice" with four ReLU experts, beside a single expert of as many filters, which
    sums over all patches, and a router of whole samples; a new problem for each run. Intervals are
    not corrected for their number.
    """
    usual = {"n_experts": 4, "expert_width": 8, "activation": "relu"}
    alone = usual | {"n_experts": 1, "expert_width": 32}
    models = {_SINGLE: MoEClassifier(**alone), "top1": MoEClassifier(router="top1", **usual)}
    for kept in _KEPT:
        models[_name(kept)] = MoEClassifier(router="patch_choice", top_k=kept, **usual)
    return experiment(
        patch_routing,
        "Patch-level routing: how many samples it takes",
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
    for n_patches in _PATCHES:
        cells = results.by("model", n_patches=n_patches, n_train=_N)
        for model, other in ((most, _SINGLE), (one, most)):
            text = (
                f"{n_patches} patches, {_N} samples: {cells[model].mean('accuracy'):.1f} % with "
                f"{model}, {cells[other].mean('accuracy'):.1f} % with {other},"
            )
            yield better(text, cells[model], cells[other], "points more", 1)
    weight = results.cell(n_patches=many, n_train=_N, model=one).interval("pattern_weight")
    yield Finding(
        f"The router finds the pattern: with {many} patches and {_N} samples it has "
        f"{weight.with_mean(2, 'of the weight of an expert')}, {1 / many:.2f} if all patches were "
        "equal.",
        weight.above(1 / many),
    )


def _draw(results):
    """Draw accuracies over the number of samples."""
    figure, axes = panels(1, len(_PATCHES), (9, 4), sharey=True)
    for ax, n_patches in zip(axes[0], _PATCHES, strict=True):
        draw_learning_curves(ax, results, "accuracy", most=100, n_patches=n_patches)
        ax.set(title=f"{n_patches} patches", ylabel=AXES["accuracy"], ylim=(48, 102))
        ax.label_outer()
    return legend(figure, labelled(axes[0, 0]), title="band: 95 % interval of the mean")
