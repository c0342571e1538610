"""MoEClassifier: the mixture of experts as a scikit-learn classifier."""

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from .._data import SamplesLike
from .._data.targets import check_classes, learn_classes
from .._parameters.estimator_params import documented
from ..nn import LOSSES, LossSpec
from .fit import BaseMoE

__all__ = ["MoEClassifier"]


@documented
class MoEClassifier(ClassifierMixin, BaseMoE):
    """Mixture of experts with a learned router, for classification.

    Several models, the experts, and a router that decides how much each of them counts for a
    sample. The shape of X decides what a sample is, and the defaults:

    - A row of a table (2-D): columns are standardized, all experts compute the row, and the router
      mixes their probabilities, p(y | x) = sum_m pi_m(x) p_m(y | x). The experts are of three
      kinds: multilayer perceptrons, the same on piecewise-linear columns, and a linear function;
      from 300 rows on boosted trees are a fourth. Out-of-bag rows decide the weight of each kind.
    - A bag of patches (3-D): the expert of highest router score computes the bag, by the paper's
      patch CNN with cubic activation. The class probabilities are computed from its output times
      its gate value, F(x) = pi_m(x) f_m(x) [1]_. More experts of the same size are then more
      parameters, but not more work for a large batch.
    - An image (4-D): convolutions that router and experts share compute features, and a mixture
      as for tables is the last layer.

    With `sample_shape` the rows of a 2-D X are read as patches or images; "table" means a 2-D X
    without it. y may have several labels per sample, as an array (n_samples, n_labels) of zeros
    and ones.

    The parameters of a part of the mixture are those of an object: :class:`RouterParams`,
    :class:`BalanceParams`, :class:`SolverParams`.

    Parameters
    ----------
    loss : str or callable, default="auto"
        What the outputs of the experts mean. "auto" is "log_loss":

        - "log_loss": one output per class and the cross-entropy; with several labels one output
          per label and the logistic loss of each;
        - "margin": a single output for two classes and the logistic loss (section 3.2 of [1]_);
        - "probabilities": the softmax taken twice, as in the authors' code, which bounds the
          loss from below;
        - a subclass of `sklearn_moe.nn.Head`, or a name of your own (`LOSSES.register`).

    max_iter : int, default="auto"
        Maximum number of epochs, over which the learning rates of the schedule "cosine" fall.
        With "cosine", "auto" is the number of epochs with about 3,000 steps, but at least 10, and
        at most 75 for a table if these have 500 steps, 60 for images if these have 300, and 150
        for patches if these have 1,000. With other schedules it is 1000, and `tol` ends most fits
        far earlier.

    early_stopping : {"auto", "out_of_bag"} or bool, default="auto"
        Whether to stop when the mixture no longer improves on samples that it was not trained on,
        and to restore the best weights.

        - "out_of_bag": no sample is held out. Every training sample is out-of-bag for some experts,
          which are not trained on it and are tested on it: in a pool for a member of each kind, and
          each kind stops for itself; otherwise for a tenth of the experts, at least one (a quarter
          of them up to 500 samples), whose mixture is tested. Equal samples are out-of-bag for the
          same experts. The test needs almost no time. Needs a pool, or `router="soft"` and several
          experts;
        - True: `validation_fraction` of the training samples are held out, stratified by class, and
          tested by the loss if X is a table, by the accuracy otherwise;
        - False: the training loss decides when to stop, and no weights are restored. In a pool
          samples are hidden nevertheless, for the router.

        "auto" is "out_of_bag" in a pool, and for a table with several experts, `router="soft"` and
        `expert_loss_weight` above 0. It is True for other tables with several
        experts, because specialized experts give poor out-of-bag estimates, if ten or more samples
        are held out, and at least as many as there are classes. Otherwise it is False.

    batch_size : int or None, default="auto"
        Samples per step; None means all of them (gradient descent). "auto" is 1024 for
        "normalized_sgd", 200 for "adamw", and for other solvers a quarter of the samples, but at
        least 32 and at most 200. It is up to four times as large if the weights of the samples are
        uneven, or for "adamw" and tables of more than 50,000 rows. A batch of all samples is not
        shuffled.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply `sample_weight`; of several labels "balanced".

    tol : float or None, default="auto"
        Smallest improvement that counts: of the training loss, or with `early_stopping` of the
        out-of-bag loss, or of the loss or accuracy of the held-out samples. Without
        `early_stopping`, training also stops if the training loss itself is below `tol`. None
        trains for exactly `max_iter` epochs. "auto" is None for "cosine" without early stopping,
        otherwise 1e-4.

    classes_ : ndarray of shape (n_classes,)
        Class labels; with several labels per sample the indices of the labels.

    oob_decision_function_ : ndarray of shape (n_samples, n_classes)
        Class probabilities of each training sample by the experts that are not trained on it; with
        several labels the probability of each label. In a pool these are one member of each kind,
        with the weights of the router, so that the loss is usually larger than that of the mixture.
        NaN where all members of a kind are trained on the sample: for four fifths of the samples of
        a pool from 10,000 rows on. Without samples of weight 0. Only with
        `early_stopping="out_of_bag"`, and of a pool also with False.

    validation_scores_ : list of float
        Accuracy on the held-out samples after every epoch, with several labels the share of labels
        that are right. Only with `early_stopping=True`.

    Warns
    -----
    ConvergenceWarning
        If the loss was still changing after `max_iter` epochs with rates that do not fall to 0, or
        if the loss of samples that were not trained on is worse than that of a constant prediction.
    ExpertCollapseWarning
        If one expert computes more than 95 % of the training samples, unless the router was learned
        from samples that the experts did not see.

    See Also
    --------
    MixtureClassifier : A mixture of estimators, which finds regimes.
    sklearn.neural_network.MLPClassifier : A single multilayer perceptron.
    sklearn_moe.datasets.make_cluster_patches : The problem of the paper.

    Notes
    -----
    X of float64 is trained in float64 (about three times as slow), anything else in float32;
    columns of integers that float32 would round are standardized in float64 first.
    Images of dtype uint8 stay as they are until their batch, then 0 ... 255 becomes 0 ... 1.
    Sparse tables become dense batch by batch.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] H. Nguyen, N. Ho, A. Rinaldo, "Sigmoid Gating is More Sample Efficient than Softmax
       Gating in Mixture of Experts", arXiv 2405.13997.
    .. [3] L. Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
       arXiv 2408.15664.

    Examples
    --------
    A table; a data frame may also have categories and missing values:

    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import log_loss
    >>> from sklearn_moe import MoEClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> clf = MoEClassifier(random_state=0).fit(X[:400], y[:400])
    >>> print(f"accuracy {clf.score(X[400:], y[400:]):.2f}")
    accuracy 0.98
    >>> print(f"log loss {log_loss(y[400:], clf.predict_proba(X[400:])):.1f}")
    log loss 0.1

    Bags of patches, the problem of the paper:

    >>> from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
    >>> X, y = make_cluster_patches(4000, random_state=0, **PAPER_SETTINGS[1])
    >>> clf = MoEClassifier(random_state=0).fit(X[:2000], y[:2000])
    >>> clf.score(X[2000:], y[2000:]) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMoE._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "MoEClassifier":
        """Continue the training for one epoch on these samples.

        In a pool networks and the linear kind are trained; trees, estimators and the weights of the
        kinds stay as they are, of which a warning tells. Alone they are refused.
        The first call sets the scales of X, the categories, the learning rates and the batch size.
        It should have a thousand samples or more, drawn at random: what has a single value in it is
        warned of. A number of X then gets its scale from the first call that has another, but other
        categories have no effect. The state of the solver, such as momentum, is kept between calls,
        but not after `fit`. `max_iter`, `tol`, `n_iter_no_change`, `checkpoint` and "out_of_bag"
        have no effect, and the rates of "cosine" keep their highest values. `early_stopping=True`
        is an error: hold out samples yourself.

        What is set between two calls acts at once: learning rates, `batch_size`, the options of the
        solver, the weight of the balance, `expert_loss_weight`, `class_weight`, `train_transform`,
        `callbacks`. What "auto" was in the first call it remains. Parameters of the model, and
        another solver, are refused; `random_state` and `device` are those of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them. They are shuffled, and divided into batches.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, or several labels as zeros and ones.

        classes : array-like of shape (n_classes,), default=None
            All classes of all calls; required in the first call. With several labels their
            indices, `np.arange(n_labels)`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh the same.

        Returns
        -------
        self : MoEClassifier

        Raises
        ------
        ValueError
            If samples are malformed or unlike those of the first call, a parameter cannot change
            between calls, or the training diverges. A call that fails, or is interrupted, leaves
            the model as it was.
        """
        if classes is not None:
            classes = np.unique(classes)
            known = getattr(self, "classes_", classes)
            if not np.array_equal(classes, known):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                    f"{known!r}"
                )
        elif not self.__sklearn_is_fitted__():
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes=classes)

    _check_y = staticmethod(check_classes)
    _learn_target = staticmethod(learn_classes)

    def predict_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the class probabilities of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. With several labels the probability of each label,
            (n_samples, n_labels).
        """
        return self._outputs(X, "predict")

    def decision_function(self, X: SamplesLike) -> np.ndarray:
        """Return scores before they become probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes the log odds of the second one; with more classes scores whose softmax
            are the probabilities; with several labels the log odds of each label.
        """
        scores = self._outputs(X, "decision")
        if self._target.kind == "classes" and len(self.classes_) == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def predict_log_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: SamplesLike) -> np.ndarray:
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            With several labels zeros and ones, (n_samples, n_labels): 1 if the probability of a
            label is above one half.
        """
        proba = self.predict_proba(X)
        return self._target.decode(proba)

    def expert_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the prediction of every expert for each sample.

        The prediction if this expert replaced the selected ones, scaled by the sum of their gates:
        if one expert is selected, its entry is `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts, n_classes)
        """
        return np.stack(self._expert_outputs(X), axis=1)

    def _density_method(self):
        return "decision"

    def _log_density(self, scores, codes):
        """Return the log probabilities of classes or labels, given scores (..., n_targets)."""
        scores = scores.astype(np.float64)
        if self._target.kind == "classes":
            scores = special.log_softmax(scores, axis=-1)
            return np.take_along_axis(scores, codes[..., np.newaxis], axis=-1)[..., 0]
        return special.log_expit(np.where(codes > 0, scores, -scores)).sum(axis=-1)

    def __sklearn_tags__(self):
        """Declare that y may hold several labels, if the loss has a meaning for them."""
        tags = super().__sklearn_tags__()
        loss = LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        kind = getattr(loss, "kind", "multilabel")  # of a head of one's own
        has_labels = (
            loss.multilabel is not None if isinstance(loss, LossSpec) else kind == "multilabel"
        )
        tags.classifier_tags.multi_label = has_labels
        return tags
