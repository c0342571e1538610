"""Experts of one kind with equal gates, taken together: whether a mixture is an ensemble."""

import numpy as np
from sklearn.utils import _safe_indexing, indexable

from .._data.indexing import draw_rows
from .._validation import count_experts, final_step
from ._routing import check_labels

# Gates that differ by less are the same.
_ROUNDING = 1e-6
# The share of a gate in the predictions that is little.
_LITTLE = 0.05
# The weight of a single expert beside which others hardly count.
_ALONE = 0.95
# Predictions are compared on so many rows.
_ROWS_TO_COMPARE = 1000
# How many experts a sentence names, and the weight that each must have.
_MOST_NAMED = 8
_LEAST_NAMED = 0.005
# Where an expert holds if the gates do not depend on the row.
SAME_WEIGHTS = "same weights for all rows"


class MergedExperts:
    """A fitted mixture in which experts of one kind with equal gates are one expert.

    The gate of such an expert is the sum of theirs, and its output is the mean. In all else this is
    the mixture itself. Experts of a mixture of a single kind stay apart.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture, or a pipeline that ends in one.
    X : array-like of shape (n_samples, ...)
        Samples on which gates are compared.
    needs : tuple of str
        The methods that the mixture must have.

    Attributes
    ----------
    mixture, X : estimator and its samples
        The mixture itself, and X as it takes it.
    is_step : bool
        Whether the mixture is a step of a pipeline.
    is_stack : bool
        Whether the experts are models that were each fitted to all samples.
    groups : list of list of int
        The experts of the mixture that each expert here stands for.
    names : list of str
        Of each expert: its kind, if all experts of the kind are one.
    is_pool : bool
        Whether there are several kinds.
    gates : ndarray of shape (n_samples, n_experts)
        Ones and zeros of a mixture without `gate_proba`.
    experts : ndarray of shape (n_samples, k)
        Those that are used, the one of largest gate first.
    is_constant : bool
        Whether the gates of several experts do not depend on the sample.
    gate_share : float
        See `SpecializationReport`.
    ensemble : bool
        Whether all experts are used for each sample, and the gates are constant or `gate_share` is
        below 5 %. A gate by which a single expert has nearly all weight gives no ensemble.
    bends : tuple of str or None
        See `SpecializationReport`.
    """

    def __init__(self, estimator, X, needs=("apply",)):
        mixture, X = final_step(estimator, X, needs)
        self.mixture = mixture
        self.X = X
        self.is_step = mixture is not estimator
        self.is_stack = hasattr(mixture, "out_of_fold")
        self.experts = check_labels(mixture.apply(X))
        if hasattr(mixture, "gate_proba"):
            gates = np.asarray(mixture.gate_proba(X))
        else:
            n_experts = count_experts(mixture, X) or self.experts.max() + 1
            gates = np.eye(n_experts)[self.experts[:, 0]]
        n_experts = gates.shape[1]
        kinds = list(getattr(mixture, "expert_kinds_", ()))
        self.is_pool = len(set(kinds)) > 1
        self.names = [f"expert {m}" for m in range(n_experts)]
        self.groups = [[m] for m in range(n_experts)]
        if self.is_pool:
            self.groups = _find_groups(kinds, gates)
            self.names = _name_groups(kinds, self.groups)
        # Gates of one group are added, as their outputs are averaged.
        self.n_experts = len(self.groups)
        self.gates = self._merge(gates, np.sum)
        if self.n_experts < n_experts:
            # The experts of `apply` are those before they were merged.
            self.experts = self.gates.argmax(axis=1)[:, np.newaxis]
        self.is_constant = self.n_experts > 1 and np.ptp(self.gates, axis=0).max() <= _ROUNDING
        self.gate_share = np.nan
        self.bends = getattr(mixture, "_bends", None)
        if self.bends is not None:
            names = getattr(mixture, "feature_names_in_", None)
            self.bends = tuple(f"x{i}" if names is None else str(names[i]) for i in self.bends)
        self.ensemble = False
        has_proba = hasattr(mixture, "expert_proba") and hasattr(mixture, "predict_proba")
        if has_proba or hasattr(mixture, "expert_predict"):
            self._compare_predictions(is_merged=self.n_experts < n_experts)

    def __getattr__(self, name):
        method = getattr(self.mixture, name)
        if name in ("expert_predict", "expert_proba"):
            return lambda X: self._merge(method(X), np.mean)
        if name == "responsibilities":
            return lambda *args: self._merge(method(*args), np.sum)
        return method

    def describe_gates(self, ensemble):
        """Return what the gates alone say in one sentence, empty if that is nothing."""
        if not ensemble:
            leads = np.unique(self.experts[:, 0])
            if not self.is_stack:
                return ""
            if len(leads) > 1:
                return "Which model to trust depends on the row."
            alone = self.names[leads[0]]
            return f"{alone} counts most everywhere, with a weight that depends on the row."
        weights = self.gates.mean(axis=0)
        order = np.argsort(-weights, kind="stable")
        order = order[weights[order] >= _LEAST_NAMED]
        texts = [f"{weight:.2f}".removeprefix("0") for weight in weights]
        shown = [f"{self.names[k]} {texts[k]}" for k in order[:_MOST_NAMED]]
        shown = ", ".join(shown + ["..."] * (len(order) > _MOST_NAMED))
        # Of equal weights the number of experts says more than their names.
        if len({*texts}) == 1 and len(order) > 2:
            shown = f"{len(order)} experts, each {weights[0]:.3f}".replace(" 0.", " .")
        if self.gate_share:
            dependence = f"depend on the row for {self.gate_share:.1%} of the predictions' variance"
            return f"An ensemble: weights {dependence} only ({shown})."
        if self.is_stack:
            return f"The same everywhere: {shown}."
        text = f"An ensemble: weights do not depend on the row ({shown})"
        if not are_kinds(self.names):
            text += "; this cannot tell whether the data have regimes"
        return f"{text}."

    def _merge(self, values, function):
        values = np.asarray(values)
        return np.stack([function(values[:, group], axis=1) for group in self.groups], axis=1)

    def _compare_predictions(self, is_merged):
        """Find `gate_share` and `ensemble`."""
        rows = draw_rows(len(self.gates), _ROWS_TO_COMPARE)
        X = _safe_indexing(indexable(self.X)[0], rows)
        if hasattr(self, "expert_predict"):
            outputs, mixed = self.expert_predict(X), self.predict(X)
        else:
            outputs, mixed = self.expert_proba(X), self.predict_proba(X)
        outputs = outputs.reshape(*outputs.shape[:2], -1).astype(np.float64)
        first = self.experts[rows, 0]
        alone = outputs[np.arange(len(rows)), first]
        difference = np.abs(alone - np.reshape(mixed, alone.shape)).max()
        # Otherwise only the first expert of a sample counts, whatever the gates are.
        is_mixed = is_merged or difference > 1e-3 * np.ptp(outputs, axis=1).max()
        gates = np.eye(self.n_experts)[first]
        if is_mixed:
            gates = self.gates[rows].astype(np.float64)
        load = gates.mean(axis=0)
        # Predictions by the mean gates, and what the dependence of the gates changes.
        by_mean = np.einsum("k,nko->no", load, outputs)
        change = np.square(np.einsum("nk,nko->no", gates, outputs) - by_mean).mean(axis=0).sum()
        total = change + by_mean.var(axis=0).sum()
        self.gate_share = 0.0
        if total and not self.is_constant:
            self.gate_share = float(change / total)
        # One expert with nearly all weight decides alone, however constant its gate is.
        is_alone = load.max() > _ALONE and len(self.groups[load.argmax()]) == 1
        is_little = self.gate_share < _LITTLE and not is_alone
        self.ensemble = bool(is_mixed and (self.is_constant or is_little))


def _find_groups(kinds, gates):
    """Return the indices of the experts of one kind with equal gates, group by group."""
    groups: list[list[int]] = []
    for m, kind in enumerate(kinds):
        same = (group for group in groups if kinds[group[0]] == kind)
        # Experts of one kind may have gates of their own.
        alike = [g for g in same if np.abs(gates[:, m] - gates[:, g[0]]).max() <= _ROUNDING]
        if alike:
            alike[0].append(m)
        else:
            groups.append([m])
    return groups


def _name_groups(kinds, groups):
    """Return the kind of each group, and the first expert where a kind has several groups."""
    # Options of a kind are shown only where they tell two kinds apart.
    short = [kind.split("(")[0] for kind in kinds]
    if len(set(short)) < len(set(kinds)):
        short = kinds
    is_whole = [len(group) == kinds.count(kinds[group[0]]) for group in groups]
    return [
        short[group[0]] if whole else f"{short[group[0]]} {group[0]}"
        for group, whole in zip(groups, is_whole, strict=True)
    ]


def are_kinds(names):
    """Tell names of kinds from those of experts by their numbers."""
    return not names[0].startswith("expert ")


def count_in_words(names):
    """Return how many experts there are."""
    kinds = f"kinds of experts ({', '.join(names)})" if are_kinds(names) else "experts"
    return f"{len(names)} {kinds}"
