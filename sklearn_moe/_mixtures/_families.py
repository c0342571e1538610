"""Families: the density of y around the prediction of an expert."""

import numpy as np
from scipy import stats
from scipy.special import gammaln, xlogy

# The least standard deviation of a component, relative to the largest one.
LEAST_SCALE = 0.05
# As in scikit-learn's log_loss.
LEAST_PROBABILITY = np.finfo(float).eps


class Family:
    """The density of y given the prediction of an expert and, with `has_scale`, a scale."""

    has_scale = False
    is_discrete = False

    def check(self, y):
        """Refuse a y that has no density in this family."""

    def predict(self, expert, X):
        """Return what an expert predicts, with the samples along the first axis."""
        return expert.predict(X)

    def fit_scale(self, y, prediction, weight):
        """Return the scale of largest likelihood, NaN if there is none."""
        return np.nan

    def bound_scales(self, y, scales):
        """Return scales that are large enough, and whether one is raised to `LEAST_SCALE`."""
        return scales, False


class Gaussian(Family):
    """Normal distributions; the scale is the standard deviation."""

    has_scale = True

    def fit_scale(self, y, prediction, weight):
        return np.sqrt(weight @ (y - prediction) ** 2 / weight.sum())

    def bound_scales(self, y, scales):
        # Rounding errors do not reach it: a constant y has the bound of a deviation of 1.
        rounding = 4 * np.finfo(float).eps * np.abs(y).max()
        deviation = 1.0 if np.ptp(y) <= rounding else y.std()
        scales = np.maximum(scales, max(1e-6 * deviation, rounding))
        lowest = LEAST_SCALE * scales.max()
        return np.maximum(scales, lowest), scales.min() < lowest

    def log_density(self, y, prediction, scale):
        return -0.5 * ((y - prediction) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    def distribution(self, expert, X, scale):
        return stats.norm(self.predict(expert, X)[:, None], scale)


class Poisson(Family):
    """Poisson distributions."""

    is_discrete = True

    def check(self, y):
        if (odd := (y < 0) | (y != np.floor(y))).any():
            raise ValueError(
                f"family='poisson' needs counts as y: 0, 1, 2, ..., got {y[odd][0]!r}. Use "
                "family='gaussian' for other numbers."
            )

    def predict(self, expert, X):
        mean = expert.predict(X)
        if mean.min() < 0:
            raise ValueError(
                "family='poisson' needs experts that predict positive numbers, but "
                f"{type(expert).__name__} predicted {mean.min():.3g}. Use an estimator such as "
                "PoissonRegressor, or family='gaussian'."
            )
        # A tree may predict a mean of 0, which has no density.
        return np.maximum(mean, 1e-9)

    def log_density(self, y, prediction, scale):
        return xlogy(y, prediction) - prediction - gammaln(y + 1)

    def distribution(self, expert, X, scale):
        return stats.poisson(self.predict(expert, X)[:, None])


class LogLoss(Family):
    """Class probabilities, of classes coded as 0, 1, ..."""

    def __init__(self, classes, sharpness=1.0):
        self.classes = classes
        self.sharpness = sharpness

    def predict(self, expert, X):
        proba = expert.predict_proba(X)
        # An expert need not have seen all classes; one that was fitted before may have others.
        if not np.array_equal(expert.classes_, self.classes):
            known = self.classes.tolist()
            if unknown := sorted(set(expert.classes_.tolist()) - set(known), key=str):
                raise ValueError(
                    f"{expert!r} has the classes {unknown}, which y does not have: {known}. Fit it "
                    "to the classes of y."
                )
            every = np.zeros((len(proba), len(known)))
            every[:, [known.index(label) for label in expert.classes_.tolist()]] = proba
            proba = every
        return self.sharpen(proba)

    def sharpen(self, proba):
        """Return probabilities whose logits have the factor."""
        if self.sharpness == 1:
            return proba
        proba = (proba / proba.max(axis=-1, keepdims=True)) ** self.sharpness
        return proba / proba.sum(axis=-1, keepdims=True)

    def log_density(self, y, prediction, scale):
        proba = prediction[np.arange(len(y)), y]
        return np.log(np.maximum(proba, LEAST_PROBABILITY))


def predict_known(family, expert, X):
    """Return what an expert predicts of training samples, and refuse what has no finite square."""
    # Some experts predict a Series.
    prediction = np.asarray(family.predict(expert, X))
    with np.errstate(over="ignore"):
        is_odd = ~np.isfinite(np.square(prediction).reshape(len(prediction), -1)).all(axis=1)
    if is_odd.any():
        raise ValueError(
            f"{expert!r} predicted NaN or infinity for {is_odd.sum()} of {len(is_odd)} training "
            "samples. Leave it out, or fit it on columns that it can deal with."
        )
    return prediction


FAMILIES = {"gaussian": Gaussian, "poisson": Poisson}


def guess_family(estimator):
    """Return the name of the family that an unfitted regressor is made for."""
    parameters = estimator.get_params(deep=False)
    name = f"{type(estimator).__name__} {parameters.get('loss')} {parameters.get('objective')}"
    is_poisson = "oisson" in name or parameters.get("power") == 1
    return "poisson" if is_poisson else "gaussian"
