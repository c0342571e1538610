"""Theorem 4.2, statement by statement, and what its proof says of the routing early on."""

from typing import NamedTuple

import numpy as np

from ..._training import Callback
from ...metrics import expert_error_matrix, routing_matrix
from .._experiment import Experiment, Finding
from .._protocols import paper_classifier
from .._run import LIVE, Problem, Run, used_experts
from .._statistics import mean_interval, share_interval
from .coverage import covered_by_chance
from .drawing import COLORS, legend, mark, panels

GOOD = 5.0  # percent: an expert is good on a cluster if its error there is below
_SAMPLES, _RECORDS = 500, 40  # whose routing is followed early on, and how often
_WAYS = ("", "_without")  # the routing as it is, and by the same scores without noise
_GROWN = (10, 50, 200)  # times what <w, v_k> was at the start; the second ends the exploration


class EarlyRouting(Callback):
    """Keep the scores of the first training samples, without noise, and the experts' weights.

    Parameters
    ----------
    steps : int, default=80
        From the start.
    """

    def __init__(self, steps=80):
        self.steps = steps

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Keep the start."""
        self.scores_, self.weights_ = [], []
        self._keep(net, X)

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        """Keep what a step has changed (one epoch is one step, full batch)."""
        if len(net.history) <= self.steps:
            self._keep(net, dataset_train.X)

    def _keep(self, net, X):
        module = net.module_.eval()
        self.scores_.append(net.map_batches(lambda x: module.route(x).scores, X[:_SAMPLES]))
        weights = [expert.weight.detach().cpu().numpy() for expert in module.experts]
        self.weights_.append(np.stack([w.reshape(-1, w.shape[-1]) for w in weights]))


_MODELS = {
    "8 experts": {},
    # The theorem asks for a small eta: eta_r = M^2 eta, and a fast router moves before the experts
    # have committed. This one has the router rate of eight experts.
    "16 experts, eta / 4": {
        "n_experts": 16,
        "learning_rate_init": 0.00025,
        "router__learning_rate": 0.064,
        "max_iter": 2001,
        "callbacks": [EarlyRouting(240)],
    },
    "8 experts, no noise": {"router__noise": None},
}


def probabilities(scores, noise=True):
    """Return the probability of every expert to have the highest score, (n_samples, n_experts).

    With noise that is uniform on [0, 1] and independent it is the integral, over the level t that
    the winner reaches, of the probability that all others stay below: a polynomial between any two
    of the levels at which an expert cannot win any more, so that it is exact.
    """
    n_samples, n_experts = scores.shape
    if not noise:
        return np.eye(n_experts)[scores.argmax(1)]
    scores = scores - scores.max(1, keepdims=True)
    edges = np.maximum(np.sort(scores + 1, axis=1), 0)  # (n, M); no one can win below 0
    widths = np.diff(edges, axis=1, prepend=0)[..., None]
    nodes, weights = np.polynomial.legendre.leggauss(n_experts // 2 + 1)
    t = edges[..., None] + widths * (nodes - 1) / 2
    t, weights = (a.reshape(n_samples, -1, 1) for a in (t, widths * weights / 2))
    below = np.clip(t - scores[:, None], 1e-300, 1)  # (n, t, M): P(score + noise < t)
    others = weights * below.prod(2, keepdims=True) / below
    return (others * (t < scores[:, None] + 1)).sum(1)


def on_clusters(fitted, X, y, clusters):
    """Return error in percent (M, K) and routes (K, M) of every expert on every cluster."""
    errors = expert_error_matrix(y, clusters, fitted.expert_proba(X), fitted.classes_)
    return 100 * errors, routing_matrix(clusters, fitted.apply(X), n_experts=fitted.n_experts)


class TheoremRun(Run):
    """A run that measures every expert on every cluster, and the routing early on."""

    def measure(self, fitted, samples):
        """Return errors, routes, and curves over the first steps."""
        n = self.problem.n_train
        (train, _), (test, routes) = (
            on_clusters(fitted, *(values[part] for values in samples[:3]))
            for part in (slice(n), slice(n, None))
        )
        matrices = {"train_errors": train, "test_errors": test, "dispatch": routes}
        found = {name: matrix.tolist() for name, matrix in matrices.items()}
        return found | {"early": _early(fitted, samples)}


def _early(fitted, samples):
    """Return curves over the first steps: how far experts have grown, how the routing changes."""
    (kept,) = (c for c in fitted.callbacks if isinstance(c, EarlyRouting))
    clusters, features = samples.clusters[: len(kept.scores_[0])], samples.dictionary[0]
    strongest = np.array([np.abs(w @ features.T).max((1, 2)).mean() for w in kept.weights_])
    after = np.unique(np.linspace(1, len(kept.scores_) - 1, _RECORDS).astype(int))
    curves = {"growth": strongest[after] / strongest[0]}
    for way, noise in zip(_WAYS, (fitted.router.noise is not None, False), strict=True):
        before, now = (
            np.stack([probabilities(kept.scores_[step], noise) for step in steps])
            for steps in (after - 1, after)
        )
        load = np.stack([now[:, clusters == k].mean(1) for k in np.unique(clusters)])
        curves[f"uneven{way}"] = np.abs(load * now.shape[2] - 1).max((0, 2))
        curves[f"moved{way}"] = np.abs(now - before).sum(2).mean(1) / 2  # total variation
    return {name: curve.tolist() for name, curve in curves.items()}


def theorem(protocol="paper", data="fresh"):
    """Return the text's nonlinear mixtures on settings 1 and 2: new data, whatever the protocol."""
    return Experiment(
        name="theorem",
        title="Theorem 4.2, statement by statement",
        question=(
            "Training error 0, test error near 0; every expert is good on one cluster, M_k are "
            "those of cluster k, and none is empty; the router sends a sample of cluster k to an "
            "expert of M_k. And two steps of its proof: the load is still even when the experts "
            f"have committed (<w, v_k> is {_GROWN[1]} times that of the start), and noise makes "
            "routing a smooth function of the scores. The algorithm of the text, 4,000 samples to "
            "train on, a problem of its own for each run. The cluster of an expert is that of its "
            f"least training error; used are experts with {100 * LIVE:g} % of the test samples. "
            "Intervals are not corrected for their number."
        ),
        problems=tuple(Problem(s, n_train=4000, n_test=4000) for s in (1, 2)),
        models={
            name: paper_classifier(**{"callbacks": [EarlyRouting()]} | changes)
            for name, changes in _MODELS.items()
        },
        measures=("accuracy", "train_accuracy", "test_entropy"),
        run=TheoremRun,
        kept=("train_errors", "test_errors", "dispatch", "early"),
        draw=_draw,
        findings=_findings,
    )


class Experts(NamedTuple):
    """What the theorem says of the experts of a run.

    Attributes
    ----------
    cluster : ndarray of int of shape (n_experts,)
        The k with the expert in M_k.
    own, others : ndarray of shape (n_experts,)
        Test error on it, and mean of those on the other clusters, in percent.
    used : ndarray of bool of shape (n_experts,)
    filled : int
        Number of clusters with an expert whose own error is below `GOOD`.
    sent : float
        Percent of the test samples that are routed to an expert of their cluster's M_k.
    """

    cluster: np.ndarray
    own: np.ndarray
    others: np.ndarray
    used: np.ndarray
    filled: int
    sent: float


def experts_of(run):
    """Return the :class:`Experts` of a run."""
    errors, routes = np.array(run["test_errors"]), np.array(run["dispatch"])
    cluster = np.argmin(run["train_errors"], axis=1)
    each = np.arange(len(cluster))
    own = errors[each, cluster]
    others = (errors.sum(1) - own) / (errors.shape[1] - 1)
    filled = len(np.unique(cluster[own < GOOD]))
    sent = 100 * float(routes[cluster, each].sum() / routes.sum())
    return Experts(cluster, own, others, used_experts(routes), filled, sent)


def uneven(run, grown=_GROWN[1]):
    """Return by how many percent of n / M the load departs from it at some growth of experts.

    The largest departure over experts and clusters.
    """
    return 100 * float(np.interp(grown, run["early"]["growth"], run["early"]["uneven"]))


def moved(run, way=""):
    """Return the percent of the samples that a step of exploration moves to another expert."""
    steps = max(1, np.searchsorted(run["early"]["growth"], _GROWN[1]))
    return 100 * float(np.mean(run["early"][f"moved{way}"][:steps]))


def _findings(results):
    for setting in results.settings:
        *noisy, quiet = results.select(setting=setting)
        for cell in noisy:
            for text, holds in (*_counts(cell.runs), *_means(cell.runs), _smooth(cell.runs)):
                yield Finding(f"Setting {setting}, {cell.labels['model']}: {text}.", holds)
        loads = [[uneven(run) for run in cell.runs] for cell in (noisy[0], quiet)]
        change = mean_interval(np.subtract(loads[1], loads[0]))
        yield Finding(
            f"Setting {setting}: it takes noise to keep the load even. At the end of exploration "
            f"it departs from n / M by {np.mean(loads[1]):.0f} % in training without noise, "
            f"{change.with_mean(0, 'points more')}.",
            change.above(0),
        )


def _counts(runs):
    """Yield in how many runs a statement is true, and whether in all."""
    n, (n_clusters, n_experts) = len(runs), np.shape(runs[0]["dispatch"])
    chance = f", {covered_by_chance(n_clusters, n_experts):.2f} if experts committed at random"
    errors = np.array([100 - run["train_accuracy"] for run in runs])
    for text, count, note in (
        ("training error is 0", sum(errors == 0), f", {errors.mean():.2g} % on average"),
        ("no M_k is empty", sum(experts_of(run).filled == n_clusters for run in runs), chance),
    ):
        share = share_interval(count, n)
        yield f"{text} in {count} of {n} runs ({share.text(2)}{note}); rule: in all", count == n


def _means(runs):
    """Yield a mean in percent with its interval, and whether all of this is near what it should."""
    experts = [experts_of(run) for run in runs]
    loads = ", ".join(f"{np.mean([uneven(r, g) for r in runs]):.2g} at {g}" for g in _GROWN)
    for text, values, expected, tolerance in (
        ("test error", [100 - run["accuracy"] for run in runs], 0, 1),
        ("own cluster, used experts: error", [e.own[e.used].mean() for e in experts], 0, 1),
        ("own cluster, all experts: error", [e.own.mean() for e in experts], 0, 1),
        ("other clusters, used experts: error", [e.others[e.used].mean() for e in experts], 50, 5),
        ("samples routed to an expert of their M_k", [e.sent for e in experts], 100, 1),
        (
            f"departure of the load from n / M ({loads} times the start) at the end of exploration",
            *([uneven(run) for run in runs], 0, 10),
        ),
    ):
        mean, rule = mean_interval(values), f"rule: interval within {tolerance} of {expected} %"
        yield f"{text} {mean.with_mean(2, '%')}; {rule}", mean.within(tolerance, of=expected)


def _smooth(runs):
    """Compare the routing with that by the same scores without noise, run by run."""
    noisy, without = ([moved(run, way) for run in runs] for way in _WAYS)
    more = mean_interval(np.subtract(without, noisy))
    return (
        f"noise smooths routing: a step of exploration moves {np.mean(noisy):.2g} % of the samples,"
        f" by the same scores without noise {np.mean(without):.0f} %, "
        f"{more.with_mean(0, 'points more')}"
    ), more.above(0)


def _draw(results):
    """Draw a row per setting: errors of a run of either size, the load, and how routing changes."""
    settings = results.settings
    figure, axes = panels(len(settings), 4, (13, 4.2 * len(settings)))
    names = (r"largest $|M \cdot load - 1|$", "share of the samples moved by a step")
    for row, setting in zip(axes, settings, strict=True):
        cells = results.select(setting=setting)
        for ax, cell in zip(row, cells[:2], strict=False):
            image = _draw_errors(ax, cell.runs[0])
            ax.set_title(f"setting {setting}: {cell.labels['model']}", fontsize=10)
        for cell, color in zip(cells, COLORS, strict=False):
            style = {"color": color, "lw": 0.8, "alpha": 0.7}
            for early in (run["early"] for run in cell.runs):
                row[2].plot(early["growth"], early["uneven"], **style)
                for way, line in zip(_WAYS, "-:", strict=True):
                    share = np.array(early[f"moved{way}"])  # a logarithm has no zero
                    row[3].plot(early["growth"], np.where(share, share, np.nan), line, **style)
        for ax, name in zip(row[2:], names, strict=True):
            ax.set(xscale="log", yscale="log", ylim=(1e-6, 20), xlabel="growth of the experts")
            ax.set_ylabel(name)
            ax.set_title(f"setting {setting}", fontsize=10)
            for grown in _GROWN:
                ax.axvline(grown, color="0.8", zorder=0, lw=2 if grown == _GROWN[1] else 1)
    figure.colorbar(image, ax=axes[:, :2], location="bottom", shrink=0.5, label="test error (%)")
    handles = [mark(name, color=color) for name, color in zip(_MODELS, COLORS, strict=False)]
    legend(figure, [*handles, mark("the same scores without noise", color="0.5", ls=":")])
    return figure


def _draw_errors(ax, run):
    """Draw the errors of the experts as a matrix, those of a cluster together."""
    routes = np.array(run["dispatch"])
    share = 100 * routes.sum(0) / routes.sum()
    order = np.lexsort((-share, experts_of(run).cluster))
    errors = np.array(run["test_errors"])[order]
    labels = [f"{s:.0f} %" if s >= 100 * LIVE else "unused" for s in share[order]]
    ax.set_yticks(range(len(order)), labels)
    ax.set(xticks=range(len(routes)), xlabel="cluster", ylabel="expert, by its share of samples")
    return ax.imshow(errors, vmin=0, vmax=50, cmap="viridis_r", aspect="auto")
