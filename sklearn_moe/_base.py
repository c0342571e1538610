"""What both estimators share: the fit as one story, what a fitted model returns, how it is kept."""

import copy
import inspect
from dataclasses import replace
from functools import partial
from itertools import chain
from numbers import Number
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from sklearn.base import _fit_context
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from . import _devices
from ._compat import CallbackSupportMixin, Interrupts, __version__, warn
from ._data import SamplesLike
from ._data.rows import Rows, select
from ._data.statistics import (
    FirstRows,
    describe_channels,
    describe_columns,
    describe_further,
    find_centers,
    rows_to_cluster,
)
from ._data.streams import read_batches
from ._data.validation import (
    WeightsSeen,
    check_samples,
    check_target,
    check_training_data,
    hold_out,
)
from ._devices import as_device, default_torch_modes
from ._parameters.defaults import Plan, resolve
from ._parameters.estimator_params import EstimatorParams, FitCheckpoint
from ._persistence import ModuleBlueprint, StoredModule
from ._training.callbacks import Progress, ScikitLearnCallbacks, Stopping
from ._training.checkpoint import Checkpoint, FitFile, identity_of
from ._training.diagnostics import warn_of
from ._training.linear_start import start_linear
from ._training.loop import Training, undone_if_failed
from ._training.net import MoENet
from ._training.out_of_bag import calibrate, hide_rows, predict_out_of_bag
from ._training.placement import place
from ._training.process_group import CURRENT_GROUP
from ._training.regimes import adopt_regimes
from .nn import MixtureOfExperts, Predictor, build_mixture
from .nn.encoders import CategoryCodes, FeatureStatistics
from .nn.functional import softmax
from .nn.heads import choose_head
from .nn.predictor import require_onnx, write_onnx
from .nn.routers.scores import CentroidScores, sum_patches
from .nn.seeding import use_generator

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseMoE"]

_MAX_SEED = 2**31 - 1
_PATIENCE = 0.25  # of the epochs so far: a schedule that falls slowly may improve late
# What a fitted estimator has beside its net, and cannot predict without.
_FITTED = (
    *("_architecture", "_target", "_format", "_dtype", "_weights_seen", "_predict_seed"),
    *("_scales", "_noise_at_predict", "input_shape_", "resolved_params_"),
)
_VERSION = "_sklearn_moe_version"


class Fit(NamedTuple):
    """A fit that is ready to be trained: what is trained by what, and what ends it."""

    working: Any  # a copy of the estimator, which takes its place in the end
    net: Any
    rows: Rows
    validation: Rows | None
    plan: Plan
    stopping: Any
    n_dense_epochs: int
    n_before: int  # epochs of earlier fits
    callbacks: Any  # those of scikit-learn
    checkpoint: Any  # what stores the training, if anything does
    samples: Any  # those of `rows`


class BaseMoE(CallbackSupportMixin, EstimatorParams):
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
                    n_dense_epochs=start.n_dense_epochs,
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
        self._finish(fit)
        if interrupted:
            raise KeyboardInterrupt
        if fit.callbacks:
            fit.callbacks.end()
        warn_of(fit)
        return self

    def _begin(self, X, y, sample_weight, groups=None):
        """Return a fit that is ready to be trained; the estimator stays as it is."""
        # A warm start continues steps of an optimizer. Regimes are not found by such steps, so that
        # they are always fitted anew.
        resume = self.warm_start and self.__sklearn_is_fitted__() and not self._has_regimes()
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
            n_dense_epochs=0 if resume else plan.training.n_dense_epochs,
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
        if plan.training.starts_linear and not resume:
            start_linear(net, rows)
        return net, rows

    def _find_n_epochs(self, samples, plan):
        """Return the plan with as many epochs as a single network should learn.

        A bag of such networks is trained, until the loss of each sample by the network that is not
        trained on it ceases to fall.
        """
        bag = copy.copy(self).set_params(
            n_experts=plan.training.n_rehearsing,
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
        training, validation, plan = self._hold_out(samples)
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
            training, validation, plan = self._hold_out(samples)
        given = self.random_state if self._random_state is self.random_state else None
        return training, validation, plan, Checkpoint(file, before, given)

    def _hold_out(self, samples):
        """Return what is trained on, what is held out for early stopping, and the plan."""
        plan = self._resolve(samples)
        if not plan.training.holds_out:
            return samples, None, plan
        seed = self._random_state.randint(_MAX_SEED)
        stratify = self._target.kind == "classes"
        return *hold_out(samples, self.validation_fraction, seed, stratify=stratify), plan

    def _resolve(self, samples, known=()):
        """Resolve what is "auto", but for what is known already."""
        with use_generator(torch.Generator().manual_seed(0)):  # a head of one's own may draw
            head = self._head()()
        weight = samples.weight.astype(self._dtype)
        return resolve(self, samples.X, weight, head, _devices.accelerator(), known)

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
            self._scales = scales._replace(is_linear=plan.is_linear)
        net = self._make_net(plan)
        if isinstance(getattr(net.module_.router, "network", None), CentroidScores):
            self._place_centers(net, X, weight)
        return net

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
        self._architecture = plan.architecture
        head = self._head(learns_scale=plan.learns_scale)
        seed = self._random_state.randint(_MAX_SEED)
        if isinstance(plan.model.trunk, torch.nn.Module):
            model = model | {"trunk": ModuleBlueprint(plan.model.trunk)}
        module = partial(
            build_mixture,
            self.input_shape_,
            self.n_experts,
            head=head,
            statistics=self._scales,
            unstacked=training.solver.needs_unstacked(router.router_class.mixes_distributions),
            dtype=self._dtype,
            seed=seed,
            **model,
        )
        net = MoENet(module, head, solver=training.solver, device="cpu", **self._settings(plan))
        with use_generator(torch.Generator().manual_seed(seed)):
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

    def _place_centers(self, net, X, weight):
        """Give a router of fixed centers those of the training samples."""

        def router_input(x):
            return sum_patches(net.module_.encode(x), x.dtype)

        seed = self._random_state.randint(_MAX_SEED)
        n_features = net.map_batches(router_input, X[:1]).shape[1]
        rows = rows_to_cluster(X.shape[0], n_features, seed)
        Z = net.map_batches(router_input, select(X, rows))
        centers, spread = find_centers(Z, weight[rows], self.n_experts, seed)
        net.module_.router.network.place(torch.from_numpy(centers), spread)

    def _stopping(self, net, plan):
        """Return what ends the training."""
        training = plan.training
        if training.n_out_of_bag:
            patience = max(self.n_iter_no_change, training.max_iter // 10)
            return Stopping(training.tol, patience, "oob_loss", share=_PATIENCE)
        score = "valid_loss" if plan.data.is_table else f"valid_{net.criterion_.score_name}"
        return Stopping(training.tol, self.n_iter_no_change, score if training.holds_out else None)

    def _train(
        self, net, rows, validation=None, *, total=None, callbacks=(), streamed=None, **options
    ):
        """Train; return whether Ctrl-C ended it after at least one epoch.

        `total` is what a progress bar says of the number of epochs.
        """
        before = len(net.history)
        progress = None
        if self.verbose and getattr(CURRENT_GROUP.get(), "rank", 0) == 0:
            progress = Progress(total, f"{type(self).__name__}, {self.n_experts} experts")
        callbacks = [*(self.callbacks or ()), progress, *callbacks]
        callbacks = [callback for callback in callbacks if callback is not None]
        # The last draws of a fit. Further training draws from a seed: a generator would take more
        # space than a small net.
        seed = self._predict_seed = self._random_state.randint(_MAX_SEED)
        self._next_seed = self.__dict__.pop("_random_state").randint(_MAX_SEED)
        try:
            Training(net, rows, validation, seed=seed, callbacks=callbacks, **options).run(streamed)
        except KeyboardInterrupt:
            if len(net.history) == before:
                raise
            return True
        return False

    def _finish(self, fit):
        """Take over what was trained."""
        net, rows = fit.net, fit.validation or fit.rows
        # The state of the optimizer is as large as the weights, or twice as large.
        net.initialize_optimizer()
        oob = fit.working._adopt_regimes(fit)
        if oob is None and rows.in_bag is not None:
            calibrate(net, rows)
            oob = predict_out_of_bag(net, rows)
        fit.working._calibrate(net, rows, oob)
        self._adopt(fit.working, fit.net, lambda: fit.working._count_load(fit.net, fit.rows))

    def _adopt_regimes(self, fit):
        """Let linear rules take the place of an ensemble; if so, return out-of-bag predictions.

        Only of a new fit that leaves it to the library what the model is.
        """
        if fit.n_before or "expert_loss_weight" not in fit.plan.resolved:
            return None
        oob = adopt_regimes(fit.net, fit.rows)
        if oob is not None:
            self._scales = self._scales._replace(is_linear=True)
            self.resolved_params_ = self.resolved_params_ | {"expert_loss_weight": 0.0}
        return oob

    def _has_regimes(self):
        """Tell linear rules that took the place of an ensemble."""
        is_linear = getattr(self._scales, "is_linear", False)
        return is_linear and not getattr(self.module_.experts[0], "is_linear", False)

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

    def _judge(self, net, rows, judged):
        """Append what `_calibrate` needs to know of rows that the net is not trained on yet."""

    def _calibrate(self, net, rows, oob=None, judged=()):
        """Calibrate the predictions on rows that the net was not trained on, if there are any."""

    def _describe(self, net):
        """Return the fitted attributes: what an estimator needs to predict."""
        return {name: vars(self)[name] for name in _FITTED} | {
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
        """Train for one epoch on arrays, on batches or on a dataset.

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
        reader = read_batches(X, y, sample_weight, working._random_state)
        first = reader.first(self.net_.batch_size if resume else None)
        first = working._check(*first, resume=resume, is_chunk=True, classes=classes)
        known = self.resolved_params_ | {"device": str(self.net_.device)} if resume else {}
        plan = working._resolve(first, known)
        if resume:
            working._check_architecture(plan, new_solver=False)
            working.resolved_params_ = plan.resolved
        net = self.net_ if resume else working._new_net(first, plan)
        rest = (
            working._check(*batch, resume=True, is_chunk=True)
            for batch in reader.rest(net.batch_size)
        )
        loads, judged = [np.zeros(self.n_experts, np.float32)], []
        slices = working._as_rows(net, chain([first], rest), loads, judged if resume else None)
        settings = working._settings(plan) | {"balance_weight": plan.model.balance_weight}
        with undone_if_failed(net, **settings):
            rows = next(slices)
            slices = chain([rows], slices)
            interrupted = working._train(
                net, rows, epochs=1, total=1, anneal=False, streamed=slices
            )
            working._calibrate(net, rows, judged=judged)
        self._adopt(working, net, lambda: sum(loads))
        if interrupted:
            raise KeyboardInterrupt
        return self

    def _as_rows(self, net, batches, loads, judged):
        """Yield batches as rows; to `loads` add the load of each expert once it was trained.

        They are `judged`, unless that is None, before they are trained on.
        """
        for batch in batches:
            mean_weight = self._weights_seen.mean
            net.standardize_by(self._scales)
            rows = Rows.of(batch, 1.0, self._dtype, net.device)
            if judged is not None:
                self._judge(net, rows, judged)
            yield rows
            loads.append(self._count_load(net, rows) * mean_weight)

    # -- what a fitted model returns ------------------------------------------------------

    def _read(self, X):
        """Return X as the fitted experts take it."""
        if not hasattr(self, "net_"):
            # `check_is_fitted` is slow, because it makes the tags: it is called only to raise.
            check_is_fitted(self)
        _check_feature_names(self, X, reset=False)
        return check_samples(X, type(self).__name__, self._format)

    def _predict_generator(self):
        """Return the source of noise at prediction, None without it."""
        if not self._noise_at_predict:
            return None
        return torch.Generator(self.net_.device).manual_seed(self._predict_seed)

    def _outputs(self, X, method):
        """Return what a method of the head makes of the mixture's outputs."""
        X, generator = self._read(X), self._predict_generator()
        function = getattr(self.net_.criterion_, method)
        module = self.net_.module_
        return self.net_.map_batches(lambda x: function(module(x, generator).output), X)

    def _expert_outputs(self, X, method="predict"):
        """Return what a method of the head makes of every expert, (n_samples, n_experts, ...)."""
        X, function, module = self._read(X), getattr(self.net_.criterion_, method), self.module_

        def map_each(x):
            outputs = module.forward_each(x)
            return function(outputs.flatten(0, 1)).unflatten(0, outputs.shape[:2])

        return self.net_.map_batches(map_each, X)

    def _encode_y(self, X, y):
        """Return y as the net takes it, in float64."""
        y = check_target(X, y, type(self).__name__, self._check_y)
        return self._target.encode(y, np.float64)

    def score_samples(self, X: SamplesLike, y: ArrayLike | None = None) -> np.ndarray:
        """Return the logarithm of the density, or of the probability, of each y given its x.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their numbers, in the units of `fit`, or classes. None: what `predict` returns.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Of several outputs or labels that of all of them together.

        Raises
        ------
        ValueError
            If the loss belongs to no density, or a class was not in `fit`.
        """
        outputs = self._outputs(X, self._density_method())
        return self._log_density(outputs, self._encode_y(X, self.predict(X) if y is None else y))

    def responsibilities(self, X: SamplesLike, y: ArrayLike) -> np.ndarray:
        """Return the probability of each expert once y is known.

        It is in proportion to the router's probability of the expert, `gate_proba`, times the
        density or probability of y by that expert alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their numbers, in the units of `fit`, or classes.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts)
            Rows sum to 1.

        Raises
        ------
        ValueError
            If the loss belongs to no density, or a class was not in `fit`.
        """
        outputs = self._expert_outputs(X, self._density_method())
        log_density = self._log_density(outputs, self._encode_y(X, y)[:, np.newaxis])
        read, net = self._read(X), self.net_
        scores = net.map_batches(lambda x: net.module_.route(x).scores, read).astype(np.float64)
        return special.softmax(special.log_softmax(scores, axis=1) + log_density, axis=1)

    def apply(self, X: SamplesLike) -> np.ndarray:
        """Return the expert that is used for each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        experts : ndarray of shape (n_samples,) or (n_samples, top_k), int
            One column per chosen expert where the router chooses several, best first. Where
            all experts are used, the one of largest gate.
        """
        X, generator, module = self._read(X), self._predict_generator(), self.net_.module_
        chosen = self.net_.map_batches(lambda x: module.route(x, generator).ranking(), X)
        return chosen[:, 0] if chosen.shape[1] == 1 else chosen

    def gate_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the router's distribution over the experts, without noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts)
            Softmax of the scores; rows sum to 1.
        """
        X, net = self._read(X), self.net_
        return net.map_batches(lambda x: softmax(net.module_.route(x).scores).to(net.dtype), X)

    def _router_input(self, X):
        """Return what a linear router without a trunk reads of samples, (n_samples, n_features).

        That is the encoded columns of a table, and the sum of the patches of other samples.
        """
        X, net = self._read(X), self.net_
        encode = net.module_.encoder or torch.nn.Identity()
        return net.map_batches(lambda x: sum_patches(encode(x), net.dtype), X)

    @property
    def coef_(self) -> np.ndarray:
        """Coefficients of linear experts, by the columns `coef_names_`, in the units of X and y."""
        return self._linear_experts()[0]

    @property
    def intercept_(self) -> np.ndarray:
        """Intercepts of linear experts, in the units of y."""
        return self._linear_experts()[1]

    @property
    def coef_names_(self) -> np.ndarray:
        """Names of the columns of `coef_`, a category as "column=category"."""
        self._linear_experts()
        n_columns, scales = self.n_features_in_, self._scales
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(n_columns)])
        if scales is None:
            return np.array(names, dtype=object)
        found = [names[column] for column in scales.numeric]
        found += [f"{found[place]}=missing" for place in scales.with_missing]
        for column, n in zip(scales.categories, scales.n_categories, strict=True):
            labels = self._format.categories.labels()[column]
            found += [f"{names[column]}={labels[code]}" for code in range(n)]
        return np.array(found, dtype=object)

    @torch.no_grad()
    def _linear_experts(self):
        """Return the coefficients and the intercepts of linear experts."""
        module, scales = self.module_, self._scales
        if module.trunk is not None or not getattr(module.experts[0], "is_linear", False):
            raise AttributeError("coef_ needs linear experts on a table, activation='linear'.")
        each = [
            [p.double().cpu().numpy() for p in expert.parameters()] for expert in module.experts
        ]
        coef = np.stack([readout @ weight for weight, _, readout, _ in each])
        intercept = np.stack([readout @ bias + last for _, bias, readout, last in each])
        if scales is not None:
            coef[..., : len(scales.numeric)] /= scales.scale
            intercept -= coef[..., : len(scales.numeric)] @ scales.center
        return self._in_units_of_y(coef, intercept)

    def _in_units_of_y(self, coef, intercept):
        return coef, intercept

    def to(self, device: str | torch.device) -> "Self":
        """Move the fitted model; it predicts, and `partial_fit` trains it, on that device.

        `fit` makes or, with `warm_start`, takes the model to the device of the parameters.

        Parameters
        ----------
        device : str or torch.device
            "cpu", "cuda", "cuda:1" and so on.

        Returns
        -------
        self : estimator instance

        Raises
        ------
        ValueError
            If there is no such device.
        """
        check_is_fitted(self)
        self.net_.to(as_device(device, float64=True))
        return self

    @default_torch_modes()
    def to_torch(self) -> Predictor:
        """Return the fitted model as one module of torch, from X to predictions.

        It is a copy, on the same device, in evaluation mode and differentiable, that needs no
        scikit-learn: to be explained, served, exported by `torch.export` or trained on in torch.

        Returns
        -------
        module : sklearn_moe.nn.Predictor
            Maps a tensor X, (n_samples, ...), to what `predict_proba` returns, or `predict` of a
            regressor, in the type of the weights. X holds what the estimator takes, as floats
            (uint8 images if it was fitted on these). Categories that are numbers stay these;
            for others X holds their place in the list `module.category_names[column]`, which
            `pandas.Index(that_list).get_indexer(values)` finds.

        Raises
        ------
        ValueError
            If the router draws noise at prediction.
        """
        check_is_fitted(self)
        if self._noise_at_predict:
            raise ValueError(
                f"router={self._architecture['router']!r} draws noise at prediction, from a "
                "generator that a module does not have. Fit with a router of "
                "noise_at_predict=False."
            )
        mixture, head = copy.deepcopy((self.module_, self.net_.criterion_))
        found, target, units = self._format, self._target, {}
        if target.kind == "regression":
            units = {"mean": target.mean, "std": target.deviation, "squeeze": target.is_column}
        return Predictor(
            mixture,
            head,
            self.input_shape_,
            flat=found.sample_shape is not None,
            x_dtype=getattr(torch, found.dtype),
            **_category_codes(found),
            **units,
        )

    def to_onnx(self, path: str | PathLike) -> None:
        """Write the fitted model to a file that ONNX runtimes read.

        It computes what the module of `to_torch` does, for any number of samples: input "X",
        output "probabilities", or "predictions" of a regressor. Every expert computes every sample
        there, and the outputs that the router chooses are taken. Where categories are no numbers,
        X holds their places, and the file has the lists of them as metadata, "categories": JSON, by
        column.

        Parameters
        ----------
        path : str or path-like
            Of the file.

        Raises
        ------
        ImportError
            If onnx or onnxscript is missing: `pip install 'sklearn_moe[onnx]'`, or torch is
            older than 2.9.
        ValueError
            If the router draws noise at prediction.
        """
        require_onnx()
        module = self.to_torch().cpu()
        output = "predictions" if self._target.kind == "regression" else "probabilities"
        write_onnx(module, path, output)

    @property
    def loss_curve_(self) -> list[float]:
        """Training loss of every epoch."""
        return list(self.net_.history[:, "train_loss"])

    @property
    def router_gradient_curve_(self) -> list[float]:
        """Norm of the router's gradient in every epoch."""
        return list(self.net_.history[:, "router_gradient_norm"])

    @property
    def module_(self) -> MixtureOfExperts:
        """The trained mixture, a `torch.nn.Module`."""
        check_is_fitted(self)
        return self.net_.module_

    def __sklearn_is_fitted__(self):
        """Tell a fitted estimator by its net."""
        return hasattr(self, "net_")

    # -- how it is kept -------------------------------------------------------------------

    def __getstate__(self):
        """Return the attributes and the version; a network in a form that hashes by its values."""
        state = super().__getstate__() | {_VERSION: __version__}
        if isinstance(self.trunk, torch.nn.Module):
            state = _swap_trunk(state, StoredModule(self.trunk))
        return state

    def __setstate__(self, state):
        """Take the attributes; warn of another version, refuse a state that lacks some."""
        version = state.get(_VERSION, "unknown")
        name = type(self).__name__
        if version != __version__:
            warning = InconsistentVersionWarning(
                estimator_name=f"{name} of sklearn_moe",
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            )
            warn(warning, InconsistentVersionWarning)
        missing = [key for key in _FITTED if "net_" in state and key not in state]
        if missing:
            raise ValueError(
                f"The stored {name} cannot be read: it lacks {missing}. It was stored by "
                f"sklearn_moe {version}, this is {__version__}. Load it with the version that "
                "stored it, or fit it again."
            )
        # A pickle has restored the network by now; `copy.copy` leaves the trunk wrapped.
        if isinstance(state.get("trunk"), StoredModule):
            state = _swap_trunk(state, state["trunk"].module)
        parameters = inspect.signature(type(self)).parameters
        defaults = {key: value.default for key, value in parameters.items()}
        # A parameter that the other version did not have is at its default.
        super().__setstate__(defaults | {k: v for k, v in state.items() if k != _VERSION})


def _swap_trunk(state, trunk):
    """Return the state with another trunk, also where it is part of the architecture."""
    before, architecture = state["trunk"], state.get("_architecture", {})
    state = state | {"trunk": trunk}
    if architecture.get("trunk") is before:
        state["_architecture"] = architecture | {"trunk": trunk}
    return state


def _category_codes(found):
    """Return what a `Predictor` knows of the categories of a table."""
    known = found.categories
    if known is None:
        return {}
    places, names = [], {}
    for column, values in zip(known.columns, known.values, strict=True):
        if all(isinstance(value, Number) for value in values):  # X holds them as they are
            places.append(values)
        else:
            places.append(range(len(values)))
            names[column] = values
    codes = CategoryCodes(known.columns, places, known.codes, getattr(torch, found.dtype))
    return {"categories": codes, "category_names": names}
