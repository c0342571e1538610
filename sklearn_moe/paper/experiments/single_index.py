"""Clustered single-index regression: one model of all samples, or a model for each cluster."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ... import MixtureRegressor, MoERegressor
from ...metrics import dispatch_entropy
from .._experiment import Experiment, Finding
from .._run import Problem, Run, Samples, one_thread, seconds
from .._statistics import mean_interval
from .drawing import COLORS, draw_learning_curves, labelled, legend, panels

_CLUSTERS, _SIZES = (1, 2, 4), (500, 1000, 2000, 4000)
_ONE, _WIDE, _MIXTURE = "network", "network of 800 units", "mixture of networks"
_CUBIC, _CUBICS = "cubic polynomial", "mixture of cubics"


@dataclass(frozen=True)
class SingleIndex(Problem):
    """Gaussian clusters, in each of which y is a function of two directions (arXiv 2506.01656).

    x ~ N(distance v_c, I) and y = h(<w_c, x>) + s_c h(<w, x>) + noise with h = He_3 / sqrt(6), the
    third Hermite polynomial. The means v_c are orthonormal; the directions w_c, of a cluster each,
    and w, of all, are unit vectors orthogonal to the means. The signs s_c alternate, so that w
    cancels in the average over all clusters, in which each w_c has a small share. The setting is
    the number of clusters; with one there is nothing to divide.
    """

    setting: int = 4
    n_test: int = 4000
    n_features: int = 8
    distance: float = 4.0
    noise: float = 0.1

    def draw(self, seed):
        """Return the samples of the run with this seed; no sample is harder than another."""
        rng, n, k = np.random.default_rng(seed), self.n_train + self.n_test, self.setting
        basis = np.linalg.qr(rng.standard_normal((self.n_features, self.n_features)))[0].T
        directions = rng.standard_normal((k + 1, self.n_features - k)) @ basis[k:]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        clusters = rng.integers(k, size=n)
        X = self.distance * basis[clusters] + rng.standard_normal((n, self.n_features))
        own, common = (X * directions[clusters]).sum(1), X @ directions[-1]
        y = _hermite(own) + (-1.0) ** clusters * _hermite(common)
        y += self.noise * rng.standard_normal(n)
        return Samples(X, y, clusters, np.zeros(n), (basis[:k], directions))


def _hermite(z):
    return (z**3 - 3 * z) / sqrt(6)


class RegressionRun(Run):
    """A fit to numbers: R2, and of a mixture whether it divides the samples by cluster."""

    def fit(self, model):
        """Fit a model, and return it and what is measured of it."""
        X, y, clusters, *_ = self.problem.draw(self.seed)
        n = self.problem.n_train
        with one_thread():
            result = {"fit_seconds": seconds(model.fit, X[:n], y[:n])}
            result |= {"r2": model.score(X[n:], y[n:]), "train_r2": model.score(X[:n], y[:n])}
            if self._routes or isinstance(model, MixtureRegressor):
                result["entropy"] = float(dispatch_entropy(clusters[n:], model.apply(X[n:])))
        return model, result


def single_index(protocol="code", data="fixed"):
    """Return R2 over the number of samples and of clusters, of mixtures and of single models."""
    cubic = make_pipeline(StandardScaler(), PolynomialFeatures(3), Ridge())
    gate = LogisticRegression(max_iter=1000)
    # Nothing is learned for some epochs: rules that stop fits would decide, not the models.
    fixed = {"early_stopping": False}
    return Experiment(
        name="single_index",
        title="Clustered single-index regression",
        question=(
            "Kawata et al. (arXiv 2506.01656) prove for online gradient descent that one network "
            "cannot learn a regression whose clusters have directions of their own, as these "
            "cancel in the average, and that a mixture can. Is that so for networks trained as "
            "usual, and for mixtures fitted by EM? There are 1 (nothing cancels), 2 or 4 clusters "
            "in 8 dimensions; a new problem for each run. Mixture of networks: eight experts of "
            "100 units, trained by the loss of the mixture alone; by default each also has a loss "
            "of its own, which makes them an ensemble. Mixture of cubics: MixtureRegressor with "
            "four cubic polynomials and a logistic gate. Intervals are not corrected for their "
            "number."
        ),
        problems=tuple(SingleIndex(c, n) for c in _CLUSTERS for n in _SIZES),
        models={
            _MIXTURE: MoERegressor(expert_loss_weight=0, **fixed),
            "ensemble of networks (default)": MoERegressor(),
            _ONE: MoERegressor(n_experts=1, **fixed),
            _WIDE: MoERegressor(n_experts=1, expert_width=800, **fixed),
            _CUBICS: MixtureRegressor(cubic, gate=gate, n_components=4, n_init=5),
            _CUBIC: cubic,
            "gradient boosting": HistGradientBoostingRegressor(),
        },
        n_runs=5,
        measures=("r2", "entropy"),
        draw=_draw,
        findings=_findings,
        run=RegressionRun,
    )


def _findings(results):
    least, most, n_train = min(_CLUSTERS), max(_CLUSTERS), max(_SIZES)
    easy, hard = (results.by("model", setting=k, n_train=n_train) for k in (least, most))
    lost = {model: easy[model].values("r2") - hard[model].values("r2") for model in hard}
    for mixture, single in ((_MIXTURE, _ONE), (_MIXTURE, _WIDE), (_CUBICS, _CUBIC)):
        gain = hard[mixture].interval("r2", over=hard[single])
        yield Finding(
            f"{most} clusters, {n_train:,} samples: R2 {hard[mixture].mean('r2'):.3f} of the "
            f"{mixture}, {hard[single].mean('r2'):.3f} of the {single}, "
            f"{gain.with_mean(3, 'more')}.",
            gain.above(0),
        )
        saved = mean_interval(lost[single] - lost[mixture])
        yield Finding(
            f"From {least} to {most} clusters the {single} loses {lost[single].mean():.3f} of R2, "
            f"the {mixture} {lost[mixture].mean():.3f}, {saved.with_mean(3, 'less')}.",
            saved.above(0),
        )
    yield Finding(
        f"Dispatch entropy with {most} clusters and {n_train:,} samples: "
        f"{hard[_MIXTURE].mean('entropy'):.2f} nats of the {_MIXTURE}, "
        f"{hard[_CUBICS].mean('entropy'):.2f} of the {_CUBICS}; {log(most):.2f} where experts do "
        "not know the clusters."
    )


def _draw(results):
    """Draw a panel per number of clusters: mean R2 and its interval over the samples."""
    figure, axes = panels(1, len(_CLUSTERS), (11.5, 4.2), sharey=True)
    models = results.experiment.models
    styles = dict(zip(models, zip((*COLORS, "black"), "oDsPXv^", strict=True), strict=True))
    for ax, n_clusters in zip(axes[0], _CLUSTERS, strict=True):
        draw_learning_curves(ax, results, "r2", styles, _MIXTURE, most=1, setting=n_clusters)
        ax.set(title=f"{n_clusters} cluster{'s' * (n_clusters > 1)}", ylim=(-0.25, 1.05))
    axes[0, 0].set_ylabel("R2 on test samples")
    legend(figure, labelled(axes[0, 0]), ncols=4, title="band: 95 % interval of the mean")
    return figure
