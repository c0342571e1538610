"""Where does a mixture help, and where not? Learning curves beside those of other models."""

from math import inf

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..._estimators.classifier import MoEClassifier
from .._artificial_runs import DeepSet
from .._experiment import Finding
from .._run import Problem
from .common import default, experiment
from .drawing import AXES, draw_curves, labelled, legend, log_scale, panels

_SIZES = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
_N_SIZES = {1: 8, 2: 6}  # by setting: support vectors and forests cost minutes beyond
_GOAL = 99  # % accuracy
_MIXTURE, _SINGLE, _TREE = "mixture", "single expert", "hierarchical mixture"
_WITHOUT_TREE = (
    " The hierarchical mixture is left out: `pip install sklearn_moe[baselines]` adds it."
)


def baselines(protocol="code", data="fixed"):
    """Return learning curves on settings 1 and 2, a new problem for every run.

    Where does a mixture help, and where not? Accuracy over the number of training samples, 4,000
    others to test on, and a new problem for every run, the same for all models. The mixture and the
    single expert are this library's defaults, which were chosen on settings 1 and 2 with other
    seeds; the others are close to the defaults of their libraries and were not tuned. Seconds are
    of one thread, beside other runs. Mixture, single expert and deep set are given bags of patches,
    all others rows of 200 features. On setting 2, whose noise is twice as strong, the curves end at
    4,000 samples to save time.{left_out}
    """
    # The arguments change nothing: the mixture is this library's own, and a single data set would
    # tell little of how many samples are needed.
    models = _models()
    return experiment(
        baselines,
        "Learning curves beside other models",
        {"left_out": "" if _TREE in models else _WITHOUT_TREE},
        problems=tuple(Problem(s, size, 4000) for s, n in _N_SIZES.items() for size in _SIZES[:n]),
        models=models,
        n_runs=3,
        measures=("accuracy", "fit_seconds"),
        draw=_draw,
        findings=_findings,
    )


def _models():
    """Return the models by name; what is not a default keeps fits from ending too early."""
    models = {
        _MIXTURE: default(max_iter=5000),
        _SINGLE: default(n_experts=1, max_iter=5000),
        "deep set": MoEClassifier(1, expert=DeepSet),
        "MLP": make_pipeline(StandardScaler(), MLPClassifier(max_iter=1000)),
        "gradient boosting": HistGradientBoostingClassifier(),
        "random forest": RandomForestClassifier(),
        "SVC": make_pipeline(StandardScaler(), SVC(cache_size=1000)),
    }
    try:
        from neural_trees import HierarchicalMixtureOfExperts
    except ImportError:
        return models
    # Batches of MLPClassifier's size: with its own of 64 it is no better, but twice as slow.
    tree = HierarchicalMixtureOfExperts(batch_size=200)
    return models | {_TREE: make_pipeline(StandardScaler(), tree)}


def _curve(results, **labels):
    """Return the mean accuracy by the number of training samples."""
    return {n: cell.mean("accuracy") for n, cell in results.by("n_train", **labels).items()}


def _findings(results):
    """Yield, for every setting, who needs how many samples, and what few and many are good for."""
    for setting in results.settings:
        models = results.experiment.models
        curves = {model: _curve(results, setting=setting, model=model) for model in models}
        yield _samples_needed(setting, curves)
        yield _many(setting, curves)


def _samples_needed(setting, curves):
    needed = {
        model: next((n for n, accuracy in curve.items() if accuracy >= _GOAL), inf)
        for model, curve in curves.items()
    }
    most = f"not by {max(curves[_MIXTURE]):,}"
    shown = {model: f"{n:,}" if n < inf else most for model, n in needed.items()}
    best = min((model for model in needed if model != _MIXTURE), key=needed.get)
    listed = ", ".join(f"{model} {shown[model]}" for model in sorted(needed, key=needed.get))
    return Finding(
        f"Setting {setting}: the mixture reaches {_GOAL} % with fewer samples than every other "
        f"model: {listed}. Ours was tuned on settings 1 and 2, with other seeds; the others on "
        "nothing.",
        needed[_MIXTURE] < needed[best],
    )


def _many(setting, curves):
    """Return which generic models solve the problem with many samples."""
    many = max(curves[_MIXTURE])
    reached = {model: curve[many] for model, curve in curves.items()}
    generic = [model for model in curves if model not in (_MIXTURE, _SINGLE)]
    solved = [model for model in generic if reached[model] >= _GOAL]
    worst = min(generic, key=reached.get)
    return Finding(
        f"Setting {setting}: with {many:,} samples {len(solved)} of {len(generic)} generic models "
        f"reach {_GOAL} % ({', '.join(solved) or 'none'}); the worst of them is {worst} "
        f"({reached[worst]:.2f} %), beside {_MIXTURE} ({reached[_MIXTURE]:.2f} %) and {_SINGLE} "
        f"({reached[_SINGLE]:.2f} %)."
    )


def _draw(results):
    """Draw a panel per setting: the mean accuracy and its 95 % interval over the samples."""
    figure, axes = panels(1, len(results.settings), (10.4, 4.4), grid="both", sharey=True)
    for ax, setting in zip(axes[0], results.settings, strict=True):
        curves = {}
        for cell in results.select(setting=setting):
            curves.setdefault(cell.labels["model"], []).append(cell.values("accuracy"))
        sizes = _SIZES[: _N_SIZES[setting]]
        draw_curves(ax, sizes, curves, most=100)
        log_scale(ax, sizes, "{:,}".format, rotation=45 * (len(sizes) > 7))
        ax.axhline(_GOAL, color="0.5", lw=0.8, ls="--", zorder=0, label=f"{_GOAL} %")
        ax.set(title=f"setting {setting}", xlabel="training samples")
    axes[0, 0].set_ylabel(AXES["accuracy"])
    title = "mean over the runs,\nband: its 95 % interval"
    return legend(figure, labelled(axes[0, 0]), "right upper", title=title, ncols=1)
