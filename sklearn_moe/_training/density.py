"""The density of y around what the experts predict: its scale and its quantiles.

All is in the units of the net, standard deviations of y, unless it says "in the units of y".
"""

import numpy as np
from scipy import special, stats
from scipy.optimize import minimize_scalar
from sklearn.linear_model import GammaRegressor

from .._data.distributions import Counts, find_quantiles

# In standard deviations of y.
_LEAST_SCALE = 1e-6
# Bounds of the factor from the errors to a scale, in which the experts differ, too.
_LOG_FACTORS = np.log([0.01, 10])
_LEAST_DISPERSION = 1e-6
_LOG_DISPERSIONS = np.log([_LEAST_DISPERSION, 100])
_LEVELS = np.linspace(0, 1, 201)
# Calibration of levels shrinks to none by this many pseudo-rows.
_PRIOR_ROWS = 50
# Shares below equal rows differ by less, which is rounding.
_SAME_SHARE = 1e-9
# A count stands for all levels from that of the next smaller count to its own.
_PLACES = np.linspace(0.025, 0.975, 20)
# So many rows at most count against those of a new chunk: the model changes.
_N_REMEMBERED = 400
# Standard deviations of y from its mean, beyond which a scale does not change.
_LARGEST_DEVIATION = 3


def density_of(head, target, measured):
    """Return the density of a head for numbers, None if its loss belongs to none.

    Parameters
    ----------
    head : Head
    target : NumberTarget
    measured : dict
        What `Density.measure` returned, if it was called before; other entries do not matter.
    """
    if getattr(head, "family", None) is None:
        return None
    if not head.is_rate:
        return Density(head, target, measured)
    return CountDensity(head, target, measured) if target.is_count else None


class Density:
    """A mixture of distributions of one family, one around the point of each expert.

    Its parts are given as arrays (n_samples, n_parts, 1 + 2 n_outputs) of `RegressionHead.parts`:
    log weights, points and scales, which are multiplied by what was measured.

    Parameters
    ----------
    head : RegressionHead
    target : NumberTarget
    measured : dict
        See `density_of`.
    """

    def __init__(self, head, target, measured):
        self.has_scale = head.has_scale
        self.target = target
        self.family = self._make_family(head)
        self.scale = measured.get("scale_", target.scale)
        self.slope = measured.get("scale_slope_", 0.0)
        self.dispersion = measured.get("dispersion_", 0.0)
        self.levels = measured.get("_levels", _LEVELS)
        self.before = measured

    def _make_family(self, head):
        return getattr(stats, head.family)

    def possible(self, numbers):
        """Return numbers, in the units of y, that y can be: rounding has made them others."""
        return numbers

    def split(self, parts, scale=None):
        """Return log weights, (..., n_parts), points and scales, (..., n_parts, n_outputs).

        `scale` stands for the one that was measured, None: that one.
        """
        weights, points, scales = np.split(parts, [1, 1 + self.target.n_targets], axis=-1)
        scales = self._scaled(points, scales, self.scale if scale is None else scale)
        return weights[..., 0], points, scales

    def _scaled(self, points, scales, scale):
        bounded = points.clip(-_LARGEST_DEVIATION, _LARGEST_DEVIATION)
        return scales * np.exp(self.slope * bounded) * scale / self.target.scale

    def log_density(self, parts, y, scale=None):
        """Return the log density of standardized numbers, (..., n_outputs), in the units of y."""
        log_weights, points, scales = self.split(parts, scale)
        log_density = self.family.logpdf(y[..., np.newaxis, :], points, scales).sum(axis=-1)
        return special.logsumexp(log_weights + log_density, axis=-1) - self._log_unit()

    def _log_unit(self):
        return np.log(self.target.scale).sum()

    def _share_below(self, numbers, weights, points, scales):
        """Return the distribution function at numbers (n_samples, n_numbers) of a single output."""
        shares = self.family.cdf(numbers[:, np.newaxis], points, scales)
        return (weights[:, :, np.newaxis] * shares).sum(axis=1)

    def quantiles(self, parts, q):
        """Return quantiles of a single output at calibrated levels, (n_samples, n_quantiles)."""
        levels = np.interp(q, _LEVELS, self.levels)
        log_weights, *parts = self.split(parts)
        weights = np.exp(log_weights)
        # A quantile lies between the least and the largest one of the parts.
        each = self.family.ppf(levels, *parts)
        low, high = each.min(axis=1), each.max(axis=1)
        return find_quantiles(lambda y: self._share_below(y, weights, *parts), levels, low, high)

    # -- measured on rows that are new to the experts ------------------------------------------

    def measure(self, parts, y, weight, oob_mean=None):
        """Measure the scale by likelihood, and the levels at which quantiles are right.

        What was measured on earlier rows changes by as much as these rows are worth.

        Parameters
        ----------
        parts : ndarray of shape (n_rows, n_parts, 1 + 2 n_outputs)
            By a net.
        y : ndarray of shape (n_rows, n_outputs)
        weight : ndarray of shape (n_rows,)
            Numbers of rows.
        oob_mean : ndarray of shape (n_rows, n_outputs) or None, default=None
            Predictions by experts that are not trained on a row, NaN where there are none. The
            errors are theirs, as if the mixture erred in the same way.

        Returns
        -------
        measured : dict
            Fitted attributes by name.
        """
        n_outputs = self.target.n_targets
        mean = (np.exp(parts[..., :1]) * parts[..., 1 : 1 + n_outputs]).sum(axis=1)
        if oob_mean is None:
            oob_mean = mean
        else:
            # Few experts of a kind have seen many rows.
            known = ~np.isnan(oob_mean).any(axis=1)
            columns = parts, y, weight, oob_mean, mean
            parts, y, weight, oob_mean, mean = (column[known] for column in columns)
        parts, y, found = self._measure_width(parts, y, weight, oob_mean, mean)
        n_rows = weight.sum()
        if n_outputs == 1:
            log_weights, *parts = self.split(parts)
            below, weight = self._levels_of(y, (np.exp(log_weights), *parts), weight)
            found["_levels"] = self._calibrated(below, weight, n_rows)
        n_before = self.before.get("_n_measured", 0)
        share = n_rows / (n_rows + n_before)
        for name, value in found.items():
            found[name] = share * value + (1 - share) * self.before.get(name, value)
        return found | {"_n_measured": min(n_before + n_rows, _N_REMEMBERED)}

    def _measure_width(self, parts, y, weight, oob_mean, mean):
        """Return the parts, y as if the mixture made those errors, and the scale with its slope.

        Experts may predict the scale.
        """
        errors, n_outputs = y - oob_mean, self.target.n_targets
        y = mean + errors
        if self.has_scale:
            return parts, y, {}
        size = np.sqrt(np.average(np.square(errors), axis=0, weights=weight))
        unit = np.maximum(size, _LEAST_SCALE) * self.target.scale
        # Of the logarithm of an error's size.
        line = GammaRegressor(alpha=_PRIOR_ROWS / weight.sum())
        z = oob_mean.clip(-_LARGEST_DEVIATION, _LARGEST_DEVIATION)
        sizes = np.abs(errors) + _LEAST_SCALE
        lines = [line.fit(z[:, [k]], sizes[:, k], weight).coef_ for k in range(n_outputs)]
        self.slope = np.concatenate(lines)

        def loss(log_factor):
            return -weight @ self.log_density(parts, y, unit * np.exp(log_factor))

        best = minimize_scalar(loss, bounds=_LOG_FACTORS, method="bounded").x
        self.scale = unit * np.exp(best)
        return parts, y, {"scale_": self.scale, "scale_slope_": self.slope}

    def _levels_of(self, y, parts, weight):
        """Return the shares of the distributions below y, and the weight of each."""
        return self._share_below(y, *parts)[:, 0], weight

    @staticmethod
    def _calibrated(below, weight, n_rows):
        """Return the levels at which the right share of the rows lies below a quantile."""
        order = np.argsort(below)
        below = below[order]
        # Rows of the same share are one step: a row of weight 2 is the row twice.
        is_new = np.diff(below, prepend=-np.inf) > _SAME_SHARE
        sizes = np.bincount(np.cumsum(is_new) - 1, weight[order])
        shares = (np.cumsum(sizes) - sizes / 2) / n_rows
        levels = np.interp(_LEVELS, shares, below[is_new])
        trust = n_rows / (n_rows + _PRIOR_ROWS)
        return trust * levels + (1 - trust) * _LEVELS


class CountDensity(Density):
    """Negative binomial distributions of counts around rates, by a dispersion."""

    def _make_family(self, head):
        return Counts(self.target.scale / self.target.step)

    def possible(self, numbers):
        """Return whole numbers, or multiples of what one event adds."""
        return np.rint(numbers / self.target.step) * self.target.step

    def split(self, parts, scale=None):
        """Return log weights, rates and dispersions; of nothing but zeros the rate is 0."""
        log_weights, points, scales = super().split(parts, scale)
        return log_weights, np.where(self.target.varies, points, 0), scales

    def _scaled(self, points, scales, scale):
        return scales * self.dispersion

    def _log_unit(self):
        # Of a probability, which has no unit.
        return 0.0

    def _measure_width(self, parts, y, weight, oob_mean, mean):
        """Return parts, y and the dispersion of each output, by likelihood.

        A rate is wrong by a factor, that of the out-of-bag predictions.
        """
        y = np.rint(y * self.target.scale) / self.target.scale
        factor = oob_mean / np.maximum(mean, np.finfo(float).tiny)
        parts[..., 1 : 1 + self.target.n_targets] *= factor[:, np.newaxis]
        log_weights, points, _ = self.split(parts)
        self.dispersion = np.empty(y.shape[1])
        for k, unit in enumerate(self.target.scale / self.target.step):
            counts = Counts(unit)

            def loss(log_dispersion, k=k, counts=counts):
                log_proba = counts.logpdf(y[:, [k]], points[..., k], np.exp(log_dispersion))
                return -weight @ special.logsumexp(log_weights + log_proba, axis=1)

            best = minimize_scalar(loss, bounds=_LOG_DISPERSIONS, method="bounded").x
            self.dispersion[k] = np.exp(best)
        return parts, y, {"dispersion_": self.dispersion}

    def _levels_of(self, y, parts, weight):
        """Return for each count many levels, between those of all smaller ones and its own."""
        below = self._share_below(y, *parts)
        less = self._share_below(y - self.target.step / self.target.scale, *parts)
        levels = less + _PLACES * (below - less)
        return levels.ravel(), np.repeat(weight / len(_PLACES), len(_PLACES))
