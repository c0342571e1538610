"""Whether a mixture is an ensemble: what its gates alone say."""

import numpy as np
from sklearn.utils import _safe_indexing, indexable

from .._data.experts import are_kinds, expert_outputs
from .._data.tables import draw_rows


def find_gate_share(view):
    """Return how much the gates matter, and whether the mixture is an ensemble.

    Parameters
    ----------
    view : ExpertView

    Returns
    -------
    gate_share : float
        See `SpecializationReport`.
    ensemble : bool
        Whether all experts are used for each sample, and the gates are constant or `gate_share` is
        below 5 %. A single expert with nearly all weight is no ensemble, a kind of a pool is one.
    """
    method = "predict" if view.classes is None else "predict_proba"
    predict = getattr(view.mixture, method, None)
    rows = draw_rows(len(view.gates), 1000)
    some = _safe_indexing(indexable(view.X)[0], rows)
    outputs = expert_outputs(view.mixture, some)
    if outputs is None or predict is None:
        return np.nan, False
    outputs = outputs.astype(np.float64)
    first = view.experts[rows, 0]
    by_first = outputs[np.arange(len(rows)), first]
    mixed = np.reshape(predict(some), by_first.shape)
    difference = np.abs(by_first - mixed).max()
    # Otherwise only the first expert of a sample counts, whatever the gates are.
    is_pool = view.are_kinds and not view.is_stack
    is_mixed = is_pool or difference > 1e-3 * np.ptp(outputs, axis=1).max()
    # A model of a stack may have all the weight, of every sample.
    is_mixed |= view.is_stack and view.is_constant
    gates = view.gates[rows].astype(np.float64) if is_mixed else np.eye(view.n_experts)[first]
    load = gates.mean(axis=0)
    # Predictions by the mean gates, and what the dependence of the gates changes.
    by_mean = np.einsum("k,nko->no", load, outputs)
    change = np.square(np.einsum("nk,nko->no", gates, outputs) - by_mean).mean(axis=0).sum()
    total = change + by_mean.var(axis=0).sum()
    gate_share = float(change / total) if total and not view.is_constant else 0.0
    # A kind of a pool is a bag of models, and an ensemble itself.
    is_little = gate_share < 0.05 and (is_pool or load.max() <= 0.95)
    return gate_share, bool(is_mixed and (view.is_constant or is_little))


def describe_gates(view, gate_share, ensemble):
    """Return what the gates alone say in one sentence, empty if that is nothing."""
    if not ensemble:
        leads = np.unique(view.experts[:, 0])
        if not view.is_stack or view.n_experts == 1:
            return ""
        if len(leads) > 1:
            return "Which model to trust depends on the row."
        name = view.names[leads[0]]
        return f"{name} counts most everywhere, with a weight that depends on the row."
    weights = view.gates.mean(axis=0)
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] >= 0.005]
    texts = [f"{weight:.2f}".removeprefix("0") for weight in weights]
    shown = ", ".join(f"{view.names[k]} {texts[k]}" for k in order[:8])
    shown += ", ..." * (len(order) > 8)
    # Of equal weights the number of experts says more than their names.
    if len({*texts}) == 1 and len(order) > 2:
        shown = f"{len(order)} experts, each {weights[0]:.3f}".replace(" 0.", " .")
    if gate_share:
        dependence = f"depend on the row for {gate_share:.1%} of the predictions' variance"
        return f"An ensemble: weights {dependence} only ({shown})."
    if view.is_stack:
        return f"The same everywhere: {shown}."
    text = f"An ensemble: weights do not depend on the row ({shown})"
    if not view.are_kinds:
        text += "; this cannot tell whether the data have regimes"
    return f"{text}."


def count_in_words(names):
    """Return how many experts there are."""
    kinds = f"kinds of experts ({', '.join(names)})" if are_kinds(names) else "experts"
    return f"{len(names)} {kinds}" if len(names) > 1 else "1 expert"
