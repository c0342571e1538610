"""The skorch net over a mixture: its optimizer, its batches, its predictions."""

import copy
import math
from contextlib import nullcontext
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import issparse
from skorch import NeuralNet
from skorch.dataset import Dataset
from skorch.history import History
from torch import nn

from .. import _devices
from .._data.rows import Rows, SparseRows, as_tensor
from .._devices import default_torch_modes
from .._persistence import pack_net, unpack_net
from .._threads import threads_for
from ..nn.encoders import TableEncoder
from ..nn.functional import is_stack
from ..nn.seeding import fixed_draws, is_stochastic

# Features in one batch of predict, whatever the shape of X: what fits the caches of a CPU. A GPU
# wants enough to be busy, if it has room: up to 40 bytes per feature where all experts are used.
_PREDICT_ELEMENTS, _MOST_ELEMENTS, _BYTES_PER_ELEMENT = 2**22, 2**28, 64
# Rows of a table in one batch on a CPU: their hidden units stay near the processor.
_PREDICT_ROWS = 1024
# Multiply-adds of a step, below which a GPU gains nothing.
_LARGE_STEP = 1e8
# Large steps whose work all rows of a call must have to be worth threads: what is computed of a row
# is often little, and the call is over soon.
_STEPS_OF_A_CALL = 10


class MoENet(NeuralNet):
    """skorch net over a `MixtureOfExperts`, with tensors sliced in place of a DataLoader.

    It knows no labels and no units: classes are their indices in `classes_`, numbers are in
    standard deviations from their mean, X has the shape that the experts take.

    Parameters
    ----------
    module, criterion, **kwargs
        As in skorch; `module()` builds the mixture, `criterion()` its head.
    solver : SolverSpec
    router_lr : float
        Learning rate of the router.
    schedule : {"constant", "cosine", "residual"}
        `"cosine"` lets the rates rise over a twentieth of the steps of a training and fall to 0
        by half a period of the cosine. `"residual"` multiplies an expert's step by the mean error
        of its own samples of the batch, relative to that of guessing, 1 at most.
    expert_loss_weight : float, default=0.0
        Share of the experts' own losses in that which is minimized.
    train_transform : callable or None
        Applied to the samples of each training batch.
    precision : {"float32", "bf16"}
        Of training: `"bf16"` computes the experts in mixed precision. Routes, losses and
        everything at prediction stay in the precision of the weights.
    """

    with_state = ("module_", "criterion_", "optimizer_")
    # The history holds the losses without those of skorch.
    _default_callbacks: ClassVar[list] = []

    def __init__(
        self,
        module,
        criterion,
        *,
        solver,
        router_lr,
        schedule="constant",
        expert_loss_weight=0.0,
        train_transform=None,
        precision="float32",
        **kwargs,
    ):
        defaults = {"optimizer": solver.build, "train_split": None}
        super().__init__(module, criterion, **(defaults | kwargs))
        self.solver = solver
        self.router_lr = router_lr
        self.schedule = schedule
        self.expert_loss_weight = expert_loss_weight
        self.train_transform = train_transform
        self.precision = precision

    # -- its parts ----------------------------------------------------------------------

    def initialize(self, head=None):
        """Make the parts: the head, unless it is given, the mixture for it, and the optimizer."""
        self._initialize_virtual_params()
        self._initialize_callbacks()
        with self._current_init_context("criterion"):
            self.criterion_ = (self.criterion() if head is None else head).to(self.device)
        with self._current_init_context("module"):
            self.module_ = self.module(head=self.criterion_).to(self.device)
        self.work_of_a_row_ = work_of_a_step(self.module_, 1, self.module.args[0])
        # Whether it may draw at prediction.
        self.draws_ = is_stochastic(self.module_, training=False)
        self._initialize_optimizer()
        self._initialize_history()
        self.initialized_ = True
        return self

    def initialize_optimizer(self, triggered_directly=None):
        """Give the router its own learning rate and, where the solver asks for it, each expert."""
        _, options = self.get_params_for_optimizer("optimizer", [])
        experts, per_expert = self.module_.experts, self.solver.per_expert
        others = [unit for unit in (*self.module_.shared, self.module_.trunk) if unit is not None]
        units = [nn.ModuleList([experts, *others])]
        is_single = is_stack(experts)
        if per_expert:
            units = [*([experts] if is_single else experts), *others]
        groups = [{"params": list(unit.parameters())} for unit in units]
        if per_expert and is_single:
            groups[0]["units"] = len(experts)
        of_router = {"lr": self.router_lr, **self.solver.router_options}
        router = [] if self.module_.router is None else self.module_.router.parameters()
        for parameters in (router, self.criterion_.parameters()):
            groups.append({"params": list(parameters), **of_router})
        self.optimizer_ = self.optimizer([g for g in groups if g["params"]], **options)
        return self

    def take_weights(self, other):
        """Take the weights of another net, and its history."""
        self.module_.load_weights(other.module_)
        self.criterion_.load_state_dict(other.criterion_.state_dict())
        self.history = copy.deepcopy(other.history)

    def with_settings(self, balance_weight, **settings):
        """Return a copy with other settings; weights and state of the solver are its own."""
        net = object.__new__(type(self))
        module, head = copy.deepcopy((self.module_, self.criterion_))
        vars(net).update(vars(self) | settings | {"module_": module, "criterion_": head})
        # A net that was stored is made by the same recipe.
        net.module = partial(self.module, balance_weight=balance_weight)
        if (balance := getattr(module.router, "balance", None)) is not None:
            balance.weight = balance_weight
        net.history = History(self.history)
        state = copy.deepcopy(self.optimizer_.state_dict())
        groups = net.initialize_optimizer().optimizer_.state_dict()["param_groups"]
        net.optimizer_.load_state_dict(state | {"param_groups": groups})
        return net

    def take_statistics(self, statistics):
        """Standardize the columns of a table in another way from now on."""
        self.module = partial(self.module, statistics=statistics)
        self.module_.encoder = TableEncoder(statistics).to(self.device)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Refuse to train without the estimator."""
        raise NotImplementedError("The net is trained by its estimator: call fit or partial_fit.")

    # -- predictions --------------------------------------------------------------------

    @property
    def dtype(self):
        """Type of the weights, in which the mixture computes."""
        return next(self.module_.parameters()).dtype

    def as_input(self, x):
        """Return a batch in the dtype of the module; uint8 images, 0 ... 255, become 0 ... 1.

        Tables that the module standardizes stay in their own type until then.
        """
        if isinstance(self.module_.encoder, TableEncoder):
            return x
        if x.dtype == torch.uint8:
            return x.to(self.dtype).div_(255)
        return x.to(self.dtype)

    def _predict_size(self, X):
        """Return how many samples are predicted at a time."""
        # An expert for images holds many channels of them at a time.
        growth = 16 if X.ndim == 4 else 1
        elements, device = _PREDICT_ELEMENTS, torch.device(self.device)
        if device.type != "cpu":
            elements = int(min(_MOST_ELEMENTS, _devices.free_memory(device) / _BYTES_PER_ELEMENT))
        size = max(1, elements // (growth * math.prod(X.shape[1:])))
        return min(size, _PREDICT_ROWS) if X.ndim == 2 and device.type == "cpu" else size

    @default_torch_modes()
    @torch.inference_mode()
    def map_batches(self, function, X, *columns):
        """Apply `function` to X, an array, tensor or `Rows`, in batches; return one array or more.

        `function` also gets the same rows of `columns`, tensors. It returns a tensor, or a tuple of
        these.
        """
        if isinstance(X, Rows):
            X = X.x
        elif issparse(X):
            X = SparseRows(X)
        elif isinstance(X, np.ndarray):
            X = torch.from_numpy(X) if X.flags.writeable and X.flags.forc else as_tensor(X)
        size, parts = self._predict_size(X), []
        draws = fixed_draws(self.module_, self.device) if self.draws_ else nullcontext()
        with threads_for(self.work_of_a_row_ * X.shape[0] / _STEPS_OF_A_CALL, "openmp"):
            for start in range(0, X.shape[0], size):
                x, *rest = (column[start : start + size] for column in (X, *columns))
                rest = [column.to(self.device) for column in rest]
                with draws:
                    found = function(self.as_input(x.to(self.device)), *rest)
                found = found if type(found) is tuple else (found,)
                parts.append([part.cpu() for part in found])
        joined = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        joined = [part.numpy() for part in joined]
        return joined if len(joined) > 1 else joined[0]

    def forward_iter(self, X, training=False, device="cpu"):
        """Yield the outputs for samples, or for a dataset of skorch, without noise."""
        self._set_training(training)
        if isinstance(X, Dataset):
            X = X.X
        yield torch.from_numpy(self.map_batches(lambda x: self.module_(x).output, X))

    def _get_predict_nonlinearity(self):
        return self.criterion_.predict

    def predict(self, X):
        """Return indices of classes, labels as zeros and ones, or numbers."""
        proba = self.predict_proba(X)
        if self.criterion_.kind == "regression":
            return proba
        return proba.argmax(1) if self.criterion_.kind == "classes" else (proba > 0.5).astype(int)

    @property
    def classes_(self):
        """The indices of the classes, as scorers ask for them."""
        return np.arange(self.criterion_.n_targets)

    def __sklearn_tags__(self):
        """Tell what the net predicts: scorers choose by it."""
        tags = super().__sklearn_tags__()
        if hasattr(self, "criterion_"):
            is_regressor = self.criterion_.kind == "regression"
            tags.estimator_type = "regressor" if is_regressor else "classifier"
        return tags

    # -- storage and devices ------------------------------------------------------------

    def __getstate__(self):
        """Return the recipe, the weights, and the state of the optimizer if it has any."""
        return pack_net(self)

    @default_torch_modes()
    def __setstate__(self, state):
        """Build the parts anew and give them their weights."""
        try:
            device = str(_devices.as_device(state["recipe"]["device"]))
        except ValueError:
            # The device of the file may not be there.
            device = "cpu"
        unpack_net(self, state, device)

    @default_torch_modes()
    def to(self, device):
        """Move the net, the state of its optimizer included."""
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        state = self.optimizer_.state_dict()
        self.initialize_optimizer()
        self.optimizer_.load_state_dict(state)
        return self


# -- where it is trained, and how much work it is ------------------------------------------------


def place(plan, module, input_shape):
    """Return device and precision of training of a new net.

    Parameters
    ----------
    plan : Plan
    module : MixtureOfExperts
    input_shape : tuple of int

    Raises
    ------
    ValueError
        If there is no such device.
    """
    device, of_large = plan.devices
    if device != of_large:
        work = work_of_a_step(module, plan.training.batch_size, input_shape)
        device = of_large if work > _LARGE_STEP else device
    device = _devices.as_device(device, float64=True)
    use_bf16 = plan.training.may_use_bf16 and _devices.is_fast_in_bf16(device)
    return str(device), "bf16" if use_bf16 else "float32"


def work_of_a_step(module, n_samples, input_shape):
    """Return about how many multiply-adds a batch takes forwards, or what takes as long."""
    positions = {1: 1, 2: input_shape[0]}.get(len(input_shape), math.prod(input_shape[1:]))
    n_weights = sum(parameter.numel() for parameter in module.experts.parameters())
    router, n_used = module.router, len(module.experts)
    if router is None or router.sparse:
        n_used = 1 if router is None else router.top_k
    work = n_weights / len(module.experts) * (n_used + len(module.shared))
    if module.trunk is None:
        # To read a number from memory, score it and write it for an expert takes as long as some 40
        # multiply-adds: with few filters for each patch that is most of a step.
        return n_samples * (positions * work + 40 * math.prod(input_shape))
    # What a trunk makes are vectors, as a rule.
    of_trunk = sum(parameter.numel() for parameter in module.trunk.parameters())
    return n_samples * (positions * of_trunk + work)
