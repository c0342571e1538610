"""The rules of a mixture of experts in words: where each expert holds, and what it says there."""

from dataclasses import dataclass
from functools import partial
from html import escape
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import validate_params

from .._data.tables import apart_from
from .._data.validation import as_row_counts, check_groups, check_weight
from .._validation import Count, check_named, check_same_length, warning_once
from ..metrics._ensemble import count_in_words, describe_gates, find_gate_share
from ..metrics._experts import class_scores
from ..metrics._report import report_on
from ..metrics._words import SAME_WEIGHTS, Regions, find_regions, number_text
from ._code import SQL, Python, describe, write_code
from ._linear import MOST_TERMS, TINY, coefficients, find_linear, linear_outputs, open_table
from ._picture import draw_rules

# What the text shows at most: coefficients, parts of the table for an expert, and experts beside
# each other.
_SHOWN_TERMS = 8
_SHOWN_PARTS = 6
_EXPERTS_BESIDE = 4


@dataclass(frozen=True, eq=False, repr=False)
class RegionRules:
    """Result of :func:`region_rules`; `print` shows it as a text.

    Attributes
    ----------
    n_samples, n_experts : int
        Number of samples and of experts, as `expert_names` counts them.

    expert_names : tuple of str
        Names of the experts: the kinds of a pool of several kinds, the models of a stack.

    verdict : str
        That of :func:`~sklearn_moe.metrics.specialization_report`: whether this is an ensemble,
        experts that differ by region, or regimes. Without `y` it is about an ensemble or a
        stack only, else empty.

    share : ndarray of shape (n_experts,)
        Share of the samples that each expert receives by `apply`; its probability if the gate does
        not depend on X.

    where : tuple of n_experts tuples of str
        Where each expert holds, in words: in any of these parts of the table, the largest first; of
        more than six the text shows five. Empty if the expert receives no samples, or no simple
        rule was found.

    fidelity : float
        Share of the samples for which the words are right: those of their expert hold, and those
        of no other. NaN if the gate does not depend on X.

    expert_fidelity : ndarray of shape (n_experts,)
        The same among the samples of each expert.

    total_name : {"R2", "accuracy", "right labels"}
        What the next two scores are.

    words_score, model_score : float
        Score of the words alone, where each sample has the prediction of the expert whose words
        hold (the mean of several, and of all by `share` if there is none), and of the model. NaN
        without `y`, and if the gate does not depend on X. The words of a stack have none, as its
        gate has learned from the samples.

    score_name : {"RMSE", "accuracy", "right labels"}
        What the scores are; of several labels the share of those that are right.

    own_score, other_score : ndarray of shape (n_experts,)
        Score of each expert on its own samples, and on those of the others; NaN without `y`, and
        if the gate does not depend on X. For a stack (`method="stack"`) training samples count by
        predictions of models that were not fitted to them; if the gate does not depend on X, all
        samples are those of each model.

    outcome : str
        What the coefficients change: the prediction, its logarithm, or the log odds of a class.

    terms : tuple of str
        Names of the coefficients, those that differ most among the experts first, in units of
        effect: difference times standard deviation of the column. The last one is the intercept.
        Empty if no expert is linear.

    coef : ndarray of shape (n_experts, n_terms)
        The coefficients in the units of the columns, NaN for experts that are not linear. A term
        that is constant on the samples of an expert has none ("-" in the text): it is a part of the
        intercept.

    half_width : ndarray of shape (n_experts, n_terms)
        Half the width of their 95 % intervals, NaN without `y`, of logarithms that are not those of
        counts, and where the samples or weights are known not to be those of the fit. The border
        between the experts is taken as known.

    weight : ndarray of shape (n_experts,)
        Mean gate of each expert.

    is_stack : bool
        Whether the experts are models that were each fitted to all samples.
    """

    n_samples: int
    n_experts: int
    expert_names: tuple
    verdict: str
    share: np.ndarray
    where: tuple
    fidelity: float
    expert_fidelity: np.ndarray
    total_name: str
    words_score: float
    model_score: float
    score_name: str
    own_score: np.ndarray
    other_score: np.ndarray
    outcome: str
    terms: tuple
    coef: np.ndarray
    half_width: np.ndarray
    weight: np.ndarray
    is_stack: bool
    # Whether the rows may be others than those of the fit.
    _may_be_new: bool = False
    # Returns the text in a language.
    _write: Any = None
    # Returns the picture of these rules.
    _draw: Any = None

    def to_python(self) -> str:
        """Return the rules as Python: a function `predict(row)` that imports nothing.

        Where the gate has few values, as that of a tree, it predicts what the model predicts, and
        its first line says so. Otherwise it is what the expert predicts whose words hold: a number,
        a list of numbers, or a class. Where there is none it is the largest expert, and where there
        are several others the largest of these.

        Numbers have as many digits as change the predictions for X by about a millionth of their
        standard deviation. A category that X does not hold, and a missing number where X has none,
        are refused by the name of the column: fill them before, as the model would.

        Returns
        -------
        text : str
            `exec(text, scope)` defines `scope["predict"]`. A row is a mapping from the names of a
            data frame's columns to values, otherwise a sequence. None, NaN and pandas' NA are
            missing. Of a data frame or array it returns a list.

        Raises
        ------
        ValueError
            If an expert is not linear in the columns, dates or durations are used, or the rules are
            about the probabilities of classes that all experts mix.
        """
        return self._write(Python)

    def to_sql(self) -> str:
        """Return the rules as an expression in standard SQL: SELECT <expression> FROM table.

        It says the same as :meth:`to_python` by CASE, with NULL for missing values, and NULL for
        what is refused there. The columns are those of the data frame by their names, or x0, x1,
        ... for an array.

        Returns
        -------
        text : str

        Raises
        ------
        ValueError
            As that of :meth:`to_python`, and if the model predicts several numbers.
        """
        return self._write(SQL)

    def plot(self, *, column: Any = None, ax: Any = None) -> Any:
        """Draw what each expert says along a column, with its words, and the rows in its color.

        The line of an expert is drawn where it has rows: at each value of the column the mean of
        what it says of these rows, if all had this value. Of numbers a dashed line is that of least
        squares through all rows. Of classes lines are probabilities, and the rows lie at 0 and 1:
        of two classes of the second one, of several in a panel for each.

        Parameters
        ----------
        column : str or int, default=None
            A column of numbers or dates. None: the one that changes most what the experts say.

        ax : matplotlib Axes, default=None
            Where to draw, if there is one panel. None: a new figure.

        Returns
        -------
        figure : matplotlib Figure
        """
        return self._draw(self, column, ax)

    def to_frame(self) -> Any:
        """Return the rules as a table, one row per expert.

        Returns
        -------
        frame : pandas.DataFrame
            With columns `share`, `where`, `fidelity`, the scores and one per coefficient. One whose
            name is taken is called, say, `share (column)`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = check_pandas_support("RegionRules.to_frame")
        columns = {"share": self.share, "where": [" or ".join(parts) for parts in self.where]}
        columns["fidelity"] = self.expert_fidelity
        columns[f"own {self.score_name}"] = self.own_score
        columns[f"other {self.score_name}"] = self.other_score
        for term, coef in zip(self.terms, self.coef.T, strict=True):
            columns[apart_from(columns, term)] = coef
        # Numbers stay numbers, names of kinds are an index of texts.
        names = [name.removeprefix("expert ") for name in self.expert_names]
        index = range(self.n_experts) if "0" in names else names
        return pd.DataFrame(columns, pd.Index(index, name="expert"))

    def __repr__(self):
        """Return one line; the text is for `print`."""
        return f"RegionRules(n_experts={self.n_experts}, fidelity={self.fidelity:.3f})"

    def __str__(self):
        """Return where each expert holds, and a table of the coefficients."""
        lines = wrap(self._title(), 100)
        is_constant = np.isnan(self.fidelity)
        # Of a single expert the title says all.
        if self.n_experts > 1 and (self.is_stack or not is_constant):
            for k, words in enumerate(self.where):
                words = list(words) or ["no simple words"] * int(self.share[k] > 0)
                if words[_SHOWN_PARTS:]:
                    n_smaller = len(words) - _SHOWN_PARTS + 1
                    words[_SHOWN_PARTS - 1 :] = [f"in {n_smaller} smaller parts"]
                name = self.expert_names[k].replace("expert ", "Expert ")
                lines += ["", f"{name}: {self._figures(k)}"]
                for number, part in enumerate([] if is_constant else words):
                    first = "    or " if number else "    "
                    lines += wrap(part, 100, initial_indent=first, subsequent_indent=" " * 8)
        linear = np.flatnonzero(~np.isnan(self.coef).all(axis=1))
        lines += ["", self._note(linear), *self._coefficients(linear)]
        # Each model of a stack is fitted to all rows, whatever the gate.
        has_border = self.n_experts > 1 and not (is_constant or self.is_stack)
        if has_border and not np.isnan(self.half_width).all():
            lines.append("Intervals take the border between the experts as known.")
        return "\n".join(lines)

    def _repr_html_(self):
        """Return the text for notebooks, in a box that scrolls by itself if lines are long."""
        return f'<pre style="overflow-x: auto">{escape(str(self))}</pre>'

    def _title(self):
        """Return what the mixture is, and how good the words are."""
        counted = count_in_words(self.expert_names)
        if self.is_stack and self.n_experts > 1:
            counted = f"{self.n_experts} models"
        title = f"{self.verdict} {counted}, {self.n_samples} rows."
        has_words = self.n_experts > 1 and not np.isnan(self.fidelity)
        if has_words:
            rows = "every row" if self.fidelity == 1 else f"{self.fidelity:.1%} of the rows"
            title += f" The printed rules assign {rows} to the same expert as the model."
        if not np.isnan(self.model_score):
            has_words &= not np.isnan(self.words_score)
            by_rules = f" by the printed rules, {self.model_score:.3f} by the model" * has_words
            score = self.words_score if has_words else self.model_score
            title += f" {self.total_name} {score:.3f}{by_rules}."
        return title.lstrip()

    def _figures(self, k):
        """Return the share of an expert, and its scores."""
        text = f"{self.share[k]:.1%} of the rows"
        if self.is_stack:
            text = f"weight {self.weight[k]:.2f}" + f"; {text}" * (not np.isnan(self.fidelity))
        if self.fidelity < 1 and not np.isnan(self.expert_fidelity[k]):
            text += f", words right for {self.expert_fidelity[k]:.1%}"
        own, other = self.own_score[k], self.other_score[k]
        scores = [f"{number_text(own)} on its own rows"] * (not np.isnan(own))
        scores += [f"{number_text(other)} on the others"] * (not np.isnan(other))
        if np.isnan(other) and scores:
            scores = [f"{number_text(own)}"]
        return text + f"; {self.score_name} {', '.join(scores)}" * bool(scores)

    def _note(self, linear):
        """Return what the coefficients are of the experts that are linear."""
        if not linear.size:
            return f"No coefficients: no expert is linear in the columns ({MOST_TERMS} at most)."
        note = f"Change of {self.outcome} per unit"
        if not np.isnan(self.half_width).all():
            note += ", with 95 % interval" + " if these are the rows of the fit" * self._may_be_new
        elif self._may_be_new:
            note += ", no intervals: these are not the rows, or not the weights, of the fit"
        if np.isnan(self.coef[linear]).any():
            note += ", - for none"
        if linear.size > 1:
            note += ", largest differences first"
        return note

    def _coefficients(self, linear):
        """Yield the lines of a table of the coefficients, some experts beside each other."""
        table = [["", *(self.expert_names[k] for k in linear)]]
        for name, *values in zip(self.terms, self.coef.T, self.half_width.T, strict=True):
            table.append([name, *map(number_text, *(value[linear] for value in values))])
        n_last = sum(term.split(",")[0] == "intercept" for term in self.terms)
        n_more = len(self.terms) - n_last - _SHOWN_TERMS
        if n_more > 1:
            table[_SHOWN_TERMS + 1 : -n_last] = [[f"... {n_more} more", *[""] * linear.size]]
        names, *columns = zip(*table, strict=True)
        for start in range(0, len(columns), _EXPERTS_BESIDE):
            shown = [names, *columns[start : start + _EXPERTS_BESIDE]]
            widths = [max(map(len, column)) for column in shown]
            for name, *cells in zip(*shown, strict=True):
                right = (f"   {c:>{width}}" for c, width in zip(cells, widths[1:], strict=True))
                yield f"  {name:{widths[0]}}{''.join(right)}".rstrip()


@warning_once()
@validate_params(
    {"max_conditions": [Count(1)], "y": ["array-like", None]}, prefer_skip_nested_validation=True
)
def region_rules(
    estimator: Any,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    *,
    max_conditions: int = 3,
) -> RegionRules:
    """Describe in words where each expert of a mixture holds, and its rule there.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts with `apply` and `predict`, or a fitted
        :class:`~sklearn.pipeline.Pipeline` that ends in one. The rules are about the columns
        that it takes.

    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        A table. Columns of strings, bools or a categorical type are categories. Dates are not: the
        words compare them, those with a time zone in UTC. Durations are numbers of days. Values may
        be missing.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        True targets, class labels, or zeros and ones of several labels, for the scores and
        intervals. The intervals need X, y, weights and groups that `estimator` was fitted on; the
        text says so where these are unknown.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in scores and intervals; no factor of all of them counts. None: all
        weigh the same.

    groups : array-like of shape (n_samples,), default=None
        Labels of groups of samples that depend on each other, such as repeated measurements: the
        intervals take this into account. None: all are independent.

    max_conditions : int, default=3
        How many columns the words about one part of the table may name.

    Returns
    -------
    rules : RegionRules
        `print(rules)` shows a text; `rules.to_frame()` returns a table.

    Raises
    ------
    TypeError
        If `estimator` lacks one of the methods.

    ValueError
        If X is not a table, or y, weights or groups have another length.

    See Also
    --------
    sklearn_moe.metrics.specialization_report : Whether the experts differ at all.

    Notes
    -----
    The words are those of a tree that is fitted to `apply(X)`, with 32 leaves, or 2 for each
    expert. Leaves are then merged and shortened until none has more than `max_conditions`
    conditions and each condition is worth .3 % of the samples. A threshold is a number of few
    digits between two neighboring values of the column, whatever its scale, and parts the samples
    exactly as the leaves do. `fidelity` is measured with the words as they are written.

    An expert is linear if its outputs for all samples are a linear function of the columns, to a
    relative precision of 1e-6. The coefficients are differences of its outputs, so its class does
    not matter. For classes the outputs are the log odds of its probabilities. If no expert is
    linear, and all predict positive numbers, these are replaced by their logarithms: those of
    Poisson and gamma regressions are linear. A category counts relative to the most frequent one,
    and a missing or infinite number relative to the mean of the others.

    The intervals are those of weighted maximum likelihood, with `responsibilities(X, y)` of the
    mixture as weights, or `apply(X)` without. They are robust against unequal variances, and wider
    where regimes overlap. The border between the experts is taken as known. Where the gate has
    found it by few samples, the intervals are too narrow: of two regimes in 40 to 200 samples, and
    a tree as gate, 80 to 92 of 100 held the true coefficient. Of logarithms only those of Poisson
    regressions have intervals. A penalty of the experts is ignored, so the intervals of columns
    that say the same are wide; they reach as far as the coefficient has been moved by it. So they
    do for a column that an expert does not receive: its coefficient is 0. All rows count for each
    model of a stack.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_moe.inspection import region_rules
    >>> class Tree(DecisionTreeRegressor):  # its leaves are experts
    ...     def apply(self, X):
    ...         return np.unique(super().apply(X), return_inverse=True)[1]
    >>> X = np.arange(20.0).reshape(-1, 1)
    >>> tree = Tree(max_depth=1).fit(X, X[:, 0] > 7)
    >>> print(region_rules(tree, X))
    2 experts, 20 rows. The printed rules assign every row to the same expert as the model.
    <BLANKLINE>
    Expert 0: 40.0% of the rows
        x0 <= 7
    <BLANKLINE>
    Expert 1: 60.0% of the rows
        x0 > 7
    <BLANKLINE>
    No coefficients: no expert is linear in the columns (500 at most).
    """
    view, table = open_table(estimator, X)
    check_same_length(X=X, y=y)
    sample_weight = check_weight(sample_weight, view.experts)
    groups = check_groups(groups, view.experts)
    unknown = np.full((*view.gates.shape, 1), np.nan)
    outputs = unknown if view.outputs is None else view.outputs
    if view.is_constant:
        assigned = _assign_constant(view, outputs)
    else:
        assigned = _assign_by_gate(view, table, outputs, max_conditions)
    if view.is_stack:
        assigned = _assign_stack(assigned, view)
    scores = _score(view, y, assigned, sample_weight)
    outputs = linear_outputs(view, outputs)
    functions = find_linear(estimator, view, table, outputs)
    shares = _find_shares(view, y, assigned, groups)
    of_samples = assigned.trained, shares, sample_weight, groups
    is_of_fit = _are_of_fit(view, y, sample_weight)
    target = None if is_of_fit is False else scores.target
    numbers = coefficients(view, functions, outputs, target, *of_samples)
    outcome, terms, coef, half_width = _ordered(functions, assigned.share, view.classes, *numbers)
    power = 0.5 if scores.name == "RMSE" else 1
    weights = sample_weight[:, np.newaxis]
    about = describe(view, getattr(y, "name", None), scores)
    known = estimator, view, table, assigned.regions, functions
    right = assigned.regions.right
    owners = shares.argmax(axis=1) if view.is_constant else view.experts[:, 0]
    owners = owners[:, np.newaxis] == np.arange(view.n_experts)
    # Each model, or kind, of the same weights everywhere is one of all rows.
    owners |= view.is_constant and view.are_kinds
    return RegionRules(
        n_samples=len(right),
        n_experts=view.n_experts,
        expert_names=view.names,
        verdict=_find_verdict(view, y, scores.target),
        share=assigned.share,
        where=assigned.regions.words,
        fidelity=float(right.mean()),
        expert_fidelity=_means(right[:, np.newaxis], assigned.holds),
        total_name="R2" if view.classes is None else scores.name,
        words_score=scores.by_words,
        model_score=scores.by_model,
        score_name=scores.name,
        own_score=_means(scores.of_samples, weights * assigned.holds) ** power,
        other_score=_means(scores.of_samples, weights * ~assigned.holds) ** power,
        outcome=outcome,
        terms=terms,
        coef=coef,
        half_width=half_width,
        weight=view.gates.mean(axis=0),
        is_stack=view.is_stack,
        _may_be_new=not is_of_fit and y is not None,
        _write=partial(write_code, *known, about=about),
        _draw=partial(draw_rules, estimator, view, table, y, owners),
    )


class _Assignment(NamedTuple):
    """Which samples each expert is assigned to, and what is predicted of them."""

    regions: Regions
    # (n_experts,): of the samples, or of the weight if the gates are constant.
    share: np.ndarray
    # (n_samples, n_experts): for which samples an expert holds, and which it was fitted to.
    holds: np.ndarray
    trained: np.ndarray
    # (n_samples, n_experts, n_outputs): what experts predict of samples, NaN for no score.
    outputs: np.ndarray
    # (n_samples, n_outputs): what the words and the mixture predict. None: by its own method.
    by_words: np.ndarray
    by_model: np.ndarray | None


def _assign_constant(view, outputs):
    """Assign all samples to all experts. These have no scores, as only their sum predicts."""
    everywhere = np.ones(view.gates.shape, bool)
    unknown = np.full(outputs.shape, np.nan)
    held = np.full(view.gates.shape, np.nan)
    regions = Regions(None, ((SAME_WEIGHTS,),) * view.n_experts, held, held[:, 0])
    share, of_sum = view.gates[0], unknown[:, 0]
    return _Assignment(regions, share, everywhere, everywhere, unknown, of_sum, of_sum)


def _assign_by_gate(view, table, outputs, max_conditions):
    """Assign each sample to the expert that the gate gives it to."""
    experts = view.experts[:, 0]
    holds = np.eye(view.n_experts, dtype=bool)[experts]
    share = holds.mean(axis=0)
    regions = find_regions(table, experts, view.n_experts, max_conditions)
    # Where no words hold, all experts count.
    weight = np.where(regions.held.any(axis=1, keepdims=True), regions.held, share)
    weight = weight / weight.sum(axis=1, keepdims=True)
    by_words = (weight[..., np.newaxis] * outputs).sum(axis=1)
    return _Assignment(regions, share, holds, holds, outputs, by_words, None)


def _assign_stack(assigned, view):
    """Assign each sample to the model of largest gate among those that did not learn from it.

    The words have no score: they are about a gate that has learned from the samples.
    """
    gates, outputs = view.out_of_fold
    outputs = outputs.reshape(assigned.outputs.shape)
    by_words = by_model = np.full(outputs[:, 0].shape, np.nan)
    trained = holds = np.ones(gates.shape, bool)
    if not view.is_constant:
        holds = np.eye(view.n_experts, dtype=bool)[gates.argmax(axis=1)]
        by_model = (gates[..., np.newaxis] * outputs).sum(axis=1)
    regions, share = assigned.regions, assigned.share
    return _Assignment(regions, share, holds, trained, outputs, by_words, by_model)


def _are_of_fit(view, y, weight):
    """Tell whether samples and weights are those of the fit: their likelihood is. None: unknown."""
    mixture = view.mixture
    if y is None or view.is_stack or view.has_groups or not hasattr(mixture, "log_likelihood_"):
        return None
    found = as_row_counts(weight) @ mixture.score_samples(view.X, y)
    return bool(np.isclose(found, mixture.log_likelihood_, rtol=1e-6))


class _Scores(NamedTuple):
    """What experts, words and mixture score."""

    name: str
    # (n_samples, n_experts): squared errors, ones for right classes, or shares of right labels.
    of_samples: np.ndarray
    by_words: float = np.nan
    by_model: float = np.nan
    # (n_samples, n_outputs): numbers, or ones of each label, or of each class but the first.
    target: Any = None


def _find_shares(view, y, assigned, groups):
    """Return the share of each sample that belongs to each expert, (n_samples, n_experts)."""
    # Each kind, and each model of a stack, is fitted to all rows.
    is_of_all = view.is_stack or (view.is_constant and view.are_kinds)
    if not (y is None or is_of_all or view.responsibilities is None):
        # Samples of a group belong to one expert only if the mixture was fitted so.
        together = [groups] * view.has_groups
        y = np.ravel(y) if np.shape(y)[1:] == (1,) else y
        return np.asarray(view.responsibilities(view.X, y, *together))
    return assigned.trained.astype(float)


def _score(view, y, assigned, weight):
    """Return what experts, words and mixture score. What is NaN has no score."""
    outputs, by_words, by_model = assigned.outputs, assigned.by_words, assigned.by_model
    if y is None:
        name = "RMSE" if view.classes is None else "accuracy"
        return _Scores(name, np.full(outputs.shape[:2], np.nan))
    is_labels = np.ndim(y) == 2 and np.shape(y)[1] > 1
    if by_model is None:
        by_model = by_words
        if not np.isnan(by_words).any():
            by_model = np.asarray(view.mixture.predict(view.X)).reshape(len(by_words), -1)
            if view.classes is not None and not is_labels:
                by_model = by_model == view.classes
    predictions = np.concatenate(
        [outputs, by_words[:, np.newaxis], by_model[:, np.newaxis]], axis=1
    )
    if view.classes is None:
        y = check_named(y, "y", dtype=float, ensure_2d=False).reshape(len(outputs), -1)
        errors = (predictions - y[:, np.newaxis]) ** 2
        squares = (y - np.average(y, axis=0, weights=weight)) ** 2
        variance = np.average(squares, axis=0, weights=weight)
        mean_squares = _means(errors[:, -2:], weight[:, np.newaxis, np.newaxis])
        totals = (1 - mean_squares / np.maximum(variance, TINY)).mean(axis=1)
        return _Scores("RMSE", errors[:, :-2].mean(axis=2), *totals.tolist(), y)
    right = class_scores(y, predictions, view.classes)
    target = np.asarray(y) if is_labels else view.classes[1:] == np.reshape(y, (-1, 1))
    right[np.isnan(predictions).any(axis=2)] = np.nan
    totals = _means(right[:, -2:], weight[:, np.newaxis]).tolist()
    name = "right labels" if is_labels else "accuracy"
    return _Scores(name, right[:, :-2], *totals, target)


def _find_verdict(view, y, target):
    """Return the verdict of a specialization report, or what the gates alone say without scores."""
    if view.outputs is not None and target is not None and (target != target[0]).any():
        return report_on(view, y).verdict
    gate_share, ensemble = find_gate_share(view)
    return describe_gates(view, gate_share, view.is_constant or (ensemble and view.are_kinds))


def _means(values, weight):
    """Return the means of columns of numbers by weight, NaN if there is none."""
    weight = weight * ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return (weight * np.nan_to_num(values)).sum(axis=0) / weight.sum(axis=0)


def _ordered(functions, share, classes, coef, half_width, scale):
    """Return what is changed, names, coefficients and half-widths, largest differences first."""
    n_outputs = coef.shape[2]
    suffixes = [""]
    outcome = "the logarithm of the prediction" if functions.is_log else "the prediction"
    if classes is None and n_outputs > 1:
        suffixes = [f", output {k}" for k in range(n_outputs)]
    elif n_outputs > 1:
        outcome = "the log odds of classes"
        suffixes = [f", {label} against {classes[0]}" for label in classes[1:]]
    elif classes is not None:
        outcome = f"the log odds of {classes.tolist()[-1]!r}"
    is_shown = ~np.isnan(coef[:, -1]).any(axis=1) & (share > 0)
    # A single expert differs from zero.
    n_zeros = 2 * (is_shown.sum() < 2)
    # The order is by effect: difference times deviation of the column.
    slopes = np.pad(np.nan_to_num(coef[is_shown, :-1]), ((0, n_zeros), (0, 0), (0, 0)))
    effect = np.ptp(slopes, axis=0) * scale[:-1, np.newaxis]
    order = np.argsort(-effect.ravel(), kind="stable")
    order = [*order, *range(order.size, order.size + n_outputs)]
    names = [name + suffix for name in functions.names for suffix in suffixes]
    coef, half_width = (numbers.reshape(len(coef), -1)[:, order] for numbers in (coef, half_width))
    return outcome, tuple(names[place] for place in order), coef, half_width
