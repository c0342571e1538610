"""The skorch net over a mixture: optimizer, losses, predictions, storage, out-of-bag masks."""

import inspect
import math
from functools import partial
from itertools import groupby

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import gen_batches
from skorch import NeuralNet
from skorch.dataset import Dataset

from .._compat import __version__
from .._data.rows import Batches, Rows, SparseRows, as_tensor, draw_rows
from .._data.statistics import has_few_distinct_rows
from .._devices import OutOfMemoryError, as_device, free_memory, usual_modes
from ..nn.dispatch import is_stack
from ..nn.encoders import TableEncoder
from ..nn.functional import batch_weight
from ..nn.seeding import OwnGenerator, in_bag_mask, random_in_bag_mask
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
_ROWS_LOOKED_AT = 2000  # rows by which a table is known
_FACTORS = np.exp(np.linspace(-1, 1, 81)).tolist()  # of logits
_IMAGE_GROWTH = 16  # an expert for images holds many channels of them at a time
_NUMPY_TYPES = {torch.from_numpy(np.zeros(1, kind)).dtype for kind in "?bBhilefdFD"}


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
        units = [module.experts, *module.shared, *([] if module.trunk is None else [module.trunk])]
        groups = [{"params": list(unit.parameters())} for unit in units]
        if not self.solver.per_expert:
            groups = [{"params": [p for group in groups for p in group["params"]]}]
        elif is_stack(module.experts):
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
        return size

    @usual_modes()
    @torch.inference_mode()
    def map_batches(self, function, X, *columns):
        """Apply `function` to X, an array or tensor, in batches; return one array.

        `function` also gets the same rows of `columns`, tensors.
        """
        X = SparseRows(X) if issparse(X) else X
        size, start, parts = min(self._predict_size(X), X.shape[0]), 0, []
        while start < X.shape[0]:
            x = X[start : start + size]
            x = as_tensor(x) if isinstance(x, np.ndarray) else x
            rest = [column[start : start + size].to(self.device) for column in columns]
            try:
                parts.append(function(self.as_input(x.to(self.device)), *rest).cpu())
            except OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
            else:
                start += size
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    def _out_of_bag(self, x, in_bag):
        """Return the log gates of the experts that are not trained on a row, and all outputs."""
        mixed = self.module_.forward_experts(x)
        log_gate = mixed.route.scores.masked_fill(in_bag, -torch.inf).log_softmax(1)
        return log_gate, mixed.expert_outputs

    def predict_out_of_bag(self, rows):
        """Return what the head predicts of each row by the experts that are not trained on it."""

        def predict(x, in_bag):
            log_gate, outputs = self._out_of_bag(x, in_bag)
            return self.criterion_.predict(self.criterion_.mix(log_gate, outputs))

        return self.map_batches(predict, rows.x, rows.in_bag)

    @torch.no_grad()
    def calibrate_out_of_bag(self, rows):
        """Scale the logits of the experts so that the out-of-bag loss is least.

        By one factor of a grid, on some of the rows. Experts that cannot scale their outputs stay
        as they are, and so do heads without logits.
        """
        module, head = self.module_, self.criterion_
        parts = [module.experts] if is_stack(module.experts) else module.experts
        if not (head.has_logits and all(hasattr(part, "scale_outputs") for part in parts)):
            return
        some = torch.from_numpy(draw_rows(len(rows.y), _ROWS_LOOKED_AT)).to(rows.y.device)
        x = rows.x.index_select(0, some.to(getattr(rows.x, "device", "cpu")))
        y, weight, in_bag = (column[some] for column in (rows.y, rows.weight, rows.in_bag))

        def losses(x, y, in_bag):
            log_gate, outputs = self._out_of_bag(x, in_bag)
            scaled = (head.mix(log_gate, outputs * factor) for factor in _FACTORS)
            return torch.stack([head.loss(output, y) for output in scaled], 1).double()

        loss = weight.double().cpu().numpy() @ self.map_batches(losses, x, y, in_bag)
        for part in parts:
            part.scale_outputs(_FACTORS[int(loss.argmin())])

    def infer(self, x, **fit_params):
        """Return the outputs of a batch, without noise."""
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

    # -- storage ------------------------------------------------------------------------

    def _recipe(self):
        """Return the arguments that build the net, as far as they are not skorch's defaults."""
        defaults = inspect.signature(NeuralNet).parameters
        recipe = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in defaults or value is not defaults[name].default
        }
        return recipe | {"callbacks": None, "device": str(self.device)}

    def __getstate__(self):
        """Return the recipe, the weights, and the state of the optimizer if it has any."""
        state = {"format": _FORMAT, "version": __version__, "recipe": self._recipe()}
        if self.initialized_:
            parts = [
                name for name in self.with_state if name != "optimizer_" or self.optimizer_.state
            ]
            state["parts"] = {
                name: _map_nested(_as_array, getattr(self, name).state_dict()) for name in parts
            }
            state["history"] = _as_columns(self.history)
        return state

    @usual_modes()
    def __setstate__(self, state):
        """Build the parts anew and give them their weights."""
        version = state.get("version") if isinstance(state, dict) else None
        try:
            if version is None or state["format"] != _FORMAT:
                raise ValueError(f"its state is not of format {_FORMAT}")
            self._restore(state)
        except Exception as error:
            raise ValueError(
                f"The stored net cannot be read: {type(error).__name__}: {error}. It was stored by "
                f"sklearn_moe {version or 'of an unknown version'}, this is {__version__}. Load it "
                "with the version that stored it, and where it uses parts of your own with these "
                "as they were; or fit the model again."
            ) from error

    def _restore(self, state):
        try:
            device = str(as_device(state["recipe"]["device"]))
        except ValueError:  # one that is not there
            device = "cpu"
        self.__init__(**state["recipe"] | {"device": device})
        if "parts" not in state:
            return
        with OwnGenerator(torch.Generator().manual_seed(0)):
            self.initialize()
        for name, arrays in state["parts"].items():
            getattr(self, name).load_state_dict(_map_nested(_from_array, arrays))
        self.history.extend(_as_history(state["history"]))
        self.module_.eval()

    @usual_modes()
    def to(self, device):
        """Move the net, the state of its optimizer included."""
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        state = self.optimizer_.state_dict()
        self.initialize_optimizer()
        self.optimizer_.load_state_dict(state)
        return self


def _map_nested(function, value):
    """Return a nested state with each of its values replaced."""
    if isinstance(value, dict):
        return {key: _map_nested(function, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_nested(function, part) for part in value)
    return function(value)


def _as_array(value):
    """Return a tensor as an array, other values as they are.

    A pickled tensor holds addresses and devices: equal ones differ, byte by byte.
    """
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return value.numpy().copy() if value.dtype in _NUMPY_TYPES else value  # bfloat16 is not


def _from_array(value):
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def _as_columns(history):
    """Return the rows of a history, dicts, in blocks of equal keys: (keys, a column for each)."""
    blocks = [(keys, list(rows)) for keys, rows in groupby(history, key=tuple)]
    return [(keys, [[row[key] for row in rows] for key in keys]) for keys, rows in blocks]


def _as_history(blocks):
    """Return the rows of which the blocks were made."""
    return [
        dict(zip(keys, values, strict=True))
        for keys, columns in blocks
        for values in zip(*columns, strict=True)
    ]


def with_in_bag_mask(net, rows, n_out_of_bag, groups=None):
    """Return the rows of a table with an out-of-bag mask: `n_out_of_bag` experts for each row.

    Rows of one group, (n_samples,) numbers of groups, are out of the bags of the same experts.
    Without groups equal rows are, unless the table has few distinct rows.
    """
    sizes = len(net.module_.experts), n_out_of_bag
    if groups is not None:
        in_bag = random_in_bag_mask(int(groups.max()) + 1, *sizes)[torch.from_numpy(groups)]
    elif rows.x.ndim == 2 and has_few_distinct_rows(_some_rows(rows.x)):
        in_bag = random_in_bag_mask(len(rows.y), *sizes)
    else:
        encode = net.module_.encoder or torch.nn.Identity()
        in_bag = torch.from_numpy(
            net.map_batches(lambda x: in_bag_mask(encode(x).flatten(1), *sizes).bool(), rows.x)
        )
    return rows._replace(in_bag=in_bag.to(rows.y.device, torch.bool))


def _some_rows(x):
    """Return rows of a table from all over it: the first ones may be special."""
    rows = torch.from_numpy(draw_rows(x.shape[0], _ROWS_LOOKED_AT))
    return x.index_select(0, rows.to(getattr(x, "device", "cpu"))).cpu().numpy()
