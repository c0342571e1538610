"""Table 2: single networks against mixtures, on CIFAR-10 and CIFAR-10-Rotate."""

import math
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from ..._estimators.classifier import MoEClassifier
from ..._training import LRScheduler
from ...callbacks import FreezeRouter
from .._experiment import Experiment, Finding
from .._image_runs import TASKS, ImageRun, Images, Precision
from .._protocols import NOISY_AT_TEST
from .._published import TABLE_2
from .._run import LIVE
from .drawing import draw_curves, draw_dispatch, labelled, legend, panels

_EPOCHS = {"cnn": 20, "mobilenet_v2": 30, "resnet18": 10}
_SOFT = {"expert": "mlp", "router": "soft", "balance": None}
_GRADIENT_DESCENT = {  # near the authors' code for images, which has no small CNN
    "learning_rate_init": 0.01,
    "router__learning_rate": 1e-4,
    "solver__schedule": "constant",
    "solver__momentum": 0.9,
    "solver__weight_decay": 5e-4,
    "callbacks": [LRScheduler("CosineAnnealingLR", T_max=200)],
}
MODELS = {  # parameters of MoEClassifier, on top of the protocol's
    "single": {"n_experts": 1},
    # The same with the loss of the authors' mixtures: softmax before the cross-entropy.
    "softmax": {"n_experts": 1, "loss": "probabilities"},
    "mixture": {"n_experts": 4},  # the paper's: one of four networks is selected
    # The same with a router that stays at 0: noise selects, at prediction, too.
    "random": {"n_experts": 4, "router": NOISY_AT_TEST},
    # The default for images: one network, whose last layer is a mixture. That of "wide" is as
    # wide as all experts together.
    "trunk": _SOFT | {"n_experts": 4, "expert_width": 136},
    "wide": _SOFT | {"n_experts": 1, "expert_width": 544},
    # The same trunk, whose last layer is a mixture that selects one expert.
    "top-1": {"expert": "mlp", "n_experts": 4, "expert_width": 136},
}


def _code(architecture, n_experts):
    """Return solvers near the paper's (its section 5, appendix A and code)."""
    if architecture == "cnn":
        return {"solver": "adam", "learning_rate_init": 0.001, "standardize": False}
    solver = "sgd" if n_experts == 1 else "normalized_sgd"
    return {"solver": solver, "standardize": False} | _GRADIENT_DESCENT


def _ours(architecture, n_experts):
    """Return one solver for all, that of the defaults."""
    return {"solver": "adamw", "solver__weight_decay": 0.05, "router__upcycling": 0}


PROTOCOLS = {"code": _code, "ours": _ours}
_PADDING = {"code": 4, "ours": 2}  # 20 epochs are too few for larger shifts


_MEASURES = ("accuracy", "best_epoch_accuracy", "test_entropy", "multiply_adds", "fit_seconds")


def table2(
    protocol="code",
    data=None,
    *,
    folder=None,
    task=("cifar10", "rotate-paper"),
    arch=tuple(_EPOCHS),
    model=("single", "mixture"),
    epochs=None,
    subset=None,
    width=None,
    precision="auto",
    blur=True,
    hide_grid=False,
    unfinished=None,
):
    """Return every model of every architecture on the tasks; `data` changes nothing here."""
    lengths = {name: epochs or _EPOCHS[name] for name in arch}
    models = {
        f"{name} {kind}": _classifier(protocol, name, kind, lengths[name], width, precision)
        for name, kind in product(arch, model)
    }
    usual = lengths == {name: _EPOCHS[name] for name in arch}
    as_published = protocol == "code" and subset is width is None and usual
    changes = {
        "without blur": not blur,
        "shifted and blurred first": hide_grid,
        f"networks of width {width}": width,
    }
    title = ", ".join([*task, *(text for text, holds in changes.items() if holds)])
    return Experiment(
        name="table2",
        title=f"Table 2: {title}",
        question=(
            "Does a mixture of experts beat a single network where images fall into clusters "
            "(is an image rotated, whatever it shows?), and where they do not (CIFAR-10)? "
            "Accuracy is that of the last epoch on the test images; that of the best test epoch, "
            "which the published numbers are, flatters. Dispatch entropy of the original classes "
            "of the test images, in nats, at most log 10 = 2.303. Protocol "
            f"{protocol!r}, {f'{subset:,}' if subset else 'all'} images of CIFAR-10 to train on, "
            f"epochs: {', '.join(f'{name} {n}' for name, n in lengths.items())}. The figure "
            "shows the mean of the runs with its 95 % interval, and the share of each class that "
            "the first run sends to each expert."
        ),
        problems=tuple(
            Images(name, folder, subset, blur, _PADDING[protocol], hide_grid) for name in task
        ),
        models=models,
        published={
            key: TABLE_2[key]._replace(alike=as_published)
            for key in product(task, models)
            if key in TABLE_2 and not hide_grid and (blur or key[0] == "cifar10")
        },
        measures=_MEASURES,
        kept=("accuracy_curve", "loss_curve", "dispatch", "load", "n_train", "n_test", "precision"),
        run=partial(ImageRun, unfinished=unfinished),
        draw=_draw,
        findings=_findings,
    )


def _classifier(protocol, architecture, model, epochs, width, precision):
    common = {
        "expert": architecture,
        "batch_size": 128,
        "max_iter": epochs,
        "tol": None,
        "balance": "switch",
        "balance__weight": 0.01,
    }
    solver = PROTOCOLS[protocol](architecture, MODELS[model]["n_experts"])
    own = MODELS[model]
    trunk = {"trunk": architecture} if own.get("expert") == "mlp" else {}
    if width is not None:
        if trunk:
            raise ValueError(f"A width is that of whole networks, which {model!r} has none of.")
        common["expert_width"] = width
    clf = MoEClassifier().set_params(**common | solver | trunk | own)
    added = [FreezeRouter()] if model == "random" else []
    if precision != "auto":
        added.append(Precision(precision))
    return clf.set_params(callbacks=[*(clf.callbacks or []), *added]) if added else clf


def add_arguments(parser):
    """Add what this experiment alone can be asked for, by the names of `table2`."""
    parser.set_defaults(runs=5, jobs=1)
    parser.add_argument(
        "--data",
        dest="folder",
        metavar="FOLDER",
        help="with train/<class>/*.jpg and test/; without it, CIFAR-10 is downloaded",
    )
    text = "training near that of the authors' code, or by adamw with a cosine"
    parser.add_argument("--protocol", choices=PROTOCOLS, default="code", help=text)
    defaults = table2.__kwdefaults__
    for name, known in (("task", TASKS), ("arch", _EPOCHS), ("model", MODELS)):
        parser.add_argument(f"--{name}", nargs="+", choices=known, default=defaults[name])
    parser.add_argument("--epochs", type=int, help="as published by default")
    parser.add_argument("--subset", type=int, help="images to train on, before rotation")
    parser.add_argument("--width", type=int, help="of the networks, as published by default")
    text = "of training the experts; auto is what saves time on the device"
    choices = ("auto", "float32", "bf16")
    parser.add_argument("--precision", choices=choices, default="auto", help=text)
    text = "leave training images of the rotation tasks sharp"
    parser.add_argument("--no-blur", dest="blur", action="store_false", help=text)
    text = "shift all images by 0 to 7 pixels and blur them first: JPEG's grid is hidden"
    parser.add_argument("--hide-grid", action="store_true", help=text)
    parser.add_argument(
        "--resume",
        dest="unfinished",
        metavar="FOLDER",
        type=Path,
        default=Path("results/paper/unfinished"),
        help="state of unfinished runs: the same command resumes after their last epoch",
    )


def _groups(results):
    """Return {(task, architecture): {model: cell}}."""
    groups = {}
    for cell in results.cells:
        architecture, model = cell.labels["model"].split()
        groups.setdefault((cell.labels["setting"], architecture), {})[model] = cell
    return groups


def _findings(results):
    """Yield what mixtures gain, how they divide the classes, and what the best epoch flatters."""
    for (task, architecture), cells in _groups(results).items():
        single = cells.get("single")
        for model, cell in cells.items():
            name = f"{task}, {architecture} {model}"
            if single and cell is not single:
                gain = cell.interval("accuracy", over=single)
                clusters = TASKS[task].make is not None  # where the paper claims a gain
                yield Finding(
                    f"{name} {'is better than' if clusters else 'beside'} the single network in "
                    f"the last epoch: {gain.with_mean(2, 'points', '+')}.",
                    gain.above(0) if clusters else None,
                )
            if cell.has("dispatch"):
                used = (cell.values("load") >= LIVE).sum(1)
                yield Finding(
                    f"{name}: dispatch entropy {cell.mean('test_entropy'):.2f}; "
                    f"{used.mean():.1f} of {MODELS[model]['n_experts']} experts are used."
                )
    ahead = [c.values("best_epoch_accuracy") - c.values("accuracy") for c in results.cells]
    yield Finding(
        f"The best test epoch is up to {np.concatenate(ahead).max():.2f} points above the last, "
        f"{np.concatenate(ahead).mean():.2f} on average."
    )


def _draw(results):
    """Draw learning curves of each task and architecture, and the classes of each expert."""
    groups = _groups(results)
    routed = [cell for cell in results.cells if cell.has("dispatch")]
    n_rows = math.ceil((len(groups) + len(routed)) / 2)
    figure, axes = panels(n_rows, 2, (10, 3.8 * n_rows))
    axes = axes.ravel()
    for ax, ((task, architecture), cells) in zip(axes, groups.items(), strict=False):
        curves = {model: cell.values("accuracy_curve").T for model, cell in cells.items()}
        runs = np.stack([*curves.values()])  # models, epochs, runs
        draw_curves(ax, range(1, runs.shape[1] + 1), curves, most=100)
        # The axis is that of the runs: intervals of two or three runs may be wider than it.
        ax.set(ylim=(runs.min() - 2, min(runs.max() + 2, 101)))
        ax.set(title=f"{task}, {architecture}", xlabel="Epoch", ylabel="Test accuracy (%)")
        ax.locator_params("x", integer=True)
    for ax, cell in zip(axes[len(groups) :], routed, strict=False):
        draw_dispatch(ax, cell)
        title = f"{', '.join(cell.labels.values())}, first run:\nshare of each class, by expert"
        ax.set(title=title, xlabel="Expert", ylabel="Class")
    for ax in axes[len(groups) + len(routed) :]:
        ax.remove()
    return legend(figure, labelled(axes[0]), "upper center")
