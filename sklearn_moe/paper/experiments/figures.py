"""Figures 1 and 3, and the inner products of section 4."""

from functools import partial
from itertools import product

import numpy as np
from sklearn.base import clone
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from ...inspection._plotting import expert_colors
from ...metrics import dispatch_entropy
from .._experiment import Finding
from .._protocols import FIGURE_3
from .._published import ENTROPY_CURVES, ENTROPY_STDS
from .._run import MATRICES
from .._statistics import UNDECIDED, crossing, mean_interval, p_text, welch, welch_interval
from .common import (
    ACTIVATION,
    HALF_ENTROPY,
    TRACE,
    better,
    experiment,
    mixtures,
    problems,
    published_mixtures,
)
from .drawing import draw_inner_products, draw_largest_entropy, draw_runs, labelled, legend, panels


def fig1(protocol="code", data="fixed"):
    """Return four experts on the data of the visualization, at three moments of training.

    How does a mixture of four experts divide four clusters, at the start, in the middle and at the
    end of training? Training from the same seed takes the same path: fewer steps are an earlier
    moment. The figure shows the run whose nonlinear mixture ends with the lowest entropy, and the
    linear mixture of the same seed. Color is the expert, marker the class, background the predicted
    class. It is a t-SNE embedding of 800 training samples with the patches of each put in order
    (feature, center, noise, feature noise), as in the authors' notebook: models get them shuffled.
    The notebook differs: 10 filters per logit (here 8), one tensor of noise for all steps and for
    the test (here new draws), gradients normalized tensor by tensor (here expert by expert), 61 +
    401 steps of the nonlinear mixture and 31 + 301 of the linear one.
    """
    return experiment(
        fig1,
        "Figure 1: what the experts specialize in",
        problems=problems(("visualization",), data, n_train=1600, n_test=1600),
        models=mixtures(protocol, n_experts=4),
        grid={"max_iter": [1, 61, 501]},  # the second is the authors' middle moment
        draw=_draw_fig1,
        findings=_fig1_findings,
    )


def _last(results, model):
    """Return the cell of a mixture at the end of training."""
    return results.cell(model=model, max_iter=results.experiment.grid["max_iter"][-1])


def _draw_fig1(results):
    experiment = results.experiment
    last = _last(results, "mixture cubic")
    seed = int(last.values("seed")[last.values("entropy").argmin()])
    runs = [cell.runs[0] for cell in experiment.cells(1, seed, device="cpu")]
    samples = runs[0].problem.draw(runs[0].seed)
    points = _embed(samples, min(800, runs[0].problem.n_train))
    figure, axes = panels(len(experiment.models), len(experiment.grid["max_iter"]), (11, 8))
    for ax, run in zip(axes.flat, runs, strict=True):
        _draw_moment(run, samples, points, ax)
        ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        ax.label_outer()
    return legend(figure, labelled(axes[0, 0]), ncols=4)


def _draw_moment(run, samples, points, ax):
    """Fit once more, as results hold numbers only, and draw the first training samples."""
    X, y, clusters = (part[: run.problem.n_train] for part in samples[:3])
    with threadpool_limits(1):
        model = clone(run.estimator).set_params(random_state=run.seed).fit(X, y)
        experts, predicted, shown = model.apply(X), model.predict(X), slice(len(points))
    # The background is what is predicted of the nearest sample.
    nearest = KNeighborsClassifier(1).fit(points, predicted[shown])
    style = {"response_method": "predict", "grid_resolution": 300, "cmap": "Greys", "vmax": 4}
    DecisionBoundaryDisplay.from_estimator(nearest, points, ax=ax, eps=3, **style)
    for expert, (label, marker) in product(range(4), enumerate("ox")):
        own = (experts[shown] == expert) & (y[shown] == label)
        style = {"marker": marker, "s": 12, "label": f"expert {expert}, class {label}"}
        ax.scatter(*points[own].T, color=expert_colors(4)[expert], **style)
    entropy, accuracy = dispatch_entropy(clusters, experts), np.mean(predicted == y)
    name = "Linear" if run.estimator.activation == "linear" else "Nonlinear"
    title = f"{name}, step {model.n_iter_}\nentropy {entropy:.2f}, training accuracy "
    ax.set_title(f"{title}{100 * accuracy:.1f} %", fontsize="medium")


def _embed(samples, n_shown):
    """Return t-SNE points of the first samples, the patches of each in one order."""
    X, clusters = samples.X[:n_shown], samples.clusters[:n_shown]
    patches = np.take_along_axis(X, _order(X, clusters, samples.dictionary)[..., None], axis=1)
    tsne = TSNE(perplexity=min(30, (n_shown - 1) / 3), init="pca", random_state=0)
    return tsne.fit_transform(patches.reshape(n_shown, -1))


def _order(X, clusters, dictionary):
    """Return which patch is the feature, the center, the noise and the feature noise."""
    features, centers = (np.abs(X @ vectors.T) for vectors in dictionary)  # (n, P, K)
    own, center = (
        np.take_along_axis(products, clusters[:, None, None], axis=2)[..., 0]
        for products in (features, centers)
    )
    others = features.sum(2) - own
    noise = -(features + centers).sum(2)  # orthogonal to the dictionary
    return np.stack([own, center, noise, others], axis=1).argmax(2)


def _fig1_findings(results):
    """Yield how far the mixtures are specialized in the end."""
    linear, cubic = (_last(results, f"mixture {activation}") for activation in ACTIVATION.values())
    text = (
        "At the end the nonlinear mixture is more specialized than the linear one: entropy "
        f"{cubic.mean('entropy'):.3f} against {linear.mean('entropy'):.3f}, a difference of"
    )
    yield better(text, linear, cubic, "", 3, measure="entropy")


_RECORDED = 10  # runs
_CLOSE = 0.2  # nats: as close counts as the same
_KINDS = {"nonlinear": "cubic", "linear": "linear"}  # in the order of the figure


def fig3(protocol="code", data="fixed"):
    """Return the entropy curves of settings 1 and 2; the runs are those of table1.

    When do the experts specialize? Dispatch entropy of the training samples, in nats, at most log 4
    = 1.386: mean and 95 % interval over the runs, beside the curves that the authors recorded:
    means of ten runs that do not stop early. Here their rule may stop a run early; it is held at
    its last value, so that every step is a mean over all runs. The notebook of the figure differs
    from those of the tables in two more things: it draws the noise once, for all steps, and
    normalizes the gradient of each tensor, not of each expert (fig3_notebook). The claim is that
    entropies are those of the record: the interval of the difference (Welch) lies within {close}
    nats, at step 50 and at step 500.
    """
    return experiment(
        fig3,
        "Figure 3: dispatch entropy per step",
        {"close": _CLOSE},
        problems=problems((1, 2), data),
        models=mixtures(protocol),
        published=published_mixtures((1, 2)),
        measures=("entropy",),
        trace=TRACE,
        kept=("curve",),
        draw=_draw_fig3,
        findings=partial(_fig3_findings, protocol),
    )


def fig3_notebook(protocol="code", data="fixed"):
    """Return the entropy curves in the form of the authors' notebook, whatever the protocol.

    Does Figure 3 come out as its notebook computes it? Noise is drawn once for all steps, the
    gradient of each tensor is normalized, and no run stops early. All else is as in fig3.
    """
    return experiment(
        fig3_notebook,
        "Figure 3 in the form of the authors' notebook",
        form=fig3("code", data),
        models=mixtures("code", **FIGURE_3),
        published={},
    )


def runs_over_steps(cell, measure):
    """Return the recorded steps and a curve of every run (n_runs, n_records).

    A run that was stopped keeps its last value.
    """
    curves = [run["curve"] for run in cell.runs]
    steps = np.array(max((curve["step"] for curve in curves), key=len))
    return steps, np.stack([np.interp(steps, curve["step"], curve[measure]) for curve in curves])


def _draw_fig3(results):
    settings = results.settings
    figure, axes = panels(1, len(settings), (10, 4.8), sharey=True)
    for ax, setting in zip(axes[0], settings, strict=True):
        for color, (name, activation) in zip(expert_colors(2), _KINDS.items(), strict=True):
            cell = results.cell(setting=setting, model=f"mixture {activation}")
            steps, entropies = runs_over_steps(cell, "entropy")
            draw_runs(ax, steps, entropies, color=color, label=f"{name} experts")
            style = {"color": color, "mfc": "white", "lw": 1, "label": f"{name}, authors' record"}
            ax.plot(*ENTROPY_CURVES[setting, activation], "o--", **style)
        draw_largest_entropy(ax, 4)
        ax.set(title=f"Setting {setting}", xlabel="Step", ylabel="Dispatch entropy (nats)")
        ax.label_outer()
    title = f"mean and 95 % interval over {len(results.cells[0].runs)} runs"
    return legend(figure, labelled(axes[0, 0]), title=title)


def _fig3_findings(protocol, results):
    """Yield the mean entropies early and late, and when they fall, beside the authors' record."""
    for setting, (name, activation) in product(results.settings, _KINDS.items()):
        cell = results.cell(setting=setting, model=f"mixture {activation}")
        steps, entropies = runs_over_steps(cell, "entropy")
        record, compared, within = ENTROPY_CURVES[setting, activation], [], []
        for step, std in ENTROPY_STDS[setting, activation].items():
            ours, theirs = [np.interp(step, steps, e) for e in entropies], np.interp(step, *record)
            more = welch_interval(ours, theirs, std, _RECORDED)
            within.append(more.within(_CLOSE))
            compared.append(
                f"{np.mean(ours):.3f} at step {step}, in the authors' record {theirs:.3f}: "
                f"{more.with_mean(3, sign='+')}, {p_text(welch(ours, theirs, std, _RECORDED))}"
            )
        yield Finding(
            f"Setting {setting}: the entropy of {name} experts is {'; '.join(compared)}. It "
            f"{_fall(steps, entropies.mean(0))}; in the record it {_fall(*record)}.",
            # Both claims together hold as the weaker one does.
            min(within, key=(False, UNDECIDED, True).index) if protocol == "code" else None,
        )


def _fall(steps, values):
    """Say when a curve first falls to the level."""
    step = crossing(steps, -np.asarray(values), -HALF_ENTROPY)
    return (
        f"never falls to {HALF_ENTROPY}"
        if np.isnan(step)
        else f"falls to {HALF_ENTROPY} at step {step:.0f}"
    )


_PARTS = {  # of the weights: keys of the curves, the larger product first
    "Router": ("router_centers", "router_features"),
    "Experts": ("expert_features", "expert_centers"),
}
_VECTORS = {"centers": "centers c_k", "features": "features v_k"}


def innerproducts(protocol="code", data="fixed"):
    """Return the inner products on setting 1; the runs are those of table1.

    Does the router find the cluster centers c_k, and do the experts learn the features v_k (section
    4)? Setting 1: inner products with the router's directions theta_m and with the strongest filter
    w_m of each expert. The curves are means over the experts of their largest inner product in
    magnitude, mean and 95 % interval over the runs; a run that stopped early is held at its last
    value.
    """
    return experiment(
        innerproducts,
        "Inner products of the weights with features and centers",
        problems=problems((1,), data),
        models=mixtures(protocol),
        published=published_mixtures((1,)),
        trace=TRACE,
        kept=("curve", *MATRICES),
        draw=_draw_products,
        findings=_products_findings,
    )


def _draw_products(results):
    figure, axes = panels(3, 2, (10, 11))
    figure.suptitle("Above: nonlinear experts, first run, at the end")
    run = results.cell(model="mixture cubic").runs[0]
    draw_inner_products(axes[:2], {name: run[name] for name in MATRICES})
    for ax, (title, measures) in zip(axes[2], _PARTS.items(), strict=True):
        for color, (name, kind) in zip(expert_colors(2), _KINDS.items(), strict=True):
            cell = results.cell(model=f"mixture {kind}")
            for style, measure in zip(("-", "--"), measures, strict=True):
                label = f"{_VECTORS[measure.split('_')[1]]}, {name}"
                draw_runs(ax, *runs_over_steps(cell, measure), style, color=color, label=label)
        ax.set(title=title, xlabel="Step", ylabel="Largest inner product, mean")
        ax.legend(frameon=False, fontsize="small")
    return figure


def _products_findings(results):
    """Yield how many times as large one kind of inner product is as the other, at the end."""
    for name, kind in _KINDS.items():
        cell = results.cell(model=f"mixture {kind}")
        for title, (strong, weak) in _PARTS.items():
            ratio = _ratio(cell, strong, weak)
            vectors = [_VECTORS[measure.split("_")[1]] for measure in (strong, weak)]
            yield Finding(
                f"{title} of the {name} mixture: inner products with the {vectors[0]} are "
                f"{ratio.mean:.3g} times as large as those with the {vectors[1]} (geometric "
                f"mean over the runs, {ratio.text(1)}).",
                ratio.above(1) if name == "nonlinear" else None,  # what the theory is about
            )


def _ratio(cell, measure, other):
    """Return the geometric mean over the runs of a ratio at the end, with its interval."""
    ends = ({name: values[-1] for name, values in run["curve"].items()} for run in cell.runs)
    return mean_interval([np.log(end[measure] / end[other]) for end in ends]).exp()
