"""What every mixture-of-experts estimator shares: the fit in its steps."""

import copy
from functools import partial
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ._data import Rows, storage_device
from ._engine import MoENet, Progress, ScikitLearnCallbacks, Stopping
from ._fitted import FittedMixture
from ._inputs import check_training_data, hold_out
from ._interrupt import Interrupts
from ._kmeans import find_centers
from ._settings import Settings, resolve_settings
from ._sklearn import CallbackSupportMixin
from ._warnings import warn
from .exceptions import ExpertCollapseWarning
from .nn import (
    CentroidScores,
    ExpertSpec,
    LossSpec,
    OwnGenerator,
    Preset,
    build_mixture,
    choose_head,
)
from .nn.routers import pool
from .optim import SolverSpec

__all__ = ["BaseMoE"]

_COLLAPSED = 0.95  # share of the samples beyond which one expert answers "nearly all"
_MAX_SEED = 2**31 - 1
# What must stay the same for weights to make sense.
_ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "loss"),
    *("router", "top_k", "router_network", "router_noise", "gate", "balance"),
)
_AUTO = StrOptions({"auto"})


class TrainingData(NamedTuple):
    """The checked samples of a fit, and those held out of it."""

    training: tuple  # X, y as codes, weight
    validation: tuple | None
    settings: Settings

    def on(self, device):
        """Return the same as tensors, where a fit on that device keeps its samples."""
        training, validation = (
            arrays and Rows.from_arrays(*arrays, storage_device(arrays[0], device))
            for arrays in (self.training, self.validation)
        )
        return self._replace(training=training, validation=validation)


class BaseMoE(FittedMixture, CallbackSupportMixin, BaseEstimator):
    """Training of a mixture of experts; see MoEClassifier for its parameters.

    Subclasses name the parameters in their `__init__`, check y in `_check_y` and say what it
    means in `_make_target`.
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "expert": [str, callable, ExpertSpec],
        "activation": [str, callable],
        "expert_width": [Interval(Integral, 1, None, closed="left"), None],
        "loss": [str, callable, LossSpec],
        "sample_shape": ["array-like", None],
        "router": [str, callable, Preset],
        "top_k": [_AUTO, Interval(Integral, 1, None, closed="left")],
        "router_network": [str, callable],
        "router_noise": [str, callable, None],
        "gate": [str, callable],
        "balance": [str, callable, None],
        "balance_weight": [Interval(Real, 0, None, closed="left")],
        "solver": [str, callable, SolverSpec],
        "learning_rate": [StrOptions({"auto", "constant", "residual"})],
        "learning_rate_init": [_AUTO, Interval(Real, 0, None, closed="neither")],
        "router_learning_rate_init": [_AUTO, Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [_AUTO, Interval(Integral, 1, None, closed="left"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "warm_start": ["boolean"],
        "train_transform": [callable, None],
        "callbacks": [list, tuple, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bf16"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

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

    def _fit(self, X, y, sample_weight):
        """Train from new weights, or with `warm_start` from those of the last fit."""
        resume = self.warm_start and self.__sklearn_is_fitted__()
        context = self._begin_task(X, y, sample_weight)
        draft = copy.copy(self)  # a fit that fails leaves the estimator as it was
        data = draft._hold_out(*draft._prepare(X, y, sample_weight, resume=resume))
        net = draft._resume(data) if resume else draft._build(data)
        data = data.on(net.device)
        stopping = Stopping(self.tol, self.n_iter_no_change, draft._validation_score(net, data))
        bridge = context and ScikitLearnCallbacks(*context, draft._describe)
        before = len(net.history)
        interrupted = draft._train(net, data, self.max_iter, (bridge, stopping))
        self._remember(draft, net, data)
        if interrupted:
            raise KeyboardInterrupt
        if context:
            bridge.end()
        self._warn(converged=stopping.converged_ or len(net.history) - before < self.max_iter)
        return self

    def _partial_fit(self, X, y, sample_weight, **target):
        """Train the net as it stands for one epoch; its optimizer keeps its state, too."""
        resume = self.__sklearn_is_fitted__()
        draft = copy.copy(self)
        training = draft._prepare(X, y, sample_weight, resume=resume, **target)
        data = TrainingData(training, None, draft._settings(training))
        if resume:
            draft._check_architecture(data.settings)
        net = self.net_ if resume else draft._build(data)
        data = data.on(net.device)
        interrupted = draft._train(net, data, 1)
        self._remember(draft, net, data)
        if interrupted:
            raise KeyboardInterrupt
        return self

    def _prepare(self, X, y, sample_weight, *, resume, **target):
        """Step 1: return checked samples, y as the net takes it, and weights."""
        X, y, weight = check_training_data(self, X, y, sample_weight, reset=not resume)
        if not resume:
            self._random_state = check_random_state(self.random_state)
            self._target = self._make_target(y, weight, **target)
            self.input_shape_ = X.shape[1:]
            self._bytes = X.dtype == np.uint8
        return X, self._target.encode(y, weight.dtype), weight

    def _hold_out(self, X, y, weight):
        """Split off rows for early stopping, if asked for."""
        training, validation = (X, y, weight), None
        if self.early_stopping:
            training, validation = hold_out(
                *training,
                self.validation_fraction,
                self._random_state.randint(_MAX_SEED),
                stratify=self._target.kind == "classes",
            )
        return TrainingData(training, validation, self._settings(training))

    def _settings(self, training):
        """Resolve what is "auto"."""
        X, _, weight = training
        with OwnGenerator(torch.Generator().manual_seed(0)):  # a head of one's own may draw
            head = self._head()()
        return resolve_settings(self, X, weight, head)

    def _head(self):
        """Return how the head of the loss is made."""
        return partial(choose_head(self.loss, self._target.kind), self._target.n_targets)

    def _build(self, data):
        """Step 2: a net with new weights."""
        net = self._make_net(data)
        self._place_centers(net, *data.training)
        return net

    def _make_net(self, data):
        """Return a net with drawn weights."""
        settings = data.settings
        self.resolved_params_ = settings.resolved
        self._architecture = self._architecture_of(settings)
        head, seed = self._head(), self._random_state.randint(_MAX_SEED)
        module = partial(
            build_mixture,
            self.input_shape_,
            self.n_experts,
            head=head,
            expert=settings.expert,
            expert_options=settings.expert_options,
            router=self.router,
            router_options=settings.router_options,
            balance=self.balance,
            balance_weight=self.balance_weight,
            dtype="float64" if data.training[0].dtype == np.float64 else "float32",
            seed=seed,
        )
        # skorch would register a transform that is a module as a part of the net.
        transform = None if self.train_transform is None else partial(self.train_transform)
        net = MoENet(
            module,
            head,
            solver=settings.solver,
            lr=settings.learning_rate,
            router_lr=settings.router_learning_rate,
            pace=settings.pace,
            batch_size=settings.batch_size,
            train_transform=transform,
            device=settings.device,
            precision=settings.precision,
            **{f"optimizer__{name}": value for name, value in settings.solver_options.items()},
        )
        with OwnGenerator(torch.Generator().manual_seed(seed)):
            net.initialize()
        return net

    def _resume(self, data):
        """Step 2 of a warm start: a net with new settings and the weights of the last one."""
        self._check_architecture(data.settings)
        net = self._make_net(data)
        net.module_.load_state_dict(self.net_.module_.state_dict())
        net.criterion_.load_state_dict(self.net_.criterion_.state_dict())
        net.history = copy.deepcopy(self.net_.history)
        return net

    def _train(self, net, data, epochs, callbacks=()):
        """Step 3: train; return whether Ctrl-C ended it after at least one epoch."""
        before = len(net.history)
        progress = Progress(epochs, type(self).__name__) if self.verbose else None
        callbacks = [*(self.callbacks or ()), progress, *callbacks]
        self._predict_seed = self._random_state.randint(_MAX_SEED)
        try:
            net.train(
                data.training,
                data.validation,
                epochs=epochs,
                seed=self._predict_seed,
                callbacks=[callback for callback in callbacks if callback is not None],
            )
        except KeyboardInterrupt:
            if len(net.history) == before:
                raise
            return True
        return False

    def _remember(self, draft, net, data):
        """Step 4: take over, at one stroke, what was fitted."""
        with Interrupts(hold=True):
            fitted = draft._describe(net)
            vars(draft).update(fitted, expert_load_=draft._load(net, data.training))
            draft.__dict__.pop("validation_scores_", None)
            if data.validation is not None:
                score = draft._validation_score(net, data)
                draft.validation_scores_ = list(net.history[:, score])
            self.__dict__ = draft.__dict__

    def _describe(self, net):
        """Return the fitted attributes: what an estimator needs to predict."""
        return {
            "net_": net,
            "_architecture": self._architecture,
            "_target": self._target,
            "input_shape_": self.input_shape_,
            "_bytes": self._bytes,
            "_predict_seed": self._predict_seed,
            "resolved_params_": self.resolved_params_,
            "loss_curve_": list(net.history[:, "train_loss"]),
            "router_gradient_curve_": list(net.history[:, "router_gradient_norm"]),
            "n_iter_": len(net.history),
        }

    def _begin_task(self, X, y, sample_weight):
        """Tell scikit-learn's callbacks, if any are set, of the fit that begins."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        context = self._init_callback_context(max_subtasks=self.max_iter)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(estimator=self, **data)
        return self, context, data

    def _validation_score(self, net, data):
        """Return the name of the score of held-out rows in the history, None without them."""
        return None if data.validation is None else f"valid_{net.criterion_.score_name}"

    def _place_centers(self, net, X, y, weight):
        """Give a router of fixed centers those of the training samples."""
        scores = getattr(net.module_.router, "network", None)
        if isinstance(scores, CentroidScores):
            centers, spread = find_centers(
                net.map_batches(lambda x: pool(x, x.dtype), X),
                weight,
                self.n_experts,
                self._random_state.randint(_MAX_SEED),
            )
            scores.place(torch.from_numpy(centers), spread)

    def _architecture_of(self, settings):
        chosen = {name: getattr(self, name) for name in _ARCHITECTURE}
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

    def _warn(self, *, converged):
        if self.tol is not None and not converged:
            warn(
                f"The training loss was still changing after max_iter={self.max_iter} epochs. "
                "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
                ConvergenceWarning,
            )
        busiest = self.expert_load_.argmax()
        if not self.expert_load_[busiest]:
            warn(
                "No expert answers any training sample: all scores are negative. Lower "
                "router_learning_rate_init, or use another router than 'relu'.",
                ExpertCollapseWarning,
            )
        if self.n_experts > 1 and self.expert_load_[busiest] > _COLLAPSED:
            warn(
                f"Expert {busiest} answers {self.expert_load_[busiest]:.1%} of the training "
                f"samples (load: {np.round(self.expert_load_, 3).tolist()}): the mixture has "
                "collapsed to a single expert. Put a StandardScaler in front if X is not scaled. "
                "Else try balance='switch' or 'bias', a smaller router_learning_rate_init, more "
                "noise (router_noise='gumbel') or fewer experts.",
                ExpertCollapseWarning,
            )

    def _load(self, net, rows):
        """Return the share of each expert in the answers to the rows, by weight."""
        self.net_ = net
        generator = self._predict_generator()
        shares = net.map_batches(lambda x: net.module_.route(x, generator).shares(), rows.x)
        load = rows.weight.cpu().numpy() @ shares
        return load / max(load.sum(), np.finfo(load.dtype).tiny)

    def __sklearn_tags__(self):
        """Declare 3-D input; scikit-learn has no tag for 4-D."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
