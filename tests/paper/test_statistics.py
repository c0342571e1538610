"""Intervals, and what they say about a claim."""

import numpy as np
import pytest

from sklearn_moe.paper import _statistics as statistics
from sklearn_moe.paper._statistics import UNDECIDED, Interval, crossing, mean_interval, power_law


def test_standard_error():
    rng = np.random.default_rng(0)
    shares = 100 * rng.binomial(400, 0.75, size=20_000) / 400
    assert statistics.standard_error(75, 400) == pytest.approx(shares.std(), rel=0.03)


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), 1e-4)
    assert mean_interval([5.0]).mean == 5
    for values in ([5.0], [], [1.0, np.nan]):  # nothing is left out unsaid
        assert np.isnan(mean_interval(values)[1:]).all()


def test_verdict():
    one = mean_interval([5.0])
    verdicts = [Interval(2, 1, 3).above(level) for level in (0, 4, 2.5)]
    assert [*verdicts, one.above(0)] == [True, False, UNDECIDED, UNDECIDED]
    ends = ((-1, 1), (-1, 3), (3, 5), (-5, -3))
    verdicts = [Interval(0, *end).within(2) for end in ends]
    assert [*verdicts, one.within(2)] == [True, UNDECIDED, False, False, UNDECIDED]
    assert [Interval(9, 8, 10).within(2, of=of) for of in (9, 10, 13)] == [True, UNDECIDED, False]


def test_interval_as_text():
    interval = Interval(2, 1, 3)
    assert interval.text(1) == "95 % interval 1.0 to 3.0"
    assert interval.with_mean(0) == "2 (95 % interval 1 to 3)"
    assert interval.with_mean(1, "points", "+") == "+2.0 points (95 % interval 1.0 to 3.0)"
    assert mean_interval([5.0]).text(1) == "no interval of one run"
    assert interval.exp() == pytest.approx(np.exp(interval))


def test_p_values():
    # With 2 degrees of freedom p = 1 - t / sqrt(2 + t^2); here t = 2 sqrt(3).
    assert statistics.p_value([1.0, 2, 3]) == pytest.approx(1 - (12 / 14) ** 0.5)
    assert statistics.p_value([2.0, 3, 4], level=1) == pytest.approx(1 - (12 / 14) ** 0.5)
    alike = [statistics.p_value(values, 2) for values in ([2, 2], [3, 3], [5])]
    assert alike == [1, 0, 1]  # one value tells nothing
    # With 4 p = 1 - s (1 + c^2 / 2), s and c sine and cosine of atan(t / 2); here t = -sqrt(6).
    p = statistics.welch([1.0, 2, 3], 4, (2 / 3) ** 0.5, 3)
    assert p == pytest.approx(1 - 0.6**0.5 * 1.2)
    assert statistics.welch([1.0], 4, 1, 10) == 1
    assert [statistics.p_text(p) for p in (0.0, 0.0123)] == ["p < 0.001", "p = 0.012"]


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (statistics.holm([0.6, 0.5]), statistics.holm([])) == ([1, 1], [])


def test_power_law():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 10, (2, 60))
    y = 3 * a**-1 * b**-0.25 * np.exp(0.01 * rng.standard_normal(60))
    y[0] = np.nan
    assert power_law(y, a=a, b=b) == pytest.approx({"a": -1, "b": -0.25}, abs=0.01)
    assert np.isnan(power_law(y, a=a, b=np.ones(60))["b"])  # not varied
    assert np.isnan(power_law([1.0], a=[1])["a"])


def test_crossing():
    steps = [0, 5, 10, 15]
    assert (crossing(steps, [0, 1, 2, 1], 1.5), crossing(steps, [2, 1, 2, 3], 1.5)) == (7.5, 0)
    assert np.isnan(crossing(steps, [0, 1, 2, 1], 3))
