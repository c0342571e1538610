"""What every mixture-of-experts estimator shares: the fit in its steps."""

import copy
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from ._compat import CallbackSupportMixin, Interrupts
from ._data.out_of_bag import hide_rows
from ._data.rows import select
from ._data.statistics import describe_channels, describe_columns, find_centers, rows_to_cluster
from ._data.validation import WeightsSeen, check_training_data, hold_out
from ._defaults import resolve_settings
from ._devices import usual_modes
from ._fitted import FittedMixture
from ._incremental import IncrementalTraining
from ._parameters import ARCHITECTURE, CONSTRAINTS
from ._persistence import FITTED, ModuleBlueprint, Persistent
from ._storing import begin
from ._task import Task, TrainingData, warn_of
from ._training import CURRENT, MoENet, Progress, ScikitLearnCallbacks, Stopping, place
from .nn import (
    CentroidScores,
    OwnGenerator,
    build_mixture,
    choose_head,
    preset_of,
)
from .nn.routers import pool

__all__ = ["BaseMoE"]

_MAX_SEED = 2**31 - 1
_PATIENCE = 0.5  # of the epochs so far: a schedule that falls slowly may improve late


class BaseMoE(IncrementalTraining, Persistent, FittedMixture, CallbackSupportMixin, BaseEstimator):
    """Training of a mixture of experts; see MoEClassifier for its parameters.

    Subclasses name the parameters in their `__init__`, check y in `_check_y` and say what it
    means in `_make_target`.
    """

    _parameter_constraints: ClassVar[dict] = CONSTRAINTS

    def get_params(self, deep=True):
        """Get the parameters of this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Not used: no parameter is an estimator.

        Returns
        -------
        params : dict
            Names and values.
        """
        # Transforms of torchvision have a `get_params`, too, which draws random numbers.
        return super().get_params(deep=False)

    def __sklearn_clone__(self):
        """Copy a transform by value, where scikit-learn would take it for an estimator."""
        shell = copy.copy(self)
        shell.train_transform = None
        twin = BaseEstimator.__sklearn_clone__(shell)
        twin.train_transform = copy.deepcopy(self.train_transform)
        return twin

    # -- training -------------------------------------------------------------------------

    @usual_modes()
    def _fit(self, X, y, sample_weight, groups):
        """Train from new weights, or with `warm_start` from those of the last fit."""
        task = self._start(X, y, sample_weight, groups)
        draft, net, data = task.draft, task.net, task.data
        bridge = task.context and ScikitLearnCallbacks(*task.context, draft._describe)
        options = {"n_united": task.n_united, "resuming": task.resuming}
        callbacks = bridge, task.stopping
        interrupted = draft._train(net, data, data.settings.max_iter, callbacks, **options)
        self._finish(task)
        if interrupted:
            raise KeyboardInterrupt
        if bridge:
            bridge.end()
        warn_of(task, self)
        return self

    def _start(self, X, y, sample_weight, groups=None):
        """Return a fit that is ready to be trained."""
        resume = self.warm_start and self.__sklearn_is_fitted__()
        draft = copy.copy(self)  # a fit that fails leaves the estimator as it was
        samples = draft._prepare(X, y, sample_weight, groups, resume=resume)
        data, resuming = begin(draft, samples, resume)
        context = self._begin_task(draft, X, y, sample_weight, data.settings.max_iter)
        net = draft._resume(data) if resume else draft._build(data)
        groups, data = data.training.groups, data.on(net.device)
        if n_hidden := data.settings.n_hidden:
            data = data._replace(training=hide_rows(net, data.training, n_hidden, groups))
        stopping = draft._stopping(net, data)
        n_united = 0 if resume else data.settings.n_united
        return Task(draft, net, data, stopping, n_united, len(net.history), context, resuming)

    def _finish(self, task):
        """Take over what was trained."""
        # The state of the optimizer is as large as the weights, or twice as large.
        task.net.initialize_optimizer()
        draft, net, rows = task.draft, task.net, task.data.training
        self._remember(draft, net, lambda: draft._count_answers(net, rows))

    def _prepare(self, X, y, sample_weight, groups=None, *, resume, goes_on=False, **target):
        """Step 1: return checked samples, with y as the net takes it and weights of mean 1.

        `resume` keeps the format of X and the meaning of y; `goes_on` also the type of the net, and
        counts the weights together with those of the trainings before.
        """
        known = self._format if resume else None
        samples, dtype, self._format = check_training_data(
            self, X, y, sample_weight, groups, known=known
        )
        if not goes_on:
            self._dtype, self._weights_seen = dtype, WeightsSeen()
            seed = self._next_seed if resume else self.random_state
            self._random_state = check_random_state(seed)
        self._weights_seen = self._weights_seen.more(samples.weight)
        samples = samples._replace(weight=samples.weight / self._weights_seen.mean)
        if not resume:
            self._target = self._make_target(samples.y, samples.weight, **target)
            self.input_shape_ = samples.X.shape[1:]
        codes = self._target.encode(samples.y, self._dtype)
        self._target = self._target.seeing(samples.y)
        return samples._replace(y=codes)

    def _hold_out(self, samples):
        """Split off rows for early stopping, if asked for."""
        training, validation = samples, None
        if self.early_stopping is True:
            training, validation = hold_out(
                samples,
                self.validation_fraction,
                self._random_state.randint(_MAX_SEED),
                stratify=self._target.kind == "classes",
            )
        return TrainingData(training, validation, self._settings(training), self._dtype)

    def _settings(self, training):
        """Resolve what is "auto"."""
        with OwnGenerator(torch.Generator().manual_seed(0)):  # a head of one's own may draw
            head = self._head()()
        return resolve_settings(self, training.X, training.weight.astype(self._dtype), head)

    def _head(self):
        """Return how the head of the loss is made."""
        return partial(choose_head(self.loss, self._target.kind), self._target.n_targets)

    def _build(self, data):
        """Step 2: a net with new weights, and scales that are measured anew."""
        X, weight = data.training.X, data.training.weight
        self._scales = None
        if data.settings.standardize and X.ndim == 4:
            self._scales = describe_channels(X, weight)
        elif data.settings.standardize:
            categories = self._format.categories
            self._scales = describe_columns(X, weight, categories.columns if categories else ())
        net = self._make_net(data)
        self._place_centers(net, X, weight)
        return net

    def _make_net(self, data):
        """Return a net with drawn weights."""
        settings = data.settings
        self.resolved_params_ = settings.resolved
        self._noise_at_predict = preset_of(settings.router).noise_at_predict
        self._architecture = self._architecture_of(settings)
        head, seed = self._head(), self._random_state.randint(_MAX_SEED)
        trunk = settings.trunk
        if isinstance(trunk, torch.nn.Module):
            trunk = ModuleBlueprint(trunk)
        module = partial(
            build_mixture,
            self.input_shape_,
            self.n_experts,
            head=head,
            expert=settings.expert,
            expert_options=settings.expert_options,
            router=settings.router,
            router_options=settings.router_options,
            balance=self.balance,
            balance_weight=self.balance_weight,
            scales=self._scales,
            trunk=trunk,
            n_shared_experts=self.n_shared_experts,
            separate=settings.solver.separates(preset_of(settings.router).rule.mixes),
            dtype=data.dtype,
            seed=seed,
        )
        device, precision = place(self, settings, module, data.dtype)
        # skorch would register a transform that is a module as a part of the net.
        transform = None if self.train_transform is None else partial(self.train_transform)
        net = MoENet(
            module,
            head,
            solver=settings.solver,
            lr=settings.learning_rate,
            router_lr=settings.router_learning_rate,
            pace=settings.pace,
            expert_loss_weight=settings.expert_loss_weight,
            batch_size=settings.largest_batch,
            train_transform=transform,
            device=device,
            precision=precision,
            **{f"optimizer__{name}": value for name, value in settings.solver_options.items()},
        )
        with OwnGenerator(torch.Generator().manual_seed(seed)):
            net.initialize()
        return net

    def _resume(self, data):
        """Step 2 of a warm start: a net with new settings and the weights of the last one."""
        self._check_architecture(data.settings)
        net = self._make_net(data)
        net.module_.load_weights(self.net_.module_)
        net.criterion_.load_state_dict(self.net_.criterion_.state_dict())
        net.history = copy.deepcopy(self.net_.history)
        return net

    def _stopping(self, net, data):
        """Return what ends the training."""
        tol, max_iter = data.settings.tol, data.settings.max_iter
        if data.settings.n_hidden:
            patience = max(self.n_iter_no_change, max_iter // 10)
            return Stopping(tol, patience, "oob_loss", share=_PATIENCE)
        return Stopping(tol, self.n_iter_no_change, self._validation_score(net))

    def _train(self, net, data, epochs, callbacks=(), **options):
        """Step 3: train; return whether Ctrl-C ended it after at least one epoch."""
        before = len(net.history)
        progress = None
        if self.verbose and CURRENT.get().rank == 0:
            name = f"{type(self).__name__}, {self.n_experts} experts"
            progress = Progress(epochs if data.settings.tol is None else None, name)
        callbacks = [*(self.callbacks or ()), progress, *callbacks]
        try:
            net.train(
                data.training,
                data.validation,
                epochs=epochs,
                seed=self._draw_seed(),
                **options,
                callbacks=[callback for callback in callbacks if callback is not None],
            )
        except KeyboardInterrupt:
            if len(net.history) == before:
                raise
            return True
        return False

    def _draw_seed(self):
        """Return the seed of a training, with the last draws of a fit."""
        self._predict_seed = self._random_state.randint(_MAX_SEED)
        # What further training draws from; a generator would take more space than a small net.
        self._next_seed = self.__dict__.pop("_random_state").randint(_MAX_SEED)
        return self._predict_seed

    def _remember(self, draft, net, count_answers):
        """Step 4: take over, at one stroke, what was fitted."""
        with Interrupts(hold=True):
            fitted = draft._describe(net)
            answers = count_answers()
            load = answers / max(answers.sum(), np.finfo(answers.dtype).tiny)
            vars(draft).update(fitted, expert_load_=load)
            for name in ("validation_scores_", "oob_loss_curve_"):
                draft.__dict__.pop(name, None)
            if oob_losses := [row["oob_loss"] for row in net.history if "oob_loss" in row]:
                draft.oob_loss_curve_ = oob_losses
            if score := draft._validation_score(net):
                scores = [row[score] for row in net.history if score in row]
                draft.validation_scores_ = scores
            self.__dict__ = draft.__dict__

    def _describe(self, net):
        """Return the fitted attributes: what an estimator needs to predict."""
        return {name: vars(self)[name] for name in FITTED} | {
            "net_": net,
            "n_iter_": len(net.history),
        }

    def _begin_task(self, draft, X, y, sample_weight, max_iter):
        """Tell scikit-learn's callbacks, if any are set, of the fit that begins."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        before = set(vars(self))
        context = self._init_callback_context(max_subtasks=max_iter)
        # What scikit-learn will look for when the fit has ended.
        vars(draft).update({k: v for k, v in vars(self).items() if k not in before})
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(estimator=self, **data)
        return self, context, data

    def _validation_score(self, net):
        """Return the name of the score of held-out rows in the history, None without them."""
        return f"valid_{net.criterion_.score_name}" if self.early_stopping is True else None

    def _place_centers(self, net, X, weight):
        """Give a router of fixed centers those of the training samples."""
        scores = getattr(net.module_.router, "network", None)
        if isinstance(scores, CentroidScores):

            def look(x):
                return pool(net.module_.encode(x), x.dtype)

            seed = self._random_state.randint(_MAX_SEED)
            n_features = net.map_batches(look, X[:1]).shape[1]
            rows = rows_to_cluster(X.shape[0], n_features, seed)
            Z = net.map_batches(look, select(X, rows))
            centers, spread = find_centers(Z, weight[rows], self.n_experts, seed)
            scores.place(torch.from_numpy(centers), spread)

    def _architecture_of(self, settings):
        chosen = {name: getattr(self, name) for name in ARCHITECTURE}
        return chosen | {k: v for k, v in settings.resolved.items() if k in chosen}

    def _check_architecture(self, settings):
        """Refuse to go on with weights that belong to another model."""
        wanted = self._architecture_of(settings)
        changed = sorted(k for k, v in wanted.items() if v != self._architecture.get(k))
        if changed:
            had, asked = ({k: a.get(k) for k in changed} for a in (self._architecture, wanted))
            raise ValueError(
                f"The fitted model cannot be trained further with other {changed}: it has "
                f"{had}, the parameters ask for {asked}. Set them back, or fit a clone "
                "(warm_start=False) from the start."
            )

    def _count_answers(self, net, rows):
        """Return the weight of the rows that each expert answers, or of its part in answers."""
        self.net_ = net
        generator, start = self._predict_generator(), 0

        def count(x):
            nonlocal start
            weight = rows.weight[start : start + len(x)].to(x.device)
            start += len(x)
            return net.module_.route(x, generator).per_expert(weight)[None]

        return net.map_batches(count, rows.x).sum(axis=0)

    def __sklearn_tags__(self):
        """Declare 3-D input, and what a table may hold; scikit-learn has no tag for 4-D."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        is_table = self.sample_shape is None
        tags.input_tags.sparse = is_table
        tags.input_tags.allow_nan = is_table and self.standardize is not False
        tags.input_tags.categorical = is_table
        return tags
