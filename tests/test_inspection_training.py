"""Pictures of a training and of its weights: entropy curves and alignment."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.datasets import make_cluster_patches
from sklearn_moe.inspection import AlignmentDisplay, DispatchEntropyDisplay, expert_colors

matplotlib.use("Agg")


def legend_texts(ax):
    legends = ax.findobj(matplotlib.legend.Legend)
    return [text.get_text() for legend in legends for text in legend.get_texts()]


# -- entropy ---------------------------------------------------------------------------------

EPOCHS = np.array([0, 10, 20])
RUNS = np.array([[1.386, 0.7, 0.1], [1.386, 0.9, 0.2], [1.386, 0.5, 0.0]])


def test_curve_is_the_mean_and_band_its_t_interval(pyplot):
    display = DispatchEntropyDisplay(EPOCHS, RUNS).plot()
    assert_array_equal(display.line_.get_xdata(), EPOCHS)
    assert_allclose(display.line_.get_ydata(), RUNS.mean(axis=0))
    vertices = display.band_.get_paths()[0].vertices
    for epoch, runs in zip(EPOCHS[1:], RUNS[:, 1:].T, strict=True):
        low, high = stats.t.interval(0.95, 2, loc=runs.mean(), scale=stats.sem(runs))
        drawn = vertices[vertices[:, 0] == epoch, 1]
        assert_allclose([drawn.min(), drawn.max()], [low, high])


def test_a_single_run_has_no_band(pyplot):
    for entropies in (RUNS[0], RUNS[:1]):
        display = DispatchEntropyDisplay(EPOCHS, entropies).plot()
        assert display.band_ is None
        assert_array_equal(display.line_.get_ydata(), RUNS[0])


def test_axis_starts_at_zero_and_shows_the_maximum(pyplot):
    display = DispatchEntropyDisplay(EPOCHS, 0.1 * RUNS, n_clusters=4).plot()
    low, high = display.ax_.get_ylim()
    assert low == 0
    assert high > np.log(4)
    assert set(display.maximum_.get_ydata()) == {np.log(4)}
    assert [text.get_text() for text in display.ax_.texts] == ["maximum, log 4 = 1.386"]
    assert DispatchEntropyDisplay(EPOCHS, RUNS).plot().maximum_ is None


def test_several_curves_on_the_same_axes(pyplot):
    first = DispatchEntropyDisplay(EPOCHS, RUNS, n_clusters=4).plot(name="nonlinear")
    ax = first.ax_
    second = DispatchEntropyDisplay(EPOCHS, RUNS + 1, n_clusters=4).plot(ax=ax, name="linear")
    assert legend_texts(ax) == ["nonlinear", "linear"]
    assert ax.get_legend().get_title().get_text() == "mean, 95% t interval"
    assert_allclose([line.get_color() for line in (first.line_, second.line_)], expert_colors(2))
    assert second.maximum_ is None  # it is there already
    assert len(ax.texts) == 1
    other = DispatchEntropyDisplay(EPOCHS, RUNS[0], n_clusters=10).plot(ax=ax)
    assert set(other.maximum_.get_ydata()) == {np.log(10)}
    assert ax.get_ylim()[1] > np.log(10)


def test_style_of_the_curve_reaches_matplotlib(pyplot):
    display = DispatchEntropyDisplay(EPOCHS, RUNS, n_clusters=4).plot(
        line_kw={"color": "red", "linewidth": 3},
        band_kw={"alpha": 0.5},
        maximum_kw={"linestyle": ":"},
    )
    assert (display.line_.get_color(), display.line_.get_linewidth()) == ("red", 3)
    assert display.band_.get_alpha() == 0.5
    assert_array_equal(display.band_.get_facecolor(), [(1, 0, 0, 0.5)])
    assert display.maximum_.get_linestyle() == ":"


def trace(epochs, entropies):
    return SimpleNamespace(epochs_=np.array(epochs), dispatch_entropy_=np.array(entropies))


def test_traces_of_equal_and_unequal_length(pyplot):
    runs = [trace(EPOCHS, run) for run in RUNS]
    display = DispatchEntropyDisplay.from_traces(runs, n_clusters=4, name="nonlinear")
    assert_array_equal(display.epochs, EPOCHS)
    assert_array_equal(display.entropies, RUNS)
    assert legend_texts(display.ax_) == ["nonlinear"]
    display = DispatchEntropyDisplay.from_traces([*runs, trace([0, 5, 10], [1, 2, 3])])
    assert_array_equal(display.epochs, [0, 10])
    assert_array_equal(display.entropies, [*RUNS[:, :2], [1, 3]])
    alone = DispatchEntropyDisplay.from_traces(runs[1])
    assert_array_equal(alone.entropies, RUNS[1:2])
    assert alone.band_ is None
    assert alone.n_clusters is None
    runs[0].clusters = ["a", "b", "a", "c", "b"]
    assert DispatchEntropyDisplay.from_traces(runs).n_clusters == 3
    assert DispatchEntropyDisplay.from_traces(runs, n_clusters=4).n_clusters == 4


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_traces_of_fits(pyplot, kind):
    X, y, clusters, dictionary = make_cluster_patches(
        300, return_clusters=True, return_dictionary=True, random_state=0
    )
    y = {"classes": y, "labels": np.stack([y, clusters % 2], axis=1), "numbers": y + 0.5}[kind]
    estimator = MoERegressor if kind == "regression" else MoEClassifier
    traces = [RoutingTrace(X, clusters, dictionary=dictionary, every=2) for _ in range(2)]
    for seed, trace in enumerate(traces):
        clf = estimator(3, max_iter=4, tol=None, callbacks=[trace], random_state=seed)
        clf.fit(X, y)
    display = DispatchEntropyDisplay.from_traces(traces)
    assert display.epochs.tolist() == [0, 2, 4]
    assert display.n_clusters == 4
    last = AlignmentDisplay.from_trace(traces[1])
    assert_allclose(
        last.expert_features,
        AlignmentDisplay.from_estimator(clf, dictionary).expert_features,
        atol=1e-6,
    )
    with pytest.raises(TypeError, match="finished fits"):
        DispatchEntropyDisplay.from_traces(RoutingTrace(X, clusters))


def test_malformed_entropies_are_refused(pyplot):
    with pytest.raises(ValueError, match=r"got shape \(3, 3\) for epochs of shape \(2,\)"):
        DispatchEntropyDisplay(EPOCHS[:2], RUNS).plot()
    with pytest.raises(ValueError, match="got none"):
        DispatchEntropyDisplay.from_traces([])
    with pytest.raises(ValueError, match="no recorded epoch in common"):
        DispatchEntropyDisplay.from_traces([trace([0], [1.0]), trace([1], [1.0])])
    with pytest.raises(ValueError, match="got 1 for 2 epochs"):
        DispatchEntropyDisplay.from_traces([trace([0, 1], [1.0])])
    with pytest.raises(ValueError, match="Record it with clusters"):
        DispatchEntropyDisplay.from_traces(trace([0, 1], [np.nan, np.nan]))
    with pytest.raises(TypeError, match="no epochs_ and no dispatch_entropy_"):
        DispatchEntropyDisplay.from_traces([LogisticRegression()])
    assert pyplot.get_fignums() == []


# -- alignment -------------------------------------------------------------------------------


class Linear:
    def __init__(self, *shape, seed=0):
        self.weight = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        self.weight.requires_grad_()


class Deep(Linear):
    hidden = torch.nn.Linear(10, 10)


def mixture(n_experts=5, patch_size=10, router=None, experts=None):
    """Return the least that an alignment asks of an estimator."""
    network = Linear(n_experts, patch_size) if router is None else router
    experts = (
        [Linear(2, 8, patch_size, seed=m) for m in range(n_experts)] if experts is None else experts
    )
    module = SimpleNamespace(router=SimpleNamespace(network=network), experts=experts)
    return SimpleNamespace(module_=module)


@pytest.fixture
def dictionary():
    basis = np.linalg.qr(np.random.RandomState(0).normal(size=(10, 10)))[0]
    return basis[:3], basis[3:6]


def images(display):
    return [np.asarray(image.get_array()) for image in display.im_.flat]


def test_products_of_weights_and_dictionary(pyplot, dictionary):
    features, centers = dictionary
    estimator = mixture()
    display = AlignmentDisplay.from_estimator(estimator, dictionary)
    theta = estimator.module_.router.network.weight.detach().numpy()
    assert_allclose(display.router_features, theta @ features.T, rtol=1e-5)
    assert_allclose(display.router_centers, theta @ centers.T, rtol=1e-5)
    assert display.expert_features.shape == display.expert_centers.shape == (5, 16, 3)
    for m, expert in enumerate(estimator.module_.experts):
        filters = expert.weight.detach().numpy().reshape(16, 10)
        assert_allclose(display.expert_features[m], filters @ features.T, rtol=1e-4, atol=1e-6)
        assert_allclose(display.expert_centers[m], filters @ centers.T, rtol=1e-4, atol=1e-6)
    top_left, top_right, bottom_left, bottom_right = images(display)
    assert_array_equal(top_left, display.router_features.T)
    assert_array_equal(top_right, display.router_centers.T)
    for shown, products in (
        (bottom_left, display.expert_features),
        (bottom_right, display.expert_centers),
    ):
        assert shown.shape == (3, 5)
        assert_array_equal(np.abs(shown), np.abs(products).max(axis=1).T)
        for (k, m), value in np.ndenumerate(shown):
            assert value in products[m, :, k]  # with its sign


def test_colors_are_centered_and_shared_by_a_row(pyplot):
    small, large = np.full((4, 3), 0.1), np.full((4, 3), -2.0)
    display = AlignmentDisplay(small, large, small[:, None], 0 * small[:, None]).plot()
    limits = [image.get_clim() for image in display.im_.flat]
    assert limits == [(-2, 2), (-2, 2), (-0.1, 0.1), (-0.1, 0.1)]
    untrained = AlignmentDisplay(0 * small, 0 * small, large[:, None], large[:, None]).plot()
    assert untrained.im_[0, 0].get_clim() == (-1, 1)
    assert {text.get_text() for text in untrained.text_[0, 0].flat} == {"0"}


def test_numbers_have_two_digits_at_most_and_are_in_all_images_or_none(pyplot):
    theta, filters = np.full((4, 3), 0.1234), np.full((4, 2, 3), 25.6)
    display = AlignmentDisplay(theta, 0.01 * theta, filters, -filters).plot()
    shown = [{text.get_text() for text in cells.flat} for cells in display.text_.flat]
    assert shown == [{"0.12"}, {"0"}, {"26"}, {"-26"}]
    many = [np.repeat(array, 8, axis=0) for array in (theta, theta, filters, filters)]
    assert set(AlignmentDisplay(*many).plot().text_.flat) == {None}
    assert AlignmentDisplay(*many).plot(include_values=True).text_[0, 0].shape == (3, 32)
    tiny = AlignmentDisplay(1e-6 * theta, theta * 0, filters, filters).plot()
    assert tiny.text_[0, 0][0, 0].get_text() == "1e-07"


def test_of_a_trace(pyplot):
    rng = np.random.RandomState(0)
    trace = SimpleNamespace(
        router_features_=rng.normal(size=(6, 5, 3)),
        router_centers_=rng.normal(size=(6, 5, 3)),
        expert_features_=rng.normal(size=(6, 5, 8, 3)),
        expert_centers_=rng.normal(size=(6, 5, 8, 3)),
    )
    for index in (-1, 2):
        display = AlignmentDisplay.from_trace(trace, index)
        assert_array_equal(display.router_centers, trace.router_centers_[index])
        assert_array_equal(display.expert_features, trace.expert_features_[index])
    assert_array_equal(
        AlignmentDisplay.from_trace(trace).router_features, trace.router_features_[5]
    )
    trace.expert_centers_ = None
    with pytest.raises(TypeError, match="has no expert_centers_"):
        AlignmentDisplay.from_trace(trace)


def test_axes_and_style_of_the_alignment(pyplot, dictionary):
    figure, axes = pyplot.subplots(2, 2)
    display = AlignmentDisplay.from_estimator(
        mixture(),
        dictionary,
        axes=axes,
        cmap="PuOr",
        colorbar=False,
        display_labels=["a", "b", "c"],
        im_kw={"alpha": 0.5},
        text_kw={"color": "red"},
        include_values=True,
    )
    assert display.figure_ is figure
    assert_array_equal(display.axes_, axes)
    assert len(figure.axes) == 4
    assert {image.get_cmap().name for image in display.im_.flat} == {"PuOr"}
    assert {image.get_alpha() for image in display.im_.flat} == {0.5}
    assert {text.get_color() for cells in display.text_.flat for text in cells.flat} == {"red"}
    assert [label.get_text() for label in axes[0, 0].get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="2 x 2 matplotlib Axes"):
        display.plot(axes=axes[0])


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression().fit([[0], [1]], [0, 1]), "LogisticRegression does not have"),
        (mixture(router=Linear(5, 3, 4, 4)), r"a Linear with a weight of shape \(5, 3, 4, 4\)"),
        (mixture(router=SimpleNamespace()), "SimpleNamespace with no weight"),
        (mixture(router=Deep(5, 10)), "Only a linear router"),
        (mixture(experts=[Linear(20, 10)] * 5), r"Linear with a weight of shape \(20, 10\)"),
        (mixture(experts=[torch.nn.ReLU()] * 5), "an expert is a ReLU with no weight"),
        (mixture(n_experts=2, experts=[Linear(2, 8, 10), Linear(2, 4, 10)]), "as many filters"),
    ],
)
def test_other_routers_and_experts_are_refused(estimator, message, dictionary):
    with pytest.raises(TypeError, match=message):
        AlignmentDisplay.from_estimator(estimator, dictionary)


def test_a_single_expert_has_no_router(dictionary):
    estimator = mixture(n_experts=1)
    estimator.module_.router = None
    with pytest.raises(TypeError, match=r"no router.*n_experts >= 2"):
        AlignmentDisplay.from_estimator(estimator, dictionary)


def test_malformed_dictionaries_and_products_are_refused(pyplot, dictionary):
    features, centers = dictionary
    for wrong in ((features[:, :9], centers[:, :9]), (features, centers[:2]), (features,), ()):
        with pytest.raises(ValueError, match=r"both of shape \(n_clusters, 10\)"):
            AlignmentDisplay.from_estimator(mixture(), wrong)
    with pytest.raises(ValueError, match="3 clusters, got 1 labels"):
        AlignmentDisplay.from_estimator(mixture(), dictionary, display_labels=["a"])
    theta, filters = np.ones((4, 3)), np.ones((4, 2, 3))
    for wrong in (
        (theta, theta, theta, theta),
        (theta, theta[1:], filters, filters),
        (theta, theta, filters, filters[:, :1]),
        (theta, theta, filters[1:], filters[1:]),
        (theta, theta, filters[:, :0], filters[:, :0]),
    ):
        with pytest.raises(ValueError, match=r"\(n_experts, n_filters, n_clusters\), got"):
            AlignmentDisplay(*wrong).plot()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(("estimator", "n_outputs"), [(MoEClassifier, 2), (MoERegressor, 1)])
def test_alignment_of_a_fitted_mixture(pyplot, estimator, n_outputs):
    X, y, dictionary = make_cluster_patches(400, return_dictionary=True, random_state=0)
    clf = estimator(n_experts=3, max_iter=3, tol=None, random_state=0)
    with pytest.raises(NotFittedError):
        AlignmentDisplay.from_estimator(clf, dictionary)
    clf.fit(X, y)
    display = AlignmentDisplay.from_estimator(clf, dictionary)
    assert display.router_centers.shape == (3, 4)
    assert display.expert_features.shape == (3, 8 * n_outputs, 4)
    pipeline = make_pipeline(FunctionTransformer(), clf)
    again = AlignmentDisplay.from_estimator(pipeline, dictionary)
    assert_array_equal(again.expert_features, display.expert_features)
