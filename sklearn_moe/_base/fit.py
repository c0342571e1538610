"""The fit of both estimators as one story, and `partial_fit`."""

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names

from .. import _devices
from .._compat import CallbackSupportMixin, Interrupts, warn
from .._data import SamplesLike
from .._data.rows import Rows
from .._data.statistics import (
    FirstRows,
    describe_channels,
    describe_columns,
    describe_further,
    find_knots,
)
from .._data.validation import WeightsSeen, check_training_data, hold_out, unit_of
from .._devices import default_torch_modes
from .._parameters.estimator_params import FitCheckpoint
from .._parameters.plan import Plan, resolve
from .._persistence import ModuleBlueprint
from .._training.callbacks import Progress, ScikitLearnCallbacks, Stopping
from .._training.checkpoint import Checkpoint, FitFile, identity_of
from .._training.diagnostics import warn_of
from .._training.loop import Training, undone_if_failed
from .._training.net import MoENet
from .._training.out_of_bag import hide_rows, predict_out_of_bag
from .._training.placement import place
from .._training.pool import KindStopping, begin_last_epochs, learn_router, learns_router
from .._training.process_group import CURRENT_GROUP
from ..nn import build_mixture
from ..nn.encoders import FeatureStatistics
from ..nn.heads import choose_head
from ..nn.seeding import drawing_from
from .fitted import FITTED, FittedMoE

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseMoE"]

_MAX_SEED = 2**31 - 1
_PATIENCE = 0.25  # of the epochs so far: a schedule that falls slowly may improve late


class Fit(NamedTuple):
    """A fit that is ready to be trained: what is trained by what, and what ends it."""

    working: Any  # a copy of the estimator, which takes its place in the end
    net: Any
    rows: Rows
    validation: Rows | None
    plan: Plan
    stopping: Any
    n_before: int  # epochs of earlier fits
    callbacks: Any  # those of scikit-learn
    checkpoint: Any  # what stores the training, if anything does
    samples: Any  # those of `rows`


class BaseMoE(CallbackSupportMixin, FittedMoE):
    """Training of a mixture of experts; see MoEClassifier for its parameters.

    Subclasses have an `__init__`, and tell what y means: by `_check_y`, a function, and
    `_make_target`.
    """

    def __sklearn_tags__(self):
        """Declare 3-D input, and what a table may hold; scikit-learn has no tag for 4-D."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        is_table = self.sample_shape is None
        tags.input_tags.sparse = is_table
        tags.input_tags.allow_nan = is_table and self.standardize is not False
        tags.input_tags.categorical = is_table
        return tags

    # -- fit: check the data, resolve the plan, build the net, train it, adopt the result ---

    @_fit_context(prefer_skip_nested_validation=True)
    @default_torch_modes()
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
            Weights of the samples. A sample of weight 0 is left out. None: all weigh the same. What
            is "auto" depends on the number of samples, not on their weights.

        groups : array-like of shape (n_samples,), default=None
            The group of each sample, labels of any type. Samples of one group are out-of-bag for
            the same experts, or held out together. Use it for repeated measurements, copies, or
            frames of one video, which resemble each other. If `fit` is called by another estimator,
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
        fit = first = self._begin(X, y, sample_weight, groups)
        max_iter, tol = fit.plan.training.max_iter, fit.plan.training.tol
        for start in self._starts(first):
            try:
                interrupted = start.working._train(
                    start.net,
                    start.rows,
                    start.validation,
                    epochs=max_iter,
                    total=max_iter if tol is None else None,
                    callbacks=(start.callbacks, start.stopping),
                    checkpoint=start.checkpoint,
                )
            except KeyboardInterrupt:  # before the end of its first epoch
                if start is first:
                    raise
                interrupted = True
            if start.stopping.best_ > fit.stopping.best_:
                fit = start
            if interrupted:
                break
        interrupted = self._finish(fit) or interrupted
        if interrupted:
            raise KeyboardInterrupt
        if fit.callbacks:
            fit.callbacks.end()
        warn_of(fit, self._target, self.expert_load_)
        return self

    def _begin(self, X, y, sample_weight, groups=None):
        """Return a fit that is ready to be trained; the estimator stays as it is."""
        resume = self.warm_start and self.__sklearn_is_fitted__()
        working = copy.copy(self)
        samples = working._check(X, y, sample_weight, groups, resume=resume)
        training, validation, plan, checkpoint = working._plan(samples, resume)
        if plan.training.n_rehearsing and not resume:
            plan = working._find_n_epochs(training, plan)
        callbacks = None
        if getattr(self, "_skl_callbacks", None):
            callbacks = self._scikit_learn_callbacks(working, X, y, sample_weight, plan)
        net, rows = working._ready(training, plan, resume=resume)
        if validation is not None:
            mean_weight = validation.weight.mean()
            validation = Rows.of(validation, mean_weight, working._dtype, net.device)
        return Fit(
            working=working,
            net=net,
            rows=rows,
            validation=validation,
            plan=plan,
            stopping=working._stopping(net, plan),
            n_before=len(net.history),
            callbacks=callbacks,
            checkpoint=checkpoint,
            samples=training,
        )

    def _ready(self, samples, plan, *, resume=False, rows=None):
        """Return a net at its start, and its rows, unless another one has them already."""
        net = self._warm_net(plan) if resume else self._new_net(samples, plan)
        if rows is None:
            rows = Rows.of(samples, samples.weight.mean(), self._dtype, net.device)
            if n_out_of_bag := plan.training.n_out_of_bag:
                rows = hide_rows(net, rows, n_out_of_bag, samples.groups)
        return net, rows

    def _find_n_epochs(self, samples, plan):
        """Return the plan with as many epochs as a single network should learn.

        A bag of such networks is trained, until the loss of each sample by the network that is not
        trained on it ceases to fall.
        """
        bag = copy.copy(self).set_params(
            n_experts=plan.training.n_rehearsing,
            expert=plan.model.expert,
            router="soft",
            balance=None,
            expert_loss_weight=1.0,
            callbacks=None,
            verbose=0,
        )
        plan_of_bag = bag._resolve(samples)
        net, rows = bag._ready(samples, plan_of_bag)
        stopping = bag._stopping(net, plan_of_bag)
        if bag._train(net, rows, epochs=plan.training.max_iter, callbacks=[stopping]):
            raise KeyboardInterrupt
        best = 1 + int(np.argmin([row["oob_loss"] for row in net.history]))
        found = {"max_iter": best, "tol": None}
        resolved = plan.resolved | {k: v for k, v in found.items() if k in plan.resolved}
        return replace(plan, training=replace(plan.training, **found), resolved=resolved)

    def _starts(self, fit):
        """Yield the fit, and others from new initial weights unless it goes on from old ones."""
        n_others = 0 if fit.n_before else self.n_init - 1
        # Its random state is gone when the training begins.
        before = copy.copy(fit.working) if n_others else None
        yield fit
        for _ in range(n_others):
            working = copy.copy(before)
            net, _ = working._ready(fit.samples, fit.plan, rows=fit.rows)
            stopping = working._stopping(net, fit.plan)
            yield fit._replace(working=working, net=net, stopping=stopping)

    def _check(self, X, y, sample_weight, groups=None, *, resume, is_chunk=False, classes=None):
        """Return checked samples, with y as the net takes it and weights of mean 1.

        `resume` keeps the format of X and the meaning of y; for chunks also the type of the net,
        and weights are counted together with those of the chunks before.
        """
        known = {"known": self._format if resume else None, "classes": classes}
        if resume:
            known["classes"] = getattr(self._target, "classes", None)
        _check_feature_names(self, X, reset=not resume)
        samples, dtype, self._format = check_training_data(
            self, X, y, sample_weight, groups, check_y=self._check_y, **known
        )
        if not (resume and is_chunk):
            self._dtype, self._weights_seen = dtype, WeightsSeen()
            seed = self._next_seed if resume else self.random_state
            self._random_state = check_random_state(seed)
        (X, y, given, _), self._weights_seen = samples, self._weights_seen.updated(samples.weight)
        weight = given / self._weights_seen.mean
        if not resume:
            self._target = self._make_target(y, weight, classes, given if is_chunk else None)
            self._first_rows = None
            if is_chunk and (single := self._format.single_categories()):
                warn(
                    f"Columns {single} hold a single category in the first chunk: all others will "
                    "count as missing. Let the first chunk hold samples of all categories.",
                    UserWarning,
                )
            if is_chunk and X.ndim == 2 and self.standardize is not False:
                self._first_rows = FirstRows.of(np.arange(X.shape[1]), X, given)
            self.n_features_in_ = self._format.n_features
            self.input_shape_ = self._format.input_shape
        else:
            self._target = self._target.updated(y, given)
            if isinstance(self._scales, FeatureStatistics):
                further = describe_further(self._scales, self._first_rows, X, given)
                self._scales, self._first_rows = further
        return samples._replace(y=self._target.encode(y, self._dtype), weight=weight)

    def _plan(self, samples, resume):
        """Return what is trained on, what is held out, the plan, and what stores the training."""
        if self.checkpoint is not None:
            if self.n_init > 1:
                raise ValueError(f"checkpoint needs n_init=1, a single start, got {self.n_init}.")
            before = self._random_state.get_state(legacy=False)
        training, validation, plan = self._hold_out(samples, resume)
        if resume:
            self._check_architecture(plan, new_solver=True)
        if self.checkpoint is None:
            return training, validation, plan, None
        weights = self.net_.module_.state_dict() if resume else None
        callbacks = [*(self.callbacks or ()), *getattr(self, "_skl_callbacks", ())]
        identity = identity_of(self, samples, plan, before, callbacks, weights)
        file = FitFile(FitCheckpoint.of(self.checkpoint), identity, plan.training.max_iter)
        if file.state is not None:  # draw again what was drawn by the fit that goes on
            before = file.state["random_state"]
            if self.random_state is None:
                self._random_state = np.random.RandomState()
            self._random_state.set_state(before)
            training, validation, plan = self._hold_out(samples, resume)
        given = self.random_state if self._random_state is self.random_state else None
        return training, validation, plan, Checkpoint(file, before, given)

    def _hold_out(self, samples, resume):
        """Return what is trained on, what is held out for early stopping, and the plan."""
        # The experts are there already if the training goes on.
        known = self.resolved_params_ if resume else {}
        known = {name: known[name] for name in ("n_experts", "expert") if name in known}
        plan = self._resolve(samples, known)
        if not plan.training.holds_out:
            return samples, None, plan
        seed = self._random_state.randint(_MAX_SEED)
        stratify = self._target.kind == "classes"
        return *hold_out(samples, self.validation_fraction, seed, stratify=stratify), plan

    def _resolve(self, samples, known=(), **options):
        """Resolve what is "auto", but for what is known already."""
        head = self._head_to_ask(self._target.kind, self._target.n_targets)
        weight = samples.weight.astype(self._dtype)
        return resolve(self, samples.X, weight, head, _devices.accelerator(), known, **options)

    def _head_to_ask(self, kind, n_targets):
        """Return a head of the loss that is not trained, but tells what it needs."""
        head = choose_head(self.loss, kind)
        with drawing_from(torch.Generator().manual_seed(0), head):
            return head(n_targets)

    def _head(self, **options):
        """Return how the head of the loss is made."""
        return partial(choose_head(self.loss, self._target.kind, **options), self._target.n_targets)

    def _new_net(self, samples, plan):
        """Return a net with new weights, and scales that are measured anew."""
        X, weight = samples.X, samples.weight
        self._scales = None
        if plan.standardize and plan.data.is_image:
            self._scales = describe_channels(X, weight)
        elif plan.standardize:
            categories = self._format.categories
            scales = describe_columns(X, weight, categories.columns if categories else ())
            columns_read = {kind.columns for kind, _ in plan.model.kinds}
            if "piecewise" in columns_read:
                scales = find_knots(X, weight, scales)
            self._scales = scales._replace(
                is_linear=plan.is_linear and "linear" not in columns_read,
                adds_linear="linear" in columns_read,
            )
        return self._make_net(plan)

    def _warm_net(self, plan):
        """Return a net with new settings and the weights of the last one."""
        net = self._make_net(plan)
        net.module_.load_weights(self.net_.module_)
        net.criterion_.load_state_dict(self.net_.criterion_.state_dict())
        net.history = copy.deepcopy(self.net_.history)
        return net

    def _make_net(self, plan):
        """Return a net with drawn weights."""
        model, router, training = vars(plan.model), plan.model.router, plan.training
        self._noise_at_predict = router.noise_at_predict
        names = [plan.model.kinds[kind][0].name for kind in plan.model.kind_of]
        # Experts with columns of their own are a pool, which has no common tensor for a solver.
        reads_own = any(kind.columns != "bounded" for kind, _ in plan.model.kinds)
        self.expert_kinds_ = np.array(names, dtype=object)
        self._architecture = plan.architecture
        head = self._head(learns_scale=plan.learns_scale)
        seed = self._random_state.randint(_MAX_SEED)
        if isinstance(plan.model.trunk, torch.nn.Module):
            model = model | {"trunk": ModuleBlueprint(plan.model.trunk)}
        module = partial(
            build_mixture,
            self.input_shape_,
            len(names),
            head=head,
            statistics=self._scales,
            unstacked=training.solver.needs_unstacked(router.router_class.mixes_distributions)
            or (training.solver.per_expert and reads_own),
            dtype=self._dtype,
            seed=seed,
            **model,
        )
        net = MoENet(module, head, solver=training.solver, device="cpu", **self._settings(plan))
        with drawing_from(torch.Generator().manual_seed(seed), head, training.solver.optimizer):
            net.initialize()
        device, net.precision = place(plan, net.module_, self.input_shape_)
        chosen = {"device": device} if "device" in plan.resolved else {}
        self.resolved_params_ = plan.resolved | chosen
        return net if device == "cpu" else net.to(device)

    def _settings(self, plan):
        """Return what may change between two calls of `partial_fit`, in the words of the net."""
        training = plan.training
        # skorch would register a transform that is a module as a part of the net.
        transform = None if self.train_transform is None else partial(self.train_transform)
        return {
            "lr": training.learning_rate,
            "router_lr": training.router_learning_rate,
            "schedule": training.schedule,
            "expert_loss_weight": training.expert_loss_weight,
            "batch_size": training.largest_batch,
            "train_transform": transform,
            **{f"optimizer__{name}": value for name, value in training.solver_options.items()},
        }

    def _stopping(self, net, plan):
        """Return what ends the training."""
        training = plan.training
        if training.n_out_of_bag and learns_router(net):
            patience = max(self.n_iter_no_change / 2, training.max_iter / 20)
            return KindStopping(training.tol, patience)
        if training.n_out_of_bag:
            patience = max(self.n_iter_no_change, training.max_iter // 10)
            return Stopping(training.tol, patience, "oob_loss", share=_PATIENCE)
        score = "valid_loss" if plan.data.is_table else f"valid_{net.criterion_.score_name}"
        return Stopping(training.tol, self.n_iter_no_change, score if training.holds_out else None)

    def _train(self, net, rows, validation=None, *, total=None, callbacks=(), **options):
        """Train; return whether Ctrl-C ended it after at least one epoch.

        `total` is what a progress bar says of the number of epochs.
        """
        before = len(net.history)
        progress = None
        if self.verbose and getattr(CURRENT_GROUP.get(), "rank", 0) == 0:
            name = f"{type(self).__name__}, {len(self.expert_kinds_)} experts"
            progress = Progress(total, name, has_rows=self.verbose > 1)
        callbacks = [*(self.callbacks or ()), progress, *callbacks]
        callbacks = [callback for callback in callbacks if callback is not None]
        # The last draws of a fit. Further training draws from a seed: a generator would take more
        # space than a small net.
        seed = self._predict_seed = self._random_state.randint(_MAX_SEED)
        self._next_seed = self.__dict__.pop("_random_state").randint(_MAX_SEED)
        try:
            Training(net, rows, validation, seed=seed, callbacks=callbacks, **options).run()
        except KeyboardInterrupt:
            if len(net.history) == before:
                raise
            return True
        return False

    def _finish(self, fit):
        """Take over what was trained; return whether Ctrl-C ended the last epochs."""
        net, rows, interrupted, oob = fit.net, fit.validation or fit.rows, False, None
        if learns_router(net):
            weight = fit.samples.weight * fit.working._weights_seen.mean  # as they were given
            n_rows = weight.sum() / unit_of(weight)
            unseen = learn_router(net, fit.rows, fit.validation, n_rows)
            oob = unseen if fit.validation is None else None
            interrupted = fit.working._train_last(fit)
        elif rows.in_bag is not None:
            oob = predict_out_of_bag(net, rows)
        # The state of the optimizer is as large as the weights, or twice as large.
        net.initialize_optimizer()
        fit.working._calibrate(net, rows, oob)
        self._adopt(fit.working, fit.net, lambda: fit.working._count_load(fit.net, fit.rows))
        return interrupted

    def _train_last(self, fit):
        """Train the experts of a pool on all rows; return whether Ctrl-C ended it.

        Not after a given number of epochs. These are no part of the history, which says how many
        epochs are best.
        """
        net, max_iter, n_epochs = fit.net, fit.plan.training.max_iter, len(fit.net.history)
        best_epochs = getattr(fit.stopping, "best_epochs_", [])
        if not any(best_epochs) or fit.stopping.tol is None:
            return False
        last, n_last = begin_last_epochs(net, best_epochs, max_iter)
        if not n_last:
            return False
        rows, options = fit.rows._replace(in_bag=None), {"epochs": n_last, "callbacks": [last]}
        try:
            Training(net, rows, seed=self._predict_seed, **options).run()
        except KeyboardInterrupt:
            return True
        finally:
            del net.history[n_epochs:]
        return False

    def _adopt(self, working, net, count_load):
        """Take over all that was fitted, in one step."""
        with Interrupts(hold=True):
            fitted = working._describe(net)
            counts = count_load()
            load = counts / max(counts.sum(), np.finfo(counts.dtype).tiny)
            vars(working).update(fitted, expert_load_=load)
            for name in ("validation_scores_", "oob_loss_curve_"):
                working.__dict__.pop(name, None)
            if oob_losses := [row["oob_loss"] for row in net.history if "oob_loss" in row]:
                working.oob_loss_curve_ = oob_losses
            holds_out = working.resolved_params_.get("early_stopping", self.early_stopping)
            score = f"valid_{net.criterion_.score_name}"
            scores = [row[score] for row in net.history if score in row]
            if scores and holds_out is True:
                working.validation_scores_ = scores
            self.__dict__ = working.__dict__

    def _judge(self, net, rows):
        """Return what `_calibrate` needs to know of rows that the net is not trained on yet."""

    def _calibrate(self, net, rows, oob=None, judged=None):
        """Calibrate the predictions on rows that the net was not trained on, if there are any."""

    def _describe(self, net):
        """Return the fitted attributes: what an estimator needs to predict."""
        return {name: vars(self)[name] for name in FITTED} | {
            "net_": net,
            "n_iter_": len(net.history),
        }

    def _count_load(self, net, rows):
        """Return the weight of the rows that each expert computes, or of its part in them."""
        self.net_ = net
        generator = self._predict_generator()

        def count(x, weight):
            return net.module_.route(x, generator).per_expert(weight)[None]

        return net.map_batches(count, rows.x, rows.weight).sum(axis=0)

    def _scikit_learn_callbacks(self, working, X, y, sample_weight, plan):
        """Tell the callbacks of scikit-learn of the fit that begins."""
        before = set(vars(self))
        context = self._init_callback_context(max_subtasks=plan.training.max_iter * self.n_init)
        # scikit-learn removes these attributes from the estimator when the fit has ended.
        vars(working).update({k: v for k, v in vars(self).items() if k not in before})
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(estimator=self, **data)
        return ScikitLearnCallbacks(self, context, data, working._describe)

    def _check_architecture(self, plan, *, new_solver):
        """Refuse to go on with weights, or with the state of a solver, that belong to another."""
        had, wanted = self._architecture, plan.architecture
        changed = {name for name in wanted if wanted[name] != had.get(name)}
        if changed := sorted(changed - {"solver"} if new_solver else changed):
            had, asked = ({name: a.get(name) for name in changed} for a in (had, wanted))
            raise ValueError(
                f"The fitted model cannot be trained further with other {list(had)}: it has "
                f"{had}, the parameters ask for {asked}. Set them back, or fit a clone "
                "(warm_start=False) from the start. A new solver can go on with the weights by "
                "fit with warm_start=True."
            )

    # -- partial_fit ----------------------------------------------------------------------

    @default_torch_modes()
    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train for one epoch on a chunk.

        The net is trained as it is; its optimizer keeps its state, too.
        """
        if self.early_stopping is True:
            raise ValueError(
                "partial_fit does not support early_stopping=True: which samples to hold out, and "
                "when to stop, is up to the caller. Use early_stopping='auto' or False."
            )
        resume = self.__sklearn_is_fitted__()
        working = copy.copy(self)
        working._random_state = check_random_state(self._next_seed if resume else self.random_state)
        chunk = working._check(X, y, sample_weight, resume=resume, is_chunk=True, classes=classes)
        known = self.resolved_params_ | {"device": str(self.net_.device)} if resume else {}
        plan = working._resolve(chunk, known, is_chunk=True)
        if resume:
            working._check_architecture(plan, new_solver=False)
            working.resolved_params_ = plan.resolved
        net = self.net_ if resume else working._new_net(chunk, plan)
        settings = working._settings(plan) | {"balance_weight": plan.model.balance_weight}
        with undone_if_failed(net, **settings):
            net.standardize_by(working._scales)
            rows = Rows.of(chunk, 1.0, working._dtype, net.device)
            # Before the net is trained on them.
            judged = working._judge(net, rows) if resume else None
            interrupted = working._train(net, rows, epochs=1, total=1, anneal=False, is_chunk=True)
            working._calibrate(net, rows, judged=judged)
        mean_weight = working._weights_seen.mean
        self._adopt(working, net, lambda: working._count_load(net, rows) * mean_weight)
        if interrupted:
            raise KeyboardInterrupt
        return self
