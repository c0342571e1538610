"""The fit of both estimators as one story, and `partial_fit`."""

import copy
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names

from .. import _devices
from .._data import SamplesLike
from .._data.rows import Rows
from .._data.statistics import describe_channels, describe_columns, find_knots
from .._data.tables import refuse_repeated_names
from .._data.target_means import TargetMeans
from .._data.validation import WeightsSeen, as_row_counts, check_training_data, hold_out
from .._devices import default_torch_modes
from .._parameters import parts
from .._parameters.plan import resolve
from .._threads import threads_for
from .._training.callbacks import Interrupts, Stopping, show_progress
from .._training.checkpoint import Checkpoint
from .._training.finish import (
    Fitted,
    describe_density,
    finish,
    finish_chunk,
    warn_of,
    warn_of_constants,
)
from .._training.loop import Training
from .._training.net import MoENet, place
from .._training.pool import fit_pool, hide_rows, train_pool_further
from .._training.process_group import CURRENT_GROUP
from .._validation import warn
from ..nn import build_mixture
from ..nn.encoders import FeatureStatistics
from ..nn.heads import choose_head, learn_scale
from ..nn.seeding import use_generator
from .fitted import FittedMoE

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseMoE"]

_MAX_SEED = 2**31 - 1
# Rows by which a fit is finished after Ctrl-C.
_FEW_ROWS = 2000
# Wait at least a quarter of the epochs so far: a schedule that falls slowly may improve late.
_PATIENCE = 0.25


class BaseMoE(FittedMoE):
    """Training of a mixture of experts; see MoEClassifier for its parameters.

    Subclasses have an `__init__`, and tell what y means: by `_check_y`, a function, and
    `_learn_target`, which returns the target of y and a head of the loss for it.
    """

    def __init__(
        self,
        n_experts: int | Literal["auto"] = "auto",
        *,
        expert: parts.ExpertChoice = "auto",
        router: parts.RouterChoice = "auto",
        loss: parts.LossChoice = "auto",
        balance: parts.BalanceChoice | None = None,
        learning_rate_init: float | Literal["auto"] = "auto",
        max_iter: int | Literal["auto"] = "auto",
        early_stopping: bool | Literal["auto", "out_of_bag"] = "auto",
        batch_size: int | Literal["auto"] | None = "auto",
        class_weight: dict | Literal["balanced"] | None = None,
        verbose: bool | int = 0,
        random_state: int | np.random.RandomState | None = None,
        activation: str | Callable = "auto",
        expert_width: int | None = None,
        trunk: str | Callable | None = "auto",
        sample_shape: Sequence[int] | None = None,
        categorical_features: ArrayLike | None = "from_dtype",
        standardize: bool | Literal["auto"] = "auto",
        top_k: int | Literal["auto"] = "auto",
        expert_loss_weight: float | Literal["auto"] = "auto",
        solver: parts.SolverChoice = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float | Literal["auto"] | None = "auto",
        warm_start: bool = False,
        train_transform: Callable | None = None,
        callbacks: list | tuple | None = None,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device = "auto",
    ):
        self.n_experts = n_experts
        self.expert = expert
        self.router = router
        self.loss = loss
        self.balance = balance
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state
        self.activation = activation
        self.expert_width = expert_width
        self.trunk = trunk
        self.sample_shape = sample_shape
        self.categorical_features = categorical_features
        self.standardize = standardize
        self.top_k = top_k
        self.expert_loss_weight = expert_loss_weight
        self.solver = solver
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.train_transform = train_transform
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device

    def __sklearn_tags__(self):
        """Declare 3-D input, and what a table may hold; scikit-learn has no tag for 4-D."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        is_table = self.sample_shape is None
        tags.input_tags.sparse = is_table
        tags.input_tags.allow_nan = is_table and self.standardize is not False
        tags.input_tags.categorical = is_table
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    @default_torch_modes()
    @threads_for(0, "blas", "openmp")
    def fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "Self":
        """Fit router and experts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, n_patches, patch_size) or \
                (n_samples, n_channels, height, width)
            Training samples. A table (2-D) may be sparse, hold NaN where a value is missing, and
            have categorical columns.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Of a classifier the class labels, of any type, or several labels, as zeros and ones; of
            a regressor numbers, with one column or several.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. Their scale does not count: a factor of all weights changes
            nothing. If all are whole multiples of the smallest one, up to 100 times, a sample is
            there as often as this multiple says; of others penalties, tests and intervals count
            (sum w)^2 / sum w^2 samples, Kish's effective size. A sample of weight 0 is left out.
            None: all weigh the same. What is "auto" depends on the number of samples, not on their
            weights.

        groups : array-like of shape (n_samples,), default=None
            The group of each sample, labels of any type. Samples of one group are out-of-bag for
            the same experts, or held out together. Use it for repeated measurements, copies, or
            frames of one video, which resemble each other. Of a single group, which is warned of,
            samples are out-of-bag one by one. If `fit` is called by another estimator,
            request it by `set_fit_request(groups=True)`.

        Returns
        -------
        self : estimator instance

        Raises
        ------
        ValueError
            If X or y is malformed, fewer than two classes have positive weight, a parameter
            does not fit X or other parameters, or the training loss is not finite.
        """
        fit = Fit(self, goes_on=self.warm_start and self.__sklearn_is_fitted__())
        fit.read(X, y, sample_weight, groups)
        fit.make_plan()
        fit.build()
        oob_loss = finish(fit, fit.train())
        # All that was learned is taken over in one step, the only one that changes the estimator.
        with Interrupts(hold=True):
            fit.learned.give_to(self)
        if fit.hurries:
            raise KeyboardInterrupt
        warn_of(fit, oob_loss)
        return self

    @default_torch_modes()
    @threads_for(0, "blas", "openmp")
    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train for one epoch on a chunk.

        The net is trained as it is; its optimizer keeps its state, too.
        """
        if self.early_stopping is True:
            raise ValueError(
                "partial_fit does not support early_stopping=True: which samples to hold out, and "
                "when to stop, is up to the caller. Use early_stopping='auto' or False."
            )
        fit = Fit(self, goes_on=self.__sklearn_is_fitted__(), is_chunk=True)
        fit.read(X, y, sample_weight, classes=classes)
        fit.train_chunk()
        with Interrupts(hold=True):
            fit.learned.give_to(self)
        return self


class Fit:
    """A fit under way: nothing of it is written to the estimator before it has ended.

    Parameters
    ----------
    estimator : estimator instance
        Its parameters are read.
    goes_on : bool
        Whether the net of the estimator is trained further.
    is_chunk : bool, default=False
        Whether the samples are one of many chunks.

    Attributes
    ----------
    learned : Fitted
        The fitted attributes, as far as they are known.
    samples : Samples
        What is trained on.
    plan : Plan
    net : MoENet
    rows, validation : Rows
        The samples, and those that are held out or None, as the net takes them.
    stopping : Stopping
        What ends the training, of a pool that of the last kind.
    n_before : int
        Epochs of earlier fits.
    progress : skorch callback or None
        Shows the epochs, with `verbose`.
    hurries : bool
        Whether Ctrl-C was pressed after the first epoch: what is left is done with few rows.
    """

    hurries = False
    stopping = None
    progress = None

    def __init__(self, estimator, *, goes_on, is_chunk=False):
        self.estimator = estimator
        self.goes_on = goes_on
        self.is_chunk = is_chunk
        self.checkpoint = self.validation = None
        self.learned = Fitted.of(estimator) if goes_on else Fitted()
        seed = estimator._next_seed if goes_on else estimator.random_state
        self.random_state = check_random_state(seed)
        # The first process shows what all do.
        if estimator.verbose and not getattr(CURRENT_GROUP.get(), "rank", 0):
            self.progress = show_progress(type(estimator).__name__, estimator.verbose)

    def hurry(self):
        """Go on with few rows: who has pressed Ctrl-C does not want to wait."""
        self.hurries, device = True, torch.device(self.net.device)
        self.rows = self.rows.sample(_FEW_ROWS, device)
        if self.validation is not None:
            self.validation = self.validation.sample(_FEW_ROWS, device)

    def by_few_rows_after_ctrl_c(self, step):
        """Return what a step returns; Ctrl-C lets it begin anew with few rows, a second ends it."""
        if not self.hurries:
            try:
                with Interrupts():
                    return step(self)
            except KeyboardInterrupt:
                self.hurry()
        return step(self)

    def make_generator(self):
        """Return the source of noise at prediction, None without it."""
        if not self.learned._noise_at_predict:
            return None
        return torch.Generator(self.net.device).manual_seed(self.learned._predict_seed)

    # -- what X and y mean --------------------------------------------------------------------

    def read(self, X, y, sample_weight, groups=None, classes=None):
        """Check the samples; learn how X is read and what y means, or read them as before."""
        estimator, learned, known = self.estimator, self.learned, None
        refuse_repeated_names(X)
        _check_feature_names(estimator if self.goes_on else learned, X, reset=not self.goes_on)
        if self.goes_on:
            known = learned._format
            classes = getattr(learned._target, "classes", None)
        samples, dtype, learned._format = check_training_data(
            estimator,
            X,
            y,
            sample_weight,
            groups,
            check_y=estimator._check_y,
            known=known,
            classes=classes,
        )
        if samples.groups is not None and np.ptp(samples.groups) == 0:
            warn(
                "groups holds a single group, which cannot be out-of-bag or held out as a whole. "
                "Its samples are so one by one: out-of-bag losses and predictions, and intervals, "
                "are those of new samples of this group, and tell nothing of others.",
                UserWarning,
            )
            samples = samples._replace(groups=None)
        if not self.is_chunk:
            # Chunks are weighed against each other.
            samples = samples._replace(weight=as_row_counts(samples.weight))
        if not (self.goes_on and self.is_chunk):
            learned._dtype = dtype
            learned._weights_seen = WeightsSeen()
        learned._weights_seen = learned._weights_seen.updated(samples.weight)
        if self.goes_on:
            self.head = estimator.net_.criterion_
            learned._target = learned._target.updated(samples.y, samples.weight)
        else:
            weight = samples.weight / learned._weights_seen.mean
            learned._target, self.head = estimator._learn_target(
                samples.y, weight, classes, self._make_head
            )
            learned.classes_ = getattr(learned._target, "classes", None)
            learned.n_features_in_ = learned._format.n_features
            learned.input_shape_ = learned._format.input_shape
        samples = samples._replace(y=learned._target.encode(samples.y, learned._dtype))
        self.samples = samples._replace(X=self._replace_categories(samples))

    def _replace_categories(self, samples):
        """Return X with means of y, and slopes, in place of categories where there are many."""
        learned, found = self.learned, self.learned._format
        if self.goes_on and self.is_chunk:
            return samples.X if found.means is None else found.means.transform(samples.X)
        if self.goes_on and found.means is None:
            return samples.X
        means = TargetMeans.of(found.categories)
        counts = as_row_counts(samples.weight)
        n_targets = learned._target.n_targets
        options = n_targets, counts, samples.groups, found.means
        X = means.fit_transform(samples.X, samples.y, *options)
        if not means.tables:
            return X
        learned._format = found._replace(means=means, input_shape=X.shape[1:])
        return X

    def _make_head(self, kind, n_targets):
        """Return the head of the loss: it tells the plan what it needs, and then is trained."""
        # A head of one's own may draw, but what follows does not depend on whether it does.
        seed = copy.deepcopy(self.random_state).randint(_MAX_SEED)
        head = choose_head(self.estimator.loss, kind)
        with use_generator(torch.Generator().manual_seed(seed)):
            return head(n_targets)

    # -- the plan -----------------------------------------------------------------------------

    def make_plan(self):
        """Resolve what is "auto", find what was stored of the fit, and hold samples out."""
        estimator = self.estimator
        known = {}
        if self.goes_on:
            # The experts are there already.
            known = {k: self.learned.resolved_params_[k] for k in ("n_experts", "expert")}
        self.plan = self._resolve(known)
        if self.goes_on:
            self._check_architecture(new_solver=True)
            # Of a model that has seen all rows none can be held out.
            if self.plan.training.holds_out and not hasattr(estimator, "_split_seed"):
                self.plan = self._resolve(known | {"early_stopping": False})
        if estimator.checkpoint is not None:
            # What was drawn by a stored fit is drawn again.
            weights = estimator.net_.module_.state_dict() if self.goes_on else None
            data = *self.samples, self.learned._format
            found = Checkpoint(estimator, data, self.plan, self.random_state, weights)
            self.checkpoint, self.random_state = found, found.random_state
        if self.plan.training.holds_out:
            seed = self.random_state.randint(_MAX_SEED)
            if self.goes_on:
                seed = vars(estimator).get("_split_seed")
            if seed is None:
                raise ValueError(
                    "early_stopping=True cannot hold out rows from a model that was trained on all "
                    "of them. Leave it at 'auto' or False, or fit a clone (warm_start=False)."
                )
            self.learned._split_seed = seed
            self.samples, self.validation = hold_out(
                self.samples,
                estimator.validation_fraction,
                seed,
                stratify=self.learned._target.kind == "classes",
            )

    def _resolve(self, known=()):
        weight = self.samples.weight / self.learned._weights_seen.mean
        return resolve(
            self.estimator,
            self.samples.X,
            weight.astype(self.learned._dtype),
            self.head,
            _devices.accelerator(),
            known,
            is_chunk=self.is_chunk,
        )

    def _check_architecture(self, *, new_solver):
        """Refuse to go on with weights, or with the state of a solver, that belong to another."""
        had, wanted = self.learned._architecture, self.plan.architecture
        changed = {name for name in wanted if wanted[name] != had.get(name)}
        if changed := sorted(changed - {"solver"} if new_solver else changed):
            had, asked = ({name: a.get(name) for name in changed} for a in (had, wanted))
            raise ValueError(
                f"The fitted model cannot be trained further with other {list(had)}: it has "
                f"{had}, the parameters ask for {asked}. Set them back, or fit a clone "
                "(warm_start=False) from the start. A new solver can go on with the weights by "
                "fit with warm_start=True."
            )

    # -- the net and its rows -----------------------------------------------------------------

    def build(self):
        """Make the net, and rows of the samples on its device."""
        learned = self.learned
        self.make_net()
        seen, dtype, device = learned._weights_seen, learned._dtype, self.net.device
        self.rows = Rows.of(self.samples, seen, dtype, device)
        if self.plan.training.n_out_of_bag:
            self.rows = hide_rows(self.net, self.rows, self.plan, self.samples.groups)
        if self.validation is not None:
            self.validation = Rows.of(self.validation, seen, dtype, device)

    def make_net(self):
        """Make a net at its start: with new weights, or with those of the last one."""
        learned, plan = self.learned, self.plan
        if not self.goes_on:
            learned._scales = self._describe_columns() if plan.standardize else None
        learned.expert_kinds_ = plan.model.expert_kinds
        learned._noise_at_predict = plan.model.router.noise_at_predict
        learned._architecture = plan.architecture
        net = self.net = self._draw_net(self.random_state.randint(_MAX_SEED))
        device, net.precision = place(plan, net.module_, learned._format.input_shape)
        learned.resolved_params_ = plan.resolved | {"device": device}
        if device != "cpu":
            net.to(device)
        if self.goes_on:
            net.take_weights(self.estimator.net_)
        self.n_before = len(net.history)
        self.stopping = self.make_stopping()

    def _describe_columns(self):
        """Return statistics of the columns of a table, or of the channels of images."""
        X, plan = self.samples.X, self.plan
        weight = self.samples.weight / self.learned._weights_seen.mean
        if plan.data.is_image:
            return describe_channels(X, weight)
        scales = describe_columns(X, weight, self.learned._format.coded_columns)
        columns_read = {kind.columns for kind, _ in plan.model.kinds}
        if "piecewise" in columns_read:
            scales = find_knots(X, weight, scales, plan.budget.least_pieces)
        return scales._replace(
            is_linear=plan.is_linear and "linear" not in columns_read,
            adds_linear="linear" in columns_read,
        )

    def _draw_net(self, seed):
        """Return a net with drawn weights, on the CPU."""
        learned, plan = self.learned, self.plan
        model = {name: value for name, value in vars(plan.model).items() if name != "fitted_by"}
        router = plan.model.router
        training = plan.training
        solver = training.solver
        # An optimizer without units would move an expert that has no samples if its weights were a
        # part of a larger tensor.
        unstacked = not (router.router_class.mixes_distributions or solver.units)
        if solver.per_expert:
            unstacked = not solver.units
        module = partial(
            build_mixture,
            learned._format.input_shape,
            statistics=learned._scales,
            unstacked=unstacked,
            dtype=learned._dtype,
            **model,
        )
        target = learned._target
        make_head = choose_head(self.estimator.loss, target.kind, learns_scale=plan.learns_scale)
        recipe = partial(make_head, target.n_targets)
        settings = self._settings()
        net = MoENet(module, recipe, solver=solver, device="cpu", **settings)
        # The head that was asked is trained, unless it belongs to the last net.
        head = None if self.goes_on else self.head
        if head is not None and plan.learns_scale:
            learn_scale(head)
        with use_generator(torch.Generator().manual_seed(seed)):
            net.initialize(head)
        return net

    def _settings(self):
        """Return what may change between two calls of `partial_fit`, in the words of the net."""
        training, transform = self.plan.training, self.estimator.train_transform
        return {
            "lr": training.learning_rate,
            "router_lr": training.router_learning_rate,
            "schedule": training.schedule,
            "expert_loss_weight": training.expert_loss_weight,
            "batch_size": training.largest_batch,
            # skorch would register a transform that is a module as a part of the net.
            "train_transform": None if transform is None else partial(transform),
            **{f"optimizer__{name}": value for name, value in training.solver_options.items()},
        }

    # -- training -----------------------------------------------------------------------------

    def make_stopping(self):
        """Return what ends the training, of a pool that of a kind."""
        training, n_wait = self.plan.training, self.estimator.n_iter_no_change
        is_bagged = self.plan.resolved["early_stopping"] == "out_of_bag"
        if is_bagged and self.plan.is_pool:
            # Or 15 % of the epochs until the best one.
            patience = max(n_wait / 2, 0.03 * training.max_iter)
            return Stopping(training.tol, patience, "oob_loss", share=0.13, least_steps=0)
        if is_bagged and training.n_out_of_bag:
            patience = max(n_wait, training.max_iter // 10)
            return Stopping(training.tol, patience, "oob_loss", share=_PATIENCE)
        score = None
        if training.holds_out:
            is_table = self.plan.data.is_table
            score = "valid_loss" if is_table else f"valid_{self.net.criterion_.score_name}"
        return Stopping(training.tol, n_wait, score)

    def train_chunk(self):
        """Train for an epoch."""
        estimator, learned, known = self.estimator, self.learned, {}
        if self.goes_on:
            known = learned.resolved_params_ | {"device": str(estimator.net_.device)}
        self.plan = plan = self._resolve(known)
        if self.goes_on:
            self._check_architecture(new_solver=False)
            learned.resolved_params_ = plan.resolved
            # That of the estimator stays as it is if the training fails.
            weight = plan.model.balance_weight
            self.net = estimator.net_.with_settings(weight, **self._settings())
            if scales := self._scale_constants():
                learned._scales = scales
                self.net.take_statistics(scales)
        else:
            self.make_net()
            warn_of_constants(self)
        seen, device = learned._weights_seen, self.net.device
        self.rows = Rows.of(self.samples, seen, learned._dtype, device, is_chunk=True)
        # What the net says of rows before it is trained on them.
        said = describe_density(self, self.rows) if self.goes_on else None
        self.train()
        finish_chunk(self, said, vars(estimator) if said else {})

    def _scale_constants(self):
        """Return the statistics with scales of columns that vary for the first time, or None.

        Of estimators, which stay as they are, these columns were no part.
        """
        scales, kinds = self.learned._scales, self.plan.model.kinds
        has_estimators = any(spec.estimator is not None for spec, _ in kinds)
        if has_estimators or not isinstance(scales, FeatureStatistics):
            return None
        constant = np.flatnonzero(np.isinf(scales.scale))
        if not len(constant):
            return None
        # Rows may be a view, of which columns cannot be read.
        X = self.samples.X[:][:, np.array(scales.numeric)[constant]]
        found = describe_columns(X, self.samples.weight / self.learned._weights_seen.mean)
        changed = {}
        for name in ("center", "scale", "missing"):
            values = np.array(getattr(scales, name))
            values[constant] = getattr(found, name)
            changed[name] = tuple(values.tolist())
        return None if np.isinf(found.scale).all() else scales._replace(**changed)

    def make_callbacks(self, stopping=None, kind=None):
        """Return the callbacks of a training, of which those of the estimator come first."""
        if self.progress is not None and kind is not None:
            names = self.learned.expert_kinds_
            place = f"{names[kind]}, {kind + 1} of {len(names)}"
            self.progress.name = f"{type(self.estimator).__name__}, {place}"
        last = self.progress, None if self.is_chunk else stopping
        return [*(self.estimator.callbacks or ()), *filter(None, last)]

    def train(self):
        """Train to the end, or a chunk for one epoch; return the `PoolFit` of a pool."""
        learned, net, plan = self.learned, self.net, self.plan.training
        # The last draws of a fit. Store a seed: a generator takes more space.
        learned._predict_seed = self.random_state.randint(_MAX_SEED)
        learned._next_seed = self.random_state.randint(_MAX_SEED)
        if self.plan.is_pool:
            return train_pool_further(self) if self.is_chunk else fit_pool(self)
        n_before = len(net.history)
        training = Training(
            net,
            self.rows,
            self.validation,
            1 if self.is_chunk else plan.max_iter,
            seed=learned._predict_seed,
            n_epochs_alone=0 if n_before or self.is_chunk else plan.n_epochs_alone,
            is_chunk=self.is_chunk,
            callbacks=self.make_callbacks(self.stopping),
            checkpoint=self.checkpoint,
        )
        try:
            training.run()
        except KeyboardInterrupt:
            # Of the first epoch, and of a chunk, nothing is kept.
            if self.is_chunk or len(net.history) == n_before:
                raise
            self.hurry()
        return None
