"""The plots of a training and of its weights: entropy curves and alignment."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import legend_texts, raises, seeded
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
    for entropies in (RUNS[0], RUNS[:1]):
        display = DispatchEntropyDisplay(EPOCHS, entropies).plot()
        assert display.band_ is None
        assert_array_equal(display.line_.get_ydata(), RUNS[0])


def test_maximum_and_several_curves_on_the_same_axes(pyplot):
    first = DispatchEntropyDisplay(EPOCHS, 0.1 * RUNS, n_clusters=4).plot(name="nonlinear")
    ax = first.ax_
    assert ax.get_ylim() == (0, 1.12 * np.log(4))
    assert set(first.maximum_.get_ydata()) == {np.log(4)}
    assert [text.get_text() for text in ax.texts] == ["maximum, log 4 = 1.386"]
    second = DispatchEntropyDisplay(EPOCHS, RUNS + 1, n_clusters=4).plot(ax=ax, name="linear")
    assert legend_texts(ax) == ["nonlinear", "linear"]
    assert ax.get_legend().get_title().get_text() == "mean, 95% t interval"
    assert_allclose([line.get_color() for line in (first.line_, second.line_)], expert_colors(2))
    assert second.maximum_ is None  # it is there already
    assert len(ax.texts) == 1
    other = DispatchEntropyDisplay(EPOCHS, RUNS[0], n_clusters=10).plot(ax=ax)
    assert set(other.maximum_.get_ydata()) == {np.log(10)}
    DispatchEntropyDisplay(EPOCHS, 0.1 * RUNS, n_clusters=2).plot(ax=ax)
    assert ax.get_ylim()[1] == 1.12 * np.log(10)  # room for the largest
    one = DispatchEntropyDisplay([0], [1.0]).plot()
    assert (one.maximum_, one.line_.get_marker(), one.ax_.get_legend()) == (None, "o", None)
    red = DispatchEntropyDisplay(EPOCHS, RUNS).plot(line_kw={"color": "red"})
    assert_array_equal(red.band_.get_facecolor(), [(1, 0, 0, 0.25)])  # as its line


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
    assert alone.n_clusters is None
    runs[0].clusters = ["a", "b", "a", "c", "b"]
    assert DispatchEntropyDisplay.from_traces(runs).n_clusters == 3
    assert DispatchEntropyDisplay.from_traces(runs, n_clusters=4).n_clusters == 4


def test_malformed_entropies_are_refused(pyplot):
    raises(ValueError, r"entropies .* for epochs", DispatchEntropyDisplay(EPOCHS[:2], RUNS).plot)
    for traces, message in (
        *(([], "got none"), ([trace([0], [1]), trace([1], [1])], "no recorded epoch in common")),
        ([trace([0, 1], [1.0])], r"got shape \(1,\) for 2 epochs"),
        (trace([0, 1], [np.nan, np.nan]), "Record it with clusters"),
        ([LogisticRegression()], "no epochs_ and no dispatch_entropy_"),
        (RoutingTrace(np.ones((2, 1)), [0, 1]), "finished fits"),
    ):
        raises((TypeError, ValueError), message, DispatchEntropyDisplay.from_traces, traces)
    assert pyplot.get_fignums() == []


# -- alignment -------------------------------------------------------------------------------


def owner(*shape, seed=0, **parts):
    """Return something with weights."""
    weight = torch.randn(*shape, generator=seeded(seed), requires_grad=True)
    return SimpleNamespace(weight=weight, **parts)


def mixture(n_experts=5, patch_size=10, router=None, experts=None):
    """Return the least that an alignment needs of an estimator."""
    network = owner(n_experts, patch_size) if router is None else router
    if experts is None:
        experts = [owner(2, 8, patch_size, seed=m) for m in range(n_experts)]
    module = SimpleNamespace(router=SimpleNamespace(network=network), experts=experts)
    return SimpleNamespace(module_=module)


@pytest.fixture
def dictionary():
    basis = np.linalg.qr(np.random.RandomState(0).normal(size=(10, 10)))[0]
    return basis[:3], basis[3:6]


def test_products_of_weights_and_dictionary(pyplot, dictionary):
    estimator = mixture()
    figure, axes = pyplot.subplots(2, 2)
    options = {"axes": axes, "cmap": "PuOr", "colorbar": False, "display_labels": list("abc")}
    display = AlignmentDisplay.from_estimator(estimator, dictionary, **options)
    theta = estimator.module_.router.network.weight.detach().numpy()
    filters = [m.weight.detach().numpy().reshape(16, 10) for m in estimator.module_.experts]
    for column, vectors in zip(("features", "centers"), dictionary, strict=True):
        router, experts = (getattr(display, f"{row}_{column}") for row in ("router", "expert"))
        assert_allclose(router, theta @ vectors.T, rtol=1e-5)
        assert_allclose(experts, filters @ vectors.T, rtol=1e-4, atol=1e-6)
        images = display.im_[:, int(column == "centers")]
        top, bottom = (np.asarray(image.get_array()) for image in images)
        assert_array_equal(top, router.T)
        assert_array_equal(np.abs(bottom), np.abs(experts).max(axis=1).T)
        assert all(value in experts[m, :, k] for (k, m), value in np.ndenumerate(bottom))
    assert display.figure_ is figure
    assert_array_equal(display.axes_, axes)
    assert len(figure.axes) == 4
    assert {image.get_cmap().name for image in display.im_.flat} == {"PuOr"}
    assert [label.get_text() for label in axes[0, 0].get_yticklabels()] == ["a", "b", "c"]
    titles = [ax.get_title().split(",")[0] for ax in axes.flat]
    assert titles == [f"{a} and {b}s" for a in ("Router", "Experts") for b in ("feature", "center")]
    raises(ValueError, r"axes .* 2 x 2", display.plot, axes=axes[0])


def test_colors_and_numbers(pyplot):
    small, large = np.full((4, 3), 0.1), np.full((4, 3), -2.0)
    display = AlignmentDisplay(small, large, small[:, None], 0 * small[:, None]).plot()
    limits = [image.get_clim() for image in display.im_.flat]
    assert limits == [(-2, 2), (-2, 2), (-0.1, 0.1), (-0.1, 0.1)]
    assert [bar.get_ylabel() for bar in display.figure_.axes[4:]] == 2 * ["Inner product"]
    untrained = AlignmentDisplay(0 * small, 0 * small, large[:, None], large[:, None])
    untrained.plot(colorbar=False)
    assert untrained.im_[0, 0].get_clim() == (-1, 1)
    assert {text.get_text() for text in untrained.text_[0, 0].flat} == {"0"}
    theta, filters = np.full((4, 3), 0.1234), np.full((4, 2, 3), 25.6)
    display = AlignmentDisplay(theta, 0.01 * theta, filters, -filters).plot(colorbar=False)
    shown = [{text.get_text() for text in cells.flat} for cells in display.text_.flat]
    assert shown == [{"0.12"}, {"0"}, {"26"}, {"-26"}]
    tiny = AlignmentDisplay(1e-6 * theta, theta * 0, filters, filters).plot(colorbar=False)
    assert tiny.text_[0, 0][0, 0].get_text() == "1e-07"
    # Numbers are in all images or in none.
    many = AlignmentDisplay(*(np.repeat(a, 8, axis=0) for a in (theta, theta, filters, filters)))
    assert set(many.plot(colorbar=False).text_.flat) == {None}


def test_of_a_trace(pyplot):
    names = ["router_features", "router_centers", "expert_features", "expert_centers"]
    draw, shapes = np.random.RandomState(0).normal, 2 * [(6, 3, 2)] + 2 * [(6, 3, 4, 2)]
    trace = SimpleNamespace(**{f"{n}_": draw(size=s) for n, s in zip(names, shapes, strict=True)})
    for index, given in ((2, (2,)), (5, ())):
        display = AlignmentDisplay.from_trace(trace, *given, include_values=False, colorbar=False)
        for name in names:
            assert_array_equal(getattr(display, name), getattr(trace, f"{name}_")[index])
    trace.expert_centers_ = None
    raises(TypeError, "has no expert_centers_", AlignmentDisplay.from_trace, trace)


def test_other_routers_and_experts_are_refused(dictionary):
    alone = mixture(n_experts=1)
    alone.module_.router = None
    for estimator, message in (
        (LogisticRegression().fit([[0], [1]], [0, 1]), "LogisticRegression does not have"),
        (alone, r"no router.*n_experts >= 2"),
        (mixture(router=owner(5, 3, 4, 4)), r"Namespace with a weight of shape \(5, 3, 4, 4\)"),
        (mixture(router=owner(5, 10, hidden=1)), "Only a linear router"),
        (mixture(experts=[torch.nn.ReLU()] * 5), "an expert is a ReLU with no weight"),
        (mixture(2, experts=[owner(2, 8, 10), owner(2, 4, 10)]), "as many filters"),
    ):
        raises(TypeError, message, AlignmentDisplay.from_estimator, estimator, dictionary)


def test_malformed_dictionaries_and_products_are_refused(pyplot, dictionary):
    features, centers = dictionary
    for wrong in ((features[:, :9], centers[:, :9]), (features, centers[:2]), (features,), ()):
        with pytest.raises(ValueError, match=r"dictionary .* \(n_clusters, 10\)"):
            AlignmentDisplay.from_estimator(mixture(), wrong)
    with pytest.raises(ValueError, match=r"display_labels .* 3 clusters, got 1"):
        AlignmentDisplay.from_estimator(mixture(), dictionary, display_labels=["a"])
    theta, filters = np.ones((4, 3)), np.ones((4, 2, 3))
    for wrong in (
        *((theta, theta, theta, theta), (theta, theta[1:], filters, filters)),
        *((theta, theta, filters, filters[:, :1]), (theta, theta, filters[1:], filters[1:])),
        (theta, theta, filters[:, :0], filters[:, :0]),
    ):
        raises(ValueError, "n_filters, n_clusters", AlignmentDisplay(*wrong).plot)
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(("estimator", "n_outputs"), [(MoEClassifier, 2), (MoERegressor, 1)])
def test_of_fits(pyplot, estimator, n_outputs):
    options = {"return_clusters": True, "return_dictionary": True, "random_state": 0}
    X, y, clusters, dictionary = make_cluster_patches(300, **options)
    trace = RoutingTrace(X, clusters, dictionary=dictionary, every=2)
    moe = estimator(3, max_iter=4, tol=None, callbacks=[trace], random_state=0)
    with pytest.raises(NotFittedError):
        AlignmentDisplay.from_estimator(moe, dictionary)
    moe.fit(X, y)
    options = {"include_values": False, "colorbar": False}
    model = make_pipeline(FunctionTransformer(), moe)
    display = AlignmentDisplay.from_estimator(model, dictionary, **options)
    assert display.router_centers.shape == (3, 4)
    assert display.expert_features.shape == (3, 8 * n_outputs, 4)
    last = AlignmentDisplay.from_trace(trace, **options)
    assert_allclose(last.expert_features, display.expert_features, atol=1e-6)
    curve = DispatchEntropyDisplay.from_traces(trace)
    assert (curve.epochs.tolist(), curve.n_clusters) == ([0, 2, 4], 4)
