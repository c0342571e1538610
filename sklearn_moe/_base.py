"""What every mixture-of-experts estimator shares: parameters, the fit, the routes."""

import copy
import warnings
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, _clone_parametrized
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._data import Rows, home_of
from ._engine import SOLVERS, MoENet, Progress, Stopping
from ._inputs import check_samples, hold_out
from ._kmeans import find_centers
from ._settings import resolve_settings
from .exceptions import ExpertCollapseWarning
from .nn import HEADS, CentroidScores, Preset, build_mixture, softmax
from .nn.routers import pool

__all__ = ["BaseMoE"]

_COLLAPSED = 0.95  # share of the samples beyond which one expert answers "nearly all"
_MAX_SEED = 2**31 - 1


class BaseMoE(BaseEstimator):
    """Parameters and training of a mixture of experts; see MoEClassifier for their meaning."""

    _parameter_constraints: ClassVar[dict] = {
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "expert": [str, callable],
        "activation": [str, callable],
        "expert_width": [Interval(Integral, 1, None, closed="left"), None],
        "n_patches": [Interval(Integral, 1, None, closed="left"), None],
        "router": [str, callable, Preset],
        "top_k": [Interval(Integral, 1, None, closed="left")],
        "router_network": [str, callable],
        "router_noise": [str, callable, None],
        "noise_at_predict": ["boolean"],
        "gate": [str, callable],
        "head": [StrOptions(set(HEADS))],
        "balance": [str, callable, None],
        "balance_weight": [Interval(Real, 0, None, closed="left")],
        "dense_gradient": ["boolean"],
        "router_max_iter": [Interval(Integral, 0, None, closed="left"), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "gradient_norm": [StrOptions({"l2", "sum"})],
        "learning_rate": [StrOptions({"auto", "constant", "residual"})],
        "learning_rate_init": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "router_learning_rate_init": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
        "init_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "warm_start": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "train_transform": [callable, None],
        "callbacks": [list, tuple, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bf16"})],
        "compile": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_experts=8,
        *,
        expert="auto",
        activation="auto",
        expert_width=None,
        n_patches=None,
        router="top1",
        top_k=1,
        router_network="auto",
        router_noise="auto",
        noise_at_predict=False,
        gate="auto",
        head="logits",
        balance=None,
        balance_weight=0.01,
        dense_gradient=False,
        router_max_iter=None,
        solver="auto",
        gradient_norm="l2",
        learning_rate="auto",
        learning_rate_init="auto",
        router_learning_rate_init="auto",
        init_scale="auto",
        momentum=0.0,
        weight_decay=0.0,
        max_iter=1000,
        batch_size="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        class_weight=None,
        train_transform=None,
        callbacks=None,
        device="auto",
        precision="auto",
        compile=False,
        verbose=0,
        random_state=None,
    ):
        self.n_experts = n_experts
        self.expert = expert
        self.activation = activation
        self.expert_width = expert_width
        self.n_patches = n_patches
        self.router = router
        self.top_k = top_k
        self.router_network = router_network
        self.router_noise = router_noise
        self.noise_at_predict = noise_at_predict
        self.gate = gate
        self.head = head
        self.balance = balance
        self.balance_weight = balance_weight
        self.dense_gradient = dense_gradient
        self.router_max_iter = router_max_iter
        self.solver = solver
        self.gradient_norm = gradient_norm
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.router_learning_rate_init = router_learning_rate_init
        self.init_scale = init_scale
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.class_weight = class_weight
        self.train_transform = train_transform
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.compile = compile
        self.verbose = verbose
        self.random_state = random_state

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
        twin = _clone_parametrized(shell)
        twin.train_transform = copy.deepcopy(self.train_transform)
        return twin

    # -- training -------------------------------------------------------------------------

    def _fit(self, X, y, weight, *, n_classes, go_on, epochs, stop):
        """Train on checked samples: from new weights, or from those of `net_` with `go_on`."""
        if not go_on:
            self._random_state = check_random_state(self.random_state)
        training, validation = (X, y, weight), None
        if self.early_stopping and stop:
            seed = self._random_state.randint(_MAX_SEED)
            training, validation = hold_out(X, y, weight, self.validation_fraction, seed)
        settings = resolve_settings(self, training[0], training[2])
        architecture = settings.architecture | {
            name: getattr(self, name) for name in ("n_experts", "head", "router", "balance")
        }
        if go_on:
            self._check_architecture(architecture)
        if go_on and not stop:  # partial_fit: the optimizer keeps its state, too
            net = self.net_
        else:
            net = self._build_net(settings, X.shape[1:], n_classes, X.dtype).initialize()
            if go_on:
                net.module_.load_state_dict(self.net_.module_.state_dict())
                net.history = copy.deepcopy(self.net_.history)
        rows = Rows.from_arrays(*training, home_of(training[0], net.device))
        if not go_on:
            self._place_centers(net, rows)
        if validation is not None:
            validation = Rows.from_arrays(*validation, home_of(validation[0], net.device))
        stopping = Stopping(self.tol if stop else None, self.n_iter_no_change, validation)
        callbacks = [*(self.callbacks or ()), stopping]
        if self.verbose:
            callbacks.insert(-1, Progress(epochs))
        before = len(net.history)
        seed = self._random_state.randint(_MAX_SEED)
        net.train(rows, epochs=epochs, seed=seed, callbacks=callbacks)

        self.net_ = net
        self._architecture = architecture
        self._predict_seed = seed
        self.input_shape_ = X.shape[1:]
        self._bytes = X.dtype == np.uint8
        self.loss_curve_ = list(net.history[:, "train_loss"])
        self.router_gradient_curve_ = list(net.history[:, "router_gradient_norm"])
        self.n_iter_ = len(self.loss_curve_)
        if validation is not None:
            self.validation_scores_ = stopping.scores_
        self.expert_load_ = self._load(rows)
        if stop:
            self._warn(converged=stopping.converged_ or self.n_iter_ - before < epochs)
        return self

    def _build_net(self, settings, input_shape, n_classes, dtype):
        head = HEADS[self.head]
        module = partial(
            build_mixture,
            input_shape,
            head.n_outputs(n_classes),
            self.n_experts,
            expert=settings.expert,
            expert_options=settings.expert_options,
            router=self.router,
            router_options=settings.router_options,
            balance=self.balance,
            dtype=torch.float64 if dtype == np.float64 else torch.float32,
            seed=self._random_state.randint(_MAX_SEED),
        )
        options = {"optimizer__weight_decay": self.weight_decay}
        if settings.solver != "adam":
            options["optimizer__momentum"] = self.momentum
        if settings.solver == "normalized_sgd":
            options["optimizer__norm"] = self.gradient_norm
        elif settings.pace == "residual":
            raise ValueError(
                f"learning_rate='residual' is made for solver='normalized_sgd', got solver="
                f"{settings.solver!r}. Use learning_rate='constant'."
            )
        return MoENet(
            module,
            head,
            optimizer=SOLVERS[settings.solver],
            lr=settings.learning_rate,
            router_lr=settings.router_learning_rate,
            pace=settings.pace,
            router_max_iter=self.router_max_iter,
            batch_size=settings.batch_size,
            # skorch would take a transform that is a module for a part of the net.
            train_transform=None if self.train_transform is None else partial(self.train_transform),
            n_classes=n_classes,
            device=settings.device,
            precision=settings.precision,
            compile_experts=self.compile,
            **options,
        )

    def _place_centers(self, net, rows):
        """Give a router of fixed centers those of the training samples."""
        scores = getattr(net.module_.router, "network", None)
        if isinstance(scores, CentroidScores):
            centers, spread = find_centers(
                net.map_batches(lambda x: pool(x, x.dtype), rows.x),
                rows.weight.cpu().numpy(),
                self.n_experts,
                self._random_state.randint(_MAX_SEED),
            )
            scores.place(torch.from_numpy(centers), spread)

    def _check_architecture(self, architecture):
        """Refuse to go on with weights that belong to another model."""
        changed = {k for k, v in architecture.items() if v != self._architecture.get(k)}
        if changed:
            raise ValueError(
                f"The fitted model cannot be trained further with other {sorted(changed)}: it has "
                f"{self._architecture}, the parameters ask for {architecture}. Set them back, or "
                "fit a clone (warm_start=False) from the start."
            )

    def _warn(self, *, converged):
        if self.tol is not None and not converged:
            warnings.warn(
                f"The training loss was still changing after max_iter={self.max_iter} epochs. "
                "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
                ConvergenceWarning,
                stacklevel=4,
            )
        busiest = self.expert_load_.argmax()
        if not self.expert_load_[busiest]:
            warnings.warn(
                "No expert answers any training sample: all scores are negative. Lower "
                "router_learning_rate_init, or use another router than 'relu'.",
                ExpertCollapseWarning,
                stacklevel=4,
            )
        if self.n_experts > 1 and self.expert_load_[busiest] > _COLLAPSED:
            warnings.warn(
                f"Expert {busiest} answers {self.expert_load_[busiest]:.1%} of the training "
                f"samples (load: {np.round(self.expert_load_, 3).tolist()}): the mixture has "
                "collapsed to a single expert. Try balance='switch' or 'bias', a smaller "
                "router_learning_rate_init, more noise (router_noise='gumbel') or fewer experts.",
                ExpertCollapseWarning,
                stacklevel=4,
            )

    # -- routes ---------------------------------------------------------------------------

    def _predict_generator(self):
        """Return the source of noise at prediction, None without it."""
        if not self.noise_at_predict:
            return None
        return torch.Generator(self.net_.device).manual_seed(self._predict_seed)

    def _route(self, X):
        """Return the experts of each sample, (n_samples, k)."""
        generator = self._predict_generator()
        return self.net_.map_batches(lambda x: self.module_.route(x, generator).ranking(), X)

    def _load(self, rows):
        """Return the share of each expert in the answers to the rows, by weight."""
        generator = self._predict_generator()
        shares = self.net_.map_batches(lambda x: self.module_.route(x, generator).shares(), rows.x)
        load = rows.weight.cpu().numpy() @ shares
        return load / max(load.sum(), np.finfo(load.dtype).tiny)

    def apply(self, X):
        """Return the expert that answers each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        experts : ndarray of shape (n_samples,) or (n_samples, top_k), int
            One column per answering expert where the router chooses several, best first. Where
            all experts answer, the one of largest gate.
        """
        check_is_fitted(self)
        chosen = self._route(check_samples(self, X))
        return chosen[:, 0] if chosen.shape[1] == 1 else chosen

    def gate_proba(self, X):
        """Return the router's distribution over the experts, without noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts)
            Softmax of the scores; rows sum to 1.
        """
        check_is_fitted(self)
        return self.net_.map_batches(
            lambda x: softmax(self.module_.route(x).scores).to(x.dtype), check_samples(self, X)
        )

    @property
    def module_(self):
        """The trained mixture, a `torch.nn.Module`."""
        check_is_fitted(self)
        return self.net_.module_

    def __sklearn_is_fitted__(self):
        """Tell a fitted estimator by its net."""
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        """Say that X may have three axes; there is no tag for four."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
