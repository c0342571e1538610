"""The skorch net over a mixture: its optimizer, its batches, its predictions."""

import math
from functools import partial

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import gen_batches
from skorch import NeuralNet
from skorch.dataset import Dataset

from .._compat import __version__
from .._data.rows import Batches, Rows, SparseRows, as_tensor
from .._devices import OutOfMemoryError, as_device, default_torch_modes, free_memory
from .._persistence import pack_net, unpack_net
from ..nn import Pool
from ..nn.dispatch import is_stack
from ..nn.encoders import TableEncoder
from ..nn.functional import batch_weight
from ..nn.seeding import fixed_draws
from .callbacks import WeightedRows
from .loop import Training
from .placement import units_of_a_sample

_FORMAT = 1  # of the stored state; another number is not read
# Features in one batch of predict, whatever the shape of X: what fits the caches of a CPU; a GPU
# wants enough to be busy, if it has room: up to 40 bytes per feature where all experts are used.
_PREDICT_ELEMENTS, _MOST_ELEMENTS, _BYTES_PER_ELEMENT = 2**22, 2**28, 64
# Hidden units of the rows of a table in one batch: arrays of more than 32 MiB, 2**22 numbers, would
# come from the kernel every time, which takes as long as the computation.
_PREDICT_UNITS, _FEWEST_ROWS = 3 * 2**20, 256
_MOST_ENCODED = 2**25  # numbers of a table that is kept encoded while it is trained on
_IMAGE_GROWTH = 16  # an expert for images holds many channels of them at a time


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

    # -- what skorch asks for -------------------------------------------------------------

    def get_default_callbacks(self):
        """Return none: the history holds the losses without them."""
        return []

    def initialize_optimizer(self, triggered_directly=None):
        """Give the router its own learning rate and, where the solver asks for it, each expert."""
        _, options = self.get_params_for_optimizer("optimizer", [])
        module = self.module_
        is_pool = isinstance(module.experts, Pool)
        units = [module.experts, *module.shared, *([] if module.trunk is None else [module.trunk])]
        groups = [{"params": list(unit.parameters())} for unit in units]
        if not self.solver.per_expert:
            kinds = module.experts.kinds if is_pool else [module.experts]
            groups = [{"params": list(kind.parameters())} for kind in kinds]
            groups[-1]["params"] += [p for unit in units[1:] for p in unit.parameters()]
        elif is_stack(module.experts) and not is_pool:
            groups[0]["units"] = len(module.experts)
        else:
            groups[:1] = [{"params": list(expert.parameters())} for expert in module.experts]
        groups = [group for group in groups if group["params"]]
        for parameters in (self.router_parameters(), list(self.criterion_.parameters())):
            if parameters:
                own = {"lr": self.router_lr, **self.solver.router_options}
                groups.append({"params": parameters, **own})
        self.optimizer_ = self.optimizer(groups, **options)
        return self

    @property
    def balance_weight(self):
        """Factor of the balancing loss, or step of the bias."""
        return self.module.keywords["balance_weight"]

    def change(self, **settings):
        """Take other settings; the weights, and the state of the solver, stay as they are."""
        changed = [name for name, value in settings.items() if getattr(self, name) != value]
        weight = settings.pop("balance_weight")
        vars(self).update(settings)
        self.module = partial(self.module, balance_weight=weight)  # of which a net is restored
        if (balance := getattr(self.module_.router, "balance", None)) is not None:
            balance.weight = weight
        if {*changed} - {"train_transform"}:
            state = self.optimizer_.state_dict()
            groups = self.initialize_optimizer().optimizer_.state_dict()["param_groups"]
            self.optimizer_.load_state_dict(state | {"param_groups": groups})

    def standardize_by(self, statistics):
        """Standardize the columns of a table by other statistics, also in a net that is stored."""
        if statistics is not self.module.keywords["statistics"]:
            self.module = partial(self.module, statistics=statistics)
            self.module_.encoder = TableEncoder(statistics).to(self.device)

    def router_parameters(self):
        """Return the parameters of the router, none without one."""
        return [] if self.module_.router is None else list(self.module_.router.parameters())

    def get_iterator(self, dataset, training=False):
        """Return the batches of rows to be predicted; a `Training` cuts its own."""
        return Batches(dataset.rows, self._predict_size(dataset.rows.x), self.device)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for `max_epochs`; no part of the estimators, which run a `Training`."""
        if not self.initialized_:
            self.initialize()
        rows, callbacks = self.get_dataset(X, y).rows, self.callbacks
        options = {"epochs": self.max_epochs, "seed": len(self.history)}
        try:
            Training(self, rows, callbacks=callbacks or (), **options).run()
        finally:
            self.callbacks = callbacks
        return self

    @torch.no_grad()
    def validation_step(self, batch, **fit_params):
        """Return the loss of held-out rows, and the sum of their scores."""
        output = self.infer(batch.x)
        weight = batch_weight(batch.weight)
        loss = batch.weight @ self.criterion_.loss(output, batch.y) / weight
        # In float64 a sum of hits is exact, however they fall into batches.
        score = batch.weight.double() @ self.criterion_.score(output, batch.y).double()
        return {"loss": loss, "weight": weight, "y_pred": output, "score": score}

    # -- predictions --------------------------------------------------------------------

    def get_dataset(self, X, y=None):
        """Return rows with weights, given arrays, tensors or a dataset."""
        if isinstance(X, WeightedRows):
            return X
        if isinstance(X, Dataset):
            X, y = X.X, X.y
        # The slice gathers sparse or selected rows at once, which NumPy would do one by one.
        x = X if isinstance(X, torch.Tensor) else as_tensor(np.asarray(X[:]))
        y = torch.zeros(len(x), dtype=torch.long) if y is None else torch.as_tensor(y)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        y = y if self.criterion_.kind == "classes" else y.to(dtype)
        weight = torch.ones(len(x), dtype=dtype, device=x.device)
        return WeightedRows(Rows(x, y.to(x.device), weight))

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
        is_uint8 = x.dtype == torch.uint8
        x = x.to(self.dtype)
        return x.div_(255) if is_uint8 else x

    @torch.no_grad()
    def encode_once(self, x):
        """Return a table as its encoder returns it, in the type of the weights.

        None for other samples, and for tables that are too large to be copied.
        """
        encoder = self.module_.encoder
        is_table = isinstance(encoder, TableEncoder) and isinstance(x, torch.Tensor)
        if not is_table or len(x) * encoder.n_outputs > _MOST_ENCODED:
            return None
        table = x.new_empty(len(x), encoder.n_outputs, dtype=self.dtype)
        for rows in gen_batches(len(x), self._predict_size(x)):
            table[rows] = encoder(x[rows].to(self.device))
        return table

    def _predict_size(self, X):
        """Return how many samples are predicted at a time."""
        growth = _IMAGE_GROWTH if X.ndim == 4 else 1
        elements, device = _PREDICT_ELEMENTS, torch.device(self.device)
        if device.type != "cpu":
            elements = int(min(_MOST_ELEMENTS, free_memory(device) / _BYTES_PER_ELEMENT))
        size = max(1, elements // (growth * math.prod(X.shape[1:])))
        if X.ndim == 2 and device.type == "cpu" and X.shape[0] > _FEWEST_ROWS:
            units = max(1, units_of_a_sample(self.module_))
            size = min(size, max(_FEWEST_ROWS, _PREDICT_UNITS // units))
            if isinstance(self.module_.encoder, TableEncoder):
                n_columns = X.shape[1] + self.module_.encoder.n_outputs
                size = min(size, max(_FEWEST_ROWS, elements // n_columns))
        return size

    @default_torch_modes()
    @torch.inference_mode()
    def map_batches(self, function, X, *columns):
        """Apply `function` to X, an array or tensor, in batches; return one array.

        `function` also gets the same rows of `columns`, tensors.
        """
        X = SparseRows(X) if issparse(X) else X
        size, start, parts = min(self._predict_size(X), X.shape[0]), 0, []
        draws = fixed_draws(self.module_, self.device)
        while start < X.shape[0]:
            x = X[start : start + size]
            x = as_tensor(x) if isinstance(x, np.ndarray) else x
            rest = [column[start : start + size].to(self.device) for column in columns]
            try:
                with draws:
                    parts.append(function(self.as_input(x.to(self.device)), *rest).cpu())
            except OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
            else:
                start += size
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    def infer(self, x, **fit_params):
        """Return the outputs of a batch, without noise."""
        with fixed_draws(self.module_, self.device):
            return self.module_(self.as_input(x.to(self.device))).output

    def evaluation_step(self, batch, training=False):
        """Return the outputs of a batch of rows."""
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return self.infer(batch.x)

    def _get_predict_nonlinearity(self):
        return self.criterion_.predict

    def predict(self, X):
        """Return indices of classes, labels as zeros and ones, or numbers."""
        proba = self.predict_proba(X)
        if self.criterion_.kind == "regression":
            return proba
        return proba.argmax(1) if self.criterion_.kind == "classes" else (proba > 0.5).astype(int)

    def score(self, X, y, sample_weight=None):
        """Return the accuracy, or R2 of numbers."""
        score = r2_score if self.criterion_.kind == "regression" else accuracy_score
        return score(y, self.predict(X), sample_weight=sample_weight)

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
        return {"format": _FORMAT, "version": __version__} | pack_net(self)

    @default_torch_modes()
    def __setstate__(self, state):
        """Build the parts anew and give them their weights."""
        version = state.get("version") if isinstance(state, dict) else None
        try:
            if version is None or state["format"] != _FORMAT:
                raise ValueError(f"its state is not of format {_FORMAT}")
            try:
                device = str(as_device(state["recipe"]["device"]))
            except ValueError:  # one that is not there
                device = "cpu"
            unpack_net(self, state, device)
        except Exception as error:
            raise ValueError(
                f"The stored net cannot be read: {type(error).__name__}: {error}. It was stored by "
                f"sklearn_moe {version or 'of an unknown version'}, this is {__version__}. Load it "
                "with the version that stored it, and where it uses parts of your own with these "
                "as they were; or fit the model again."
            ) from error

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
