"""Every head against a slow and obvious reference, sample by sample in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import raises, seeded
from scipy import integrate, stats

from sklearn_moe.nn import LOSSES, Head, LossSpec, RegressionHead
from sklearn_moe.nn.heads import PoissonHead, choose_head

KINDS = ("classes", "multilabel", "regression")
HEADS = [
    (loss, kind, n)
    for loss, spec in LOSSES.items()
    for kind in KINDS
    if getattr(spec, kind)
    for n in ((2,) if loss == "margin" else (2, 3) if kind == "classes" else (1, 3))
]
PROBABILITIES = [head for head in HEADS if head[1] != "regression"]
REGRESSION = [head for head in HEADS if head[1] == "regression"]
N_SAMPLES, N_EXPERTS = 40, 3


def make(loss, kind, n):
    return choose_head(loss, kind)(n).double()


def draw(head, *shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, head.n_outputs, generator=seeded(seed), dtype=dtype)


def targets(head, n=N_SAMPLES, dtype=torch.float64):
    shape = (n, head.n_targets)
    if head.kind == "classes":
        return torch.arange(n) % head.n_targets
    if head.kind == "multilabel":
        return torch.randint(2, shape, generator=seeded(1)).to(dtype)
    numbers = torch.randn(shape, generator=seeded(1), dtype=dtype)
    return numbers.relu() if head.is_rate else numbers


def gates(n=N_SAMPLES, dtype=torch.float64):
    return torch.randn(n, N_EXPERTS, generator=seeded(2), dtype=dtype).softmax(1)


# -- references: one sample, everything written out ---------------------------------------


def softmax(output):
    return np.exp(output) / sum(map(math.exp, output))


def logistic(f):
    return 1 / (1 + np.exp(-np.asarray(f)))


def huber(z):
    return z**2 / 2 if abs(z) < 1 else abs(z) - 1 / 2


# The probability of each class or label.
PROBABILITY = {
    ("auto", "classes"): softmax,
    ("auto", "multilabel"): logistic,
    ("log_loss", "classes"): softmax,
    ("log_loss", "multilabel"): logistic,
    ("margin", "classes"): lambda output: logistic([-output[0], output[0]]),
    ("probabilities", "classes"): softmax,
}
# The penalty of an error, and the distribution whose negative log density it is.
PENALTY = {
    "auto": (lambda z: z**2 / 2, stats.norm),
    "squared_error": (lambda z: z**2 / 2, stats.norm),
    "absolute_error": (abs, stats.laplace),
    "huber": (huber, None),
}


def half_deviance(y, rate):
    return rate - y + (y * math.log(y / rate) if y else 0.0)


def of_truth(kind, proba, y):
    """Return the probability of the class of a sample, or of each of its labels."""
    if kind == "classes":
        return proba[int(y)]
    return np.array([p if label else 1 - p for p, label in zip(proba, y, strict=True)])


def log_losses(kind, proba, y):
    return -np.mean(np.log(of_truth(kind, proba, y)))


def errors(kind, proba, y):
    return 1 - np.mean(of_truth(kind, proba, y))


def scores(kind, proba, y):
    if kind == "classes":
        return float(np.argmax(proba) == int(y))
    return np.mean([(p > 0.5) == bool(label) for p, label in zip(proba, y, strict=True)])


def mean_and_std(loss, output, n):
    """Return the mean and the standard deviation that an expert predicts for each target."""
    if loss == "gaussian":
        return output[:n], [math.log(1 + math.exp(o)) + 1e-3 for o in output[n:]]
    if loss == "poisson":
        return [math.exp(o) for o in output], [1.0] * n
    return output, [1.0] * n


def density(loss, z):
    """Return the density of an error in units of its scale."""
    if loss == "gaussian":
        return stats.norm.pdf(z)
    penalty, distribution = PENALTY[loss]
    if distribution is not None:
        return distribution.pdf(z)
    return math.exp(-penalty(z)) / integrate.quad(lambda t: math.exp(-penalty(t)), -50, 50)[0]


def constant_of(loss):
    """Return the log of what turns exp(-loss) into a density; a penalty is one up to it."""
    return 0.0 if loss in ("gaussian", "poisson") else math.log(density(loss, 0.0))


def mixture_density(loss, n, gate, outputs, y):
    total = 0
    for weight, output in zip(gate, outputs, strict=True):
        each = [*zip(y, *mean_and_std(loss, output, n), strict=True)]
        if loss == "poisson":
            total += weight * math.exp(-sum(half_deviance(t, rate) for t, rate, _ in each))
            continue
        total += weight * math.prod(density(loss, (t - mean) / std) / std for t, mean, std in each)
    return total


def assert_rows(ours, expected):
    expected = torch.as_tensor(np.array(expected) if isinstance(expected, list) else expected)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12, check_dtype=False)


# -- classes and labels -------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "kind", "n"), PROBABILITIES)
def test_probabilities_and_what_follows_from_them(loss, kind, n):
    head = make(loss, kind, n)
    output, y = draw(head, N_SAMPLES), targets(head)
    proba = [PROBABILITY[loss, kind](row) for row in output.tolist()]
    again = [softmax(p) for p in proba] if loss == "probabilities" else proba
    assert_rows(head.predict(output), proba)
    normalize = softmax if kind == "classes" else logistic
    assert_rows(head.predict(output), [normalize(row) for row in head.decision(output).tolist()])
    for ours, reference, p in (
        (head.loss, log_losses, again),
        (head.error, errors, proba),
        (head.score, scores, proba),
    ):
        expected = [reference(kind, a, b) for a, b in zip(p, y.numpy(), strict=True)]
        assert_rows(ours(output, y), expected)
    assert_rows(head(output, y), head.loss(output, y).mean())
    assert_rows(head.error(torch.zeros_like(output), y), [head.chance_level_error] * N_SAMPLES)
    # A mixture has the mean probabilities.
    outputs, gate = draw(head, N_SAMPLES, N_EXPERTS), gates()
    output = head.mix(gate.log(), outputs)
    assert output.shape == (N_SAMPLES, head.n_outputs)
    each = [[PROBABILITY[loss, kind](a) for a in row] for row in outputs.tolist()]
    expected = [w @ np.array(row) for w, row in zip(gate.numpy(), each, strict=True)]
    assert_rows(head.predict(output), expected)
    again = [softmax(p) for p in expected] if loss == "probabilities" else expected
    rows = zip(again, y.numpy(), strict=True)
    assert_rows(head.loss(output, y), [log_losses(kind, p, label) for p, label in rows])


# -- regression ---------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "kind", "n"), REGRESSION)
def test_numbers_and_what_follows_from_them(loss, kind, n):
    head = make(loss, kind, n)
    output, y = draw(head, N_SAMPLES), targets(head)
    expected = []
    for row, target in zip(output.tolist(), y.numpy(), strict=True):
        mean, std = mean_and_std(loss, row, n)
        apart = target - mean
        if loss == "gaussian":
            losses = -stats.norm.logpdf(target, mean, std)
        elif loss == "poisson":
            losses = [*map(half_deviance, target, mean)]
        else:
            losses = [PENALTY[loss][0](z) for z in apart]
        merits = -np.array(losses) if loss == "poisson" else 1 - apart**2
        rows = losses, np.abs(apart).clip(max=1), merits
        expected.append([mean, *map(np.mean, rows)])
    predicted, *others = zip(*expected, strict=True)
    assert_rows(head.predict(output), [*predicted])
    for ours, rows in zip((head.loss, head.error, head.score), others, strict=True):
        assert_rows(ours(output, y), [*rows])
    assert_rows(head(output, y), head.loss(output, y).mean())
    # A mixture has the density of its experts, and predicts its mean.
    outputs, gate = draw(head, N_SAMPLES, N_EXPERTS), gates()
    mixed = head.mix(gate.log(), outputs)
    rows = zip(gate.tolist(), outputs.tolist(), y.tolist(), strict=True)
    losses = [-math.log(mixture_density(loss, n, *row)) / n for row in rows]
    assert_rows(head.loss(mixed, y) - constant_of(loss), losses)
    points = [[mean_and_std(loss, o, n)[0] for o in row] for row in outputs.tolist()]
    mean = (gate.unsqueeze(2) * torch.tensor(points, dtype=torch.float64)).sum(1)
    assert_rows(head.predict(mixed), mean)
    assert_rows(head.error(mixed, y), (y - mean).abs().clamp(max=1).mean(1))
    if loss != "poisson":
        assert_rows(head.score(mixed, y), 1 - (y - mean).square().mean(1))


def test_the_std_of_a_mixture_is_that_of_its_density():
    head = make("gaussian", "regression", 2)
    outputs, gate = draw(head, N_SAMPLES, N_EXPERTS), gates()
    expected = []
    for weights, each in zip(gate.numpy(), outputs.tolist(), strict=True):
        means, stds = np.moveaxis([mean_and_std("gaussian", output, 2) for output in each], 1, 0)
        mean = weights @ means
        expected.append(np.sqrt(weights @ (means**2 + stds**2) - mean**2))
    assert_rows(head.std(head.mix(gate.log(), outputs)), expected)
    alone = [mean_and_std("gaussian", output, 2)[1] for output in outputs[:, 0].tolist()]
    assert_rows(head.std(outputs[:, 0]), alone)


def test_a_rate_grows_no_faster_than_a_line_in_the_end():
    head, output = PoissonHead(1), torch.linspace(-5, 40, 451, dtype=torch.float64)[:, None]
    rate = head.point(output)
    within = output < math.log(1000)
    torch.testing.assert_close(rate[within], output[within].exp())
    steps = rate[~within].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 100.0))  # .1 of the slope at 1,000
    # The loss has its least value where the rate is y, also there.
    y = torch.full_like(output, 3000.0)
    assert rate[head.loss(output, y).argmin()].item() == pytest.approx(3000, abs=51)


# -- all of them --------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "kind", "n"), HEADS)
def test_extreme_outputs_have_finite_losses_and_gradients(loss, kind, n):
    dtypes = torch.float32, torch.float64
    for dtype, size, mixed in itertools.product(dtypes, (0.0, 30.0, 1e4), (False, True)):
        head = make(loss, kind, n).to(dtype)
        output = draw(head, N_SAMPLES, *[N_EXPERTS] * mixed, dtype=dtype).sign() * size
        output.requires_grad_()
        # The least gate of SoftRouter.
        gate = gates(dtype=dtype).masked_fill(gates() < 0.2, torch.finfo(dtype).tiny)
        log_gate = gate.log().requires_grad_()
        given = head.mix(log_gate, output) if mixed else output
        y = targets(head, dtype=dtype)
        losses = head.loss(given, y)
        assert losses.isfinite().all()
        losses.sum().backward()
        assert all(t.grad.isfinite().all() for t in ([output, log_gate] if mixed else [output]))
        assert head.predict(given).isfinite().all()
        if kind != "regression":
            assert head.decision(given).isfinite().all()
        error = head.error(given, y)
        assert error.shape == head.score(given, y).shape == (N_SAMPLES,)
        assert 0 <= error.min() <= error.max() <= 1


@pytest.mark.parametrize(("loss", "kind", "n"), HEADS)
def test_each_expert_has_its_own_loss_and_a_mixture_of_one_is_that_one(loss, kind, n):
    head = make(loss, kind, n)
    outputs, y = 3 * draw(head, N_SAMPLES, N_EXPERTS), targets(head)
    expected = torch.stack([head.loss(outputs[:, m], y) for m in range(N_EXPERTS)], 1)
    torch.testing.assert_close(head.losses(outputs, y), expected, rtol=1e-12, atol=1e-12)
    mixed = head.mix(torch.zeros(N_SAMPLES, 1, dtype=torch.float64), outputs[:, :1])
    assert_rows(head.predict(mixed), head.predict(outputs[:, 0]))


# -- choosing -----------------------------------------------------------------------------


def test_a_head_is_for_its_kind_of_target_however_it_is_passed():
    for loss, own, n in HEADS:
        head = getattr(LOSSES[loss], own)
        assert isinstance(choose_head(head, own)(n), head)
        for kind in {*KINDS} - {own}:
            message = f"is not made for {kind}: its kind is '{own}'. Use one of .* kind='{kind}'"
            for given in (head, LossSpec(**{kind: head}), lambda _, head=head, n=n: head(n)):
                with pytest.raises(ValueError, match=message):
                    choose_head(given, kind)(n)


class Wordless(Head):
    """A head of classes that has nothing but a loss."""

    kind = "classes"

    def loss(self, output, y):
        return output[:, 0]


def test_a_head_has_a_kind_a_loss_and_a_prediction():
    with pytest.raises(TypeError, match=r"loss=<class .torch.*Loss.> must be a sub.* of sk"):
        choose_head(torch.nn.CrossEntropyLoss, "regression")(3)
    with pytest.raises(TypeError, match=r"loss=<function .* must be .*; it returned int"):
        choose_head(lambda n: n, "regression")(3)
    raises(ValueError, "y has 3", choose_head("margin", "classes"), 3)
    aimless = choose_head(type("Aimless", (Head,), {}), "multilabel")
    raises(ValueError, "its kind is None", aimless, 3)
    with pytest.raises(TypeError, match=r"Wordless has no method 'predict', which loss=.* needs"):
        choose_head(Wordless, "classes")(2)
    head = choose_head(RegressionHead, "regression")(1)
    raises(TypeError, "'density_loss'", head.loss, torch.zeros(2, 1), torch.zeros(2, 1))
