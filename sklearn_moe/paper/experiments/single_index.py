"""Clustered single-index regression: one model of all samples, or a model for each cluster."""

from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ... import MixtureRegressor, MoERegressor
from .._artificial_runs import RegressionRun, SingleIndex
from .common import better, experiment
from .drawing import draw_learning_curves, labelled, legend, panels

_CLUSTERS, _SIZES = (1, 2, 4), (500, 1000, 2000, 4000)
_ONE, _WIDE, _MIXTURE = "network", "network of 800 units", "mixture of networks"
_CUBIC, _CUBICS = "cubic polynomial", "mixture of cubics"


def single_index(protocol="code", data="fixed"):
    """Return R2 over the number of samples and of clusters, of mixtures and of single models.

    Inspired by Kawata et al. (arXiv 2506.01656), who prove for online gradient descent that one
    network cannot learn a regression whose clusters have directions of their own, and that a
    mixture can. Here these are diluted in the average over all clusters, and a direction that they
    have in common cancels. Is that hard for networks trained as usual, and for mixtures fitted by
    EM? The directions of the paper have little correlation; the five of four clusters are in four
    dimensions here, with a mean |cosine| of 0.42. There are 1 (nothing cancels), 2 or 4 clusters in
    8 dimensions; a new problem for each run. Mixture of networks: eight experts of 100 units,
    trained by the loss of the mixture alone; by default each also has a loss of its own, which
    makes them an ensemble. Mixture of cubics: MixtureRegressor with four cubic polynomials and a
    logistic gate. Intervals are not corrected for their number.
    """
    cubic = make_pipeline(StandardScaler(), PolynomialFeatures(3), Ridge())
    gate = LogisticRegression(max_iter=1000)
    # Nothing is learned for some epochs: rules that stop fits would decide, not the models.
    fixed = {"early_stopping": False}
    return experiment(
        single_index,
        "Clustered single-index regression",
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
    most, n_train = max(_CLUSTERS), max(_SIZES)
    hard = results.by("model", setting=most, n_train=n_train)
    for mixture, single in ((_MIXTURE, _ONE), (_MIXTURE, _WIDE), (_CUBICS, _CUBIC)):
        text = (
            f"{most} clusters, {n_train:,} samples: R2 {hard[mixture].mean('r2'):.3f} of the "
            f"{mixture}, {hard[single].mean('r2'):.3f} of the {single},"
        )
        yield better(text, hard[mixture], hard[single], "more", 3, measure="r2")


def _draw(results):
    """Draw a panel per number of clusters: mean R2 and its interval over the samples."""
    figure, axes = panels(1, len(_CLUSTERS), (11.5, 4.2), sharey=True)
    for ax, n_clusters in zip(axes[0], _CLUSTERS, strict=True):
        draw_learning_curves(ax, results, "r2", most=1, setting=n_clusters)
        ax.set(title=f"{n_clusters} cluster{'s' * (n_clusters > 1)}", ylim=(-0.25, 1.05))
    axes[0, 0].set_ylabel("R2 on test samples")
    return legend(figure, labelled(axes[0, 0]), ncols=4, title="band: 95 % interval of the mean")
