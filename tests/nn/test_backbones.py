"""The networks of torchvision as experts."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import brief, has_statistics, is_deep, make_mixture, refuses, seeded
from torch import nn

from sklearn_moe import SolverParams
from sklearn_moe.nn import EXPERTS
from sklearn_moe.nn.seeding import use_generator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BATCH, GROUP = (
    [name for name in EXPERTS if is_deep(name) and has_statistics(name) == batch]
    for batch in (True, False)
)
PUBLISHED = ("resnet18", "mobilenet_v2")
SHAPE = (3, 8, 8)


def build(expert, shape=SHAPE, n_outputs=3, *, seed=0, width=4, **options):
    with use_generator(seeded(seed)):
        return EXPERTS[expert].build(shape, n_outputs, width=width, **options)


def draw_images(n=20, shape=SHAPE, seed=1):
    return torch.randn(n, *shape, generator=seeded(seed))


def statistics(expert):
    return {k: v.clone() for k, v in expert.named_buffers() if "running" in k}


def changed(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


# -- the networks themselves --------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_only_the_stem_differs_from_torchvision(name):
    import torchvision

    is_resnet = name == "resnet18"
    with use_generator(seeded()):
        theirs = getattr(torchvision.models, name)(num_classes=10)
        experts = [EXPERTS[kind].build((3, 32, 32), 10) for kind in (name, f"{name}_gn")]
    for expert in experts:
        n_parameters = 11_173_962 if is_resnet else 2_236_682
        assert sum(p.numel() for p in expert.parameters()) == n_parameters
    ours, theirs = ([(n, p.shape) for n, p in e.named_parameters()] for e in (experts[0], theirs))
    different = [a[0] for a, b in zip(ours, theirs, strict=True) if a != b]
    assert different == ["conv1.weight"] * is_resnet
    # The resolution is halved three times.
    network, sizes = experts[0].eval(), []
    ends = [network.conv1, network.layer4] if is_resnet else network.features[::18]
    for layer in ends:
        layer.register_forward_hook(lambda module, x, y: sizes.append(y.shape[2:]))
    network(draw_images(2, (3, 32, 32)))
    assert sizes == [(32, 32), (4, 4)]


@pytest.mark.parametrize("expert", BATCH + GROUP)
def test_images_of_any_size_and_gradients(expert):
    for shape in ((1, 1, 1), (2, 1, 5), (4, 9, 6)):
        network = build(expert, shape, 1)
        for n in (1, 3):
            output = network(draw_images(n, shape))
            assert output.shape == (n, 1)
            output.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network, x = build(expert).double(), draw_images().double().requires_grad_()
    output = network(x)
    assert output.dtype == torch.float64
    (output * torch.randn(output.shape, generator=seeded(2), dtype=torch.float64)).sum().backward()
    for tensor in (x, *network.parameters()):
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("expert", PUBLISHED)
def test_activations_are_replaced(expert):
    x = draw_images()
    relu, named, given = (build(expert, activation=a) for a in ("relu", "gelu", nn.functional.gelu))
    of_torch = {nn.ReLU, nn.ReLU6}
    found = [of_torch.intersection(map(type, network.modules())) for network in (relu, named)]
    assert found == [{nn.ReLU}, set()]
    assert torch.equal(named(x), given(x))
    assert not torch.allclose(named(x), relu(x))
    # ReLU works in place, what it is given is ours.
    kept = x.clone()
    relu(x)
    assert torch.equal(x, kept)


def test_what_does_not_fit_is_named():
    for expert in PUBLISHED:
        refuses(expert, r"\(3, 8\)", build, expert, (3, 8))
        refuses(expert, r"norm='layer'.*'group'", build, expert, norm="layer")
        refuses(expert, "activation='sine'", build, expert, activation="sine")


# -- BatchNorm ----------------------------------------------------------------------------


@pytest.mark.parametrize("expert", BATCH)
def test_statistics_are_those_of_an_experts_own_samples(expert):
    options = {"expert_options": {"width": 4}, "router_options": {"noise": None, "init_std": 1.0}}
    options |= {"shape": SHAPE, "router": "top1", "dtype": "float32"}
    mixture, alone = (make_mixture(expert, 3, **options) for _ in range(2))
    x = draw_images(40)
    chosen = mixture.route(x).chosen[:, 0]
    idle = int(chosen[0])  # none of its samples is there
    x, chosen = x[chosen != idle], chosen[chosen != idle]
    before = statistics(mixture.experts[idle])
    mixture(x)
    assert not changed(before, statistics(mixture.experts[idle]))
    for m in {0, 1, 2} - {idle}:
        assert (chosen == m).any()
        alone.experts[m](x[chosen == m])
        ours, expected = statistics(mixture.experts[m]), statistics(alone.experts[m])
        assert not changed(ours, expected)
        assert changed(before, ours) == set(before)


@pytest.mark.parametrize("expert", PUBLISHED)
def test_a_single_sample_can_be_learned_from(expert):
    network, x = build(expert), draw_images(1)
    network(draw_images(20))
    before = statistics(network)
    network(x).sum().backward()
    after = statistics(network)
    # Of a feature map of one pixel there is no variance: its statistics are left alone.
    one_pixel = "layer4" if expert == "resnet18" else "features.18"
    moved = changed(before, after)
    assert moved
    assert not any(name.startswith(one_pixel) for name in moved)
    assert all(torch.isfinite(v).all() for v in after.values())
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("expert", GROUP)
def test_groups_are_of_16_channels_or_more(expert):
    network = build(expert)
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert norms
    for norm in norms:
        size = norm.num_channels // norm.num_groups
        assert size == 16 if norm.num_channels % 16 == 0 else size > 16 or norm.num_groups == 1


# -- in the estimator ---------------------------------------------------------------------


make = partial(brief, n_experts=2, expert_width=4, batch_size=50)


def test_images_are_learned(images):
    X, y = images
    assert make(expert="resnet18_gn", max_iter=20).fit(X, y).score(X, y) > 0.8


def test_the_best_weights_come_with_their_statistics(images):
    X, y = images[0], np.random.default_rng(0).integers(2, size=120)  # nothing to be learned
    options = {"expert": "resnet18", "early_stopping": True, "validation_fraction": 0.3}
    # With it the first epochs are the same however many follow.
    options["solver"] = SolverParams(schedule="constant")
    clf = make(max_iter=10, **options).fit(X, y)
    best = int(np.argmax(clf.validation_scores_)) + 1
    assert best < 10
    expected = make(max_iter=best, **options).fit(X, y).module_.state_dict()
    assert any("running_var" in name for name in expected)
    assert not changed(expected, clf.module_.state_dict())
