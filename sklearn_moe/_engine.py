"""The skorch net that trains a mixture: its loop, its step, its stopping rule."""

import copy
import math
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from tqdm.auto import tqdm

from ._compile import compile_modules
from ._data import Batches, as_tensor
from .nn import OwnGenerator, expert_means, may_draw, weighted_mean
from .optim import NormalizedSGD

__all__ = [
    "SOLVERS",
    "Callback",
    "LRScheduler",
    "MoENet",
    "Progress",
    "StopTraining",
    "Stopping",
]

SOLVERS = {
    "normalized_sgd": NormalizedSGD,
    "sgd": torch.optim.SGD,
    "adam": partial(torch.optim.Adam, fused=True),
}
_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
_MIN_WAIT = 50  # steps: with one step per epoch, ten epochs say little about a noisy loss
# Features in one batch of predict, whatever the shape of X: what fits the caches of a CPU; a GPU
# wants enough to be busy.
_PREDICT_ELEMENTS = {False: 2**22, True: 2**28}  # by whether it is a GPU
_PICTURE_GROWTH = 16  # an expert for pictures holds many channels of them at a time


class StopTraining(Exception):
    """Raised by a callback at the end of an epoch: training is over, as intended."""


class MoENet(NeuralNet):
    """skorch net over a `MixtureOfExperts`, with tensors sliced in place of a DataLoader.

    Parameters
    ----------
    module, criterion, **kwargs
        As in skorch; `module` builds the mixture, `criterion` is a head of `nn.HEADS`.
    router_lr : float
        Learning rate of the router.
    pace : {"constant", "residual"}
        `"residual"` multiplies an expert's step by the mean probability of error over its own
        samples of the batch, in units of that of a blind guess, 1 at most.
    router_max_iter : int or None
        Epochs after which the router stays as it is.
    train_transform : callable or None
        Applied to the samples of each training batch.
    n_classes : int
    precision : {"float32", "bf16"}
        Of training: `"bf16"` computes the experts in mixed precision. Routes, losses and
        everything at prediction stay in the precision of the weights.
    compile_experts : bool
        Whether to run the experts through `torch.compile`.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        router_lr,
        pace,
        router_max_iter,
        train_transform,
        n_classes,
        precision="float32",
        compile_experts=False,
        **kwargs,
    ):
        super().__init__(module, criterion, train_split=None, verbose=0, **kwargs)
        self.router_lr = router_lr
        self.pace = pace
        self.router_max_iter = router_max_iter
        self.train_transform = train_transform
        self.n_classes = n_classes
        self.precision = precision
        self.compile_experts = compile_experts

    # -- set-up ---------------------------------------------------------------------------

    def initialize_optimizer(self, triggered_directly=None):
        """Give the router its own learning rate and, under NormalizedSGD, each expert a group."""
        _, options = self.get_params_for_optimizer("optimizer", [])
        experts = [list(expert.parameters()) for expert in self.module_.experts]
        if self.optimizer is NormalizedSGD:
            groups = [{"params": parameters} for parameters in experts if parameters]
        else:
            options.pop("norm", None)
            groups = [{"params": [p for parameters in experts for p in parameters]}]
        if router := self._router_parameters():
            own = {"norm": None} if self.optimizer is NormalizedSGD else {}
            groups.append({"params": router, "lr": self.router_lr, **own})
        self.optimizer_ = self.optimizer(groups, **options)
        return self

    def _router_parameters(self):
        return [] if self.module_.router is None else list(self.module_.router.parameters())

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the rows as they are; validation is the business of `Stopping`."""
        return X, None

    def get_iterator(self, dataset, training=False):
        """Return the batches of an epoch."""
        device = torch.device(self.device)
        order = self.generator_ if dataset.y.device.type == device.type else self.draws_[-1]
        return Batches(dataset, self.batch_size, order, device)

    # -- training -------------------------------------------------------------------------

    def train(self, rows, *, epochs, seed, callbacks):
        """Train for at most `epochs`; shuffling, noise and transforms draw from `seed`."""
        self.generator_ = torch.Generator(self.device).manual_seed(seed)
        self.draws_ = [self.generator_]
        if self.generator_.device.type != "cpu":  # transforms of torchvision draw on the CPU
            self.draws_.append(torch.Generator().manual_seed(seed))
        self.draws_inside_ = may_draw(self.module_)
        if self.compile_experts:
            with self._autocast():
                compile_modules(self.module_.experts, self._as_input(rows.x[:2].to(self.device)))
        self.callbacks = callbacks
        self._initialize_callbacks()
        # Hooks in every step cost as much as a small expert: call them where somebody listens.
        self.heard_ = any(
            getattr(type(callback), hook, None) is not getattr(Callback, hook)
            for _, callback in self.callbacks_
            for hook in _BATCH_HOOKS
        )
        try:
            self.notify("on_train_begin", X=rows.x, y=rows.y)
            try:
                self.fit_loop(rows, rows.y, epochs=epochs)
            except StopTraining:
                pass
            self.notify("on_train_end", X=rows.x, y=rows.y)
        finally:
            # Generators and callbacks (an LRScheduler holds the optimizer) stay out of pickles.
            del self.generator_, self.draws_
            self.callbacks, self.callbacks_ = None, []
            self.module_.eval()
        return self

    def notify(self, method_name, **cb_kwargs):
        """Let callbacks speak; skorch's way to stop early must not look like Ctrl-C to us."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            if method_name == "on_epoch_end":
                raise StopTraining from stop
            raise

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch and look at the loss once, at its end."""
        if iterator is None:
            return
        self._set_training(training)
        self._freeze_router()
        total, weight, slope = 0.0, 0.0, 0.0
        for batch in iterator:
            if self.heard_:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            batch_weight = batch.weight.sum()
            total, weight = total + step["loss"] * batch_weight, weight + batch_weight
            slope = slope + step["router_gradient_norm"]
            if self.heard_:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history[-1]["batches"].clear()  # most of a pickle, and told already
        loss = float(total / weight)
        if not math.isfinite(loss):
            raise ValueError(
                f"The training loss became {loss} in epoch {len(self.history)}. Likely causes: "
                "X is not scaled (put a StandardScaler in front), or the steps are too long for "
                "the activation ('cubic' and 'linear' are unbounded): lower learning_rate_init "
                "and router_learning_rate_init, or leave them at 'auto'."
            )
        self.history.record(prefix + "_loss", loss)
        self.history.record(prefix + "_batch_count", len(iterator))
        self.history.record("router_gradient_norm", float(slope) / len(iterator))

    def _freeze_router(self):
        """Train the router in its first `router_max_iter` epochs only; its bias stays, too."""
        if self.module_.router is not None and self.router_max_iter is not None:
            self.module_.router.frozen = len(self.history) > self.router_max_iter
            self.module_.router.requires_grad_(not self.module_.router.frozen)

    def train_step(self, batch, **fit_params):
        """Forward, backward, step; nothing here waits for the device but the dispatch."""
        x = self._as_input(batch.x)
        if self.train_transform is not None:
            x = self._transform(x.clone() if x is batch.x else x)  # X is not ours to change
        self.optimizer_.zero_grad(set_to_none=True)
        with self._autocast(), OwnGenerator(*self.draws_) if self.draws_inside_ else nullcontext():
            mixed = self.module_(x, self.generator_)
        mixed = mixed._replace(output=mixed.output.to(x.dtype))
        loss = weighted_mean(self.criterion_.loss(mixed.output, batch.y), batch.weight)
        balance = self.module_.account(mixed, batch.weight)
        (loss if balance is None else loss + balance).backward()
        if self.heard_:
            self.notify(
                "on_grad_computed",
                named_parameters=self.get_all_learnable_params(),
                batch=batch,
                training=True,
            )
        if self.pace == "residual":
            self._set_pace(mixed, batch)
        self.optimizer_.step()
        return {
            "loss": loss.detach(),
            "y_pred": mixed.output.detach(),
            "router_gradient_norm": self._router_gradient_norm(),
        }

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them."""
        shape, dtype = x.shape, x.dtype
        with OwnGenerator(*self.draws_):
            x = self.train_transform(x)
        if not isinstance(x, torch.Tensor) or (x.shape, x.dtype) != (shape, dtype):
            got = f"{tuple(x.shape)}, {x.dtype}" if isinstance(x, torch.Tensor) else type(x)
            raise ValueError(
                "train_transform must return a tensor of the shape and type of the batch that it "
                f"is given, {tuple(shape)}, {dtype}; it returned {got}."
            )
        return x

    def _autocast(self):
        device = torch.device(self.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def _router_gradient_norm(self):
        """Return the norm of the router's gradient, a tensor: a router at 0 learns nothing."""
        gradients = [p.grad for p in self._router_parameters() if p.grad is not None]
        if not gradients:
            return 0.0
        norms = torch._foreach_norm(gradients)
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    @torch.no_grad()
    def _set_pace(self, mixed, batch):
        """Shorten each expert's step as its own mistakes become rare."""
        proba = self.criterion_.proba(mixed.output).gather(1, batch.y.unsqueeze(1)).squeeze(1)
        blind_guess = 1 - 1 / self.n_classes
        residual = expert_means(1 - proba, batch.weight, mixed.route)
        pace = (residual / blind_guess).clamp(max=1)
        for group, value in zip(self.optimizer_.param_groups, pace, strict=False):
            group["pace"] = value

    def _as_input(self, x):
        """Return a batch in the dtype of the module; bytes are pictures, 0 ... 255 to 0 ... 1."""
        dtype = next(self.module_.parameters()).dtype
        is_bytes = x.dtype == torch.uint8
        x = x.to(dtype)
        return x.div_(255) if is_bytes else x

    # -- inference ------------------------------------------------------------------------

    @torch.inference_mode()
    def map_batches(self, function, X):
        """Apply `function` to X, an array or tensor, in batches; return one array."""
        growth = _PICTURE_GROWTH if X.ndim == 4 else 1
        elements = _PREDICT_ELEMENTS[torch.device(self.device).type == "cuda"]
        size = max(1, elements // (growth * math.prod(X.shape[1:])))
        parts = []
        for start in range(0, len(X), size):
            x = X[start : start + size]
            x = as_tensor(x) if isinstance(x, np.ndarray) else x
            parts.append(function(self._as_input(x.to(self.device))).cpu())
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    def proba(self, X, generator=None):
        """Return the class probabilities of X; `generator` switches the routing noise on."""
        return self.map_batches(
            lambda x: self.criterion_.proba(self.module_(x, generator).output), X
        )


class Stopping(Callback):
    """Stop when the training loss, or with `validation` rows the accuracy, ceases to improve.

    Parameters
    ----------
    tol : float or None
        Least improvement that counts. None: never stop.
    patience : int
        Epochs without improvement that are waited for, and 50 steps at least.
    validation : Rows or None
        Rows whose accuracy is watched; the best weights are restored in the end.

    Attributes
    ----------
    converged_ : bool
    scores_ : list of float
        Validation accuracy of each epoch.
    """

    def __init__(self, tol, patience, validation=None):
        self.tol = tol
        self.patience = patience
        self.validation = validation

    def initialize(self):
        """Forget earlier trainings."""
        self.best_ = -math.inf
        self.best_weights_ = None
        self.waited_ = self.steps_waited_ = 0
        self.converged_ = False
        self.scores_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        """Compare this epoch with the best one so far."""
        if self.validation is None:
            score = -net.history[-1, "train_loss"]
        else:
            score = self._accuracy(net)
            self.scores_.append(score)
            if score > self.best_:
                self.best_weights_ = copy.deepcopy(net.module_.state_dict())
        before, self.best_ = self.best_, max(self.best_, score)
        if self.tol is None:
            return
        self.waited_ += 1
        self.steps_waited_ += net.history[-1, "train_batch_count"]
        if score > before + self.tol:
            self.waited_ = self.steps_waited_ = 0
        # A training loss below the tolerance leaves nothing to improve by it.
        exhausted = self.validation is None and score > -self.tol
        patient = self.waited_ >= self.patience and self.steps_waited_ >= _MIN_WAIT
        if exhausted or patient:
            self.converged_ = True
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Return to the best weights."""
        if self.best_weights_ is not None:
            net.module_.load_state_dict(self.best_weights_)

    def _accuracy(self, net):
        x, y, weight = self.validation
        net.module_.eval()
        hits = net.proba(x).argmax(1) == y.cpu().numpy()
        return float(np.average(hits, weights=weight.cpu().numpy()))


class Progress(Callback):
    """A progress bar over the epochs, with the loss of the last one."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(total=self.epochs, unit="epoch", desc="MoEClassifier")

    def on_epoch_end(self, net, **kwargs):
        """Advance the bar."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4f}", refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar: all epochs that were needed are done."""
        self.bar_.total = self.bar_.n
        self.bar_.refresh()
        self.bar_.close()
