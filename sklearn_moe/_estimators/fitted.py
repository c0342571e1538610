"""What a fitted estimator returns, as a mixture or as a module of torch, and how it is kept."""

import copy
from numbers import Number
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from .._compat import __version__
from .._data import SamplesLike
from .._data.experts import view_of
from .._data.validation import check_samples, check_target
from .._devices import as_device, default_torch_modes
from .._parameters.estimator_params import EstimatorParams
from .._training.density import density_of
from .._validation import warn
from ..nn import MixtureOfExperts, Pool, Predictor
from ..nn.encoders import CategoryCodes, CategoryMeans
from ..nn.functional import softmax
from ..nn.predictor import require_onnx, write_onnx
from ..nn.trees import FittedMembers

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FittedMoE"]

_VERSION = "_sklearn_moe_version"


class FittedMoE(EstimatorParams):
    """Predictions of a fitted mixture of experts, its coefficients, exports and storage.

    Subclasses fit it, and tell what the density of y is: by `_density_method` and `_log_density`.
    """

    def _read(self, X):
        """Return X as the fitted experts take it."""
        if not hasattr(self, "net_"):
            # `check_is_fitted` is slow, because it makes the tags: it is called only to raise.
            check_is_fitted(self)
        _check_feature_names(self, X, reset=False)
        return check_samples(X, type(self).__name__, self._format)

    def _noise(self):
        """Return the source of noise at prediction."""
        return torch.Generator(self.net_.device).manual_seed(self._predict_seed)

    @property
    def _density(self):
        """The density around the predictions of numbers, None if there is none."""
        return density_of(self.net_.criterion_, self._target, vars(self))

    def _outputs(self, X, method):
        """Return what a method of the head makes of the mixture's outputs."""
        X, net = self._read(X), self.net_
        function = getattr(net.criterion_, method)
        generator = self._noise() if self._noise_at_predict else None
        return net.map_batches(lambda x: function(net.module_(x, generator).output), X)

    def _expert_outputs(self, X, method="predict"):
        """Return what a method of the head makes of each expert, a list of (n_samples, ...)."""
        X, function, module = self._read(X), getattr(self.net_.criterion_, method), self.module_
        found = self.net_.map_batches(lambda x: tuple(map(function, module.forward_each(x))), X)
        return found if isinstance(found, list) else [found]

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
            Their numbers, in the units of `fit`, or classes. None: what `predict` returns, of
            counts the nearest whole number.

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
        return self._log_density(outputs, self._encode_y(X, self._likeliest(X) if y is None else y))

    def _likeliest(self, X):
        return self.predict(X)

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
        y = self._encode_y(X, y)
        outputs = self._expert_outputs(X, self._density_method())
        log_density = np.stack([self._log_density(output, y) for output in outputs], axis=1)
        route = self.module_.route
        scores = self.net_.map_batches(lambda x: route(x).scores, self._read(X))
        log_gate = special.log_softmax(scores.astype(np.float64), axis=1)
        return special.softmax(log_gate + log_density, axis=1)

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
        X, route = self._read(X), self.net_.module_.route
        generator = self._noise() if self._noise_at_predict else None
        chosen = self.net_.map_batches(lambda x: route(x, generator).ranking(), X)
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
        X = self._read(X)
        net = self.net_
        return net.map_batches(lambda x: softmax(net.module_.route(x).scores).to(net.dtype), X)

    def _experts_view(self, X):
        """Return what metrics and inspection read of the fitted mixture."""
        check_is_fitted(self)
        known = {"categorical": self.categorical_features}
        return view_of(self, X, self.expert_kinds_, is_log=self.loss == "poisson", **known)

    @property
    def coef_(self) -> np.ndarray:
        """Coefficients of linear experts, by the columns `coef_names_`, in the units of X and y.

        With `loss="poisson"` those of the logarithm of the rate.
        """
        return self._linear_experts()[0]

    @property
    def intercept_(self) -> np.ndarray:
        """Intercepts of linear experts, in the units of y, or of the logarithm of the rate."""
        return self._linear_experts()[1]

    @property
    def coef_names_(self) -> np.ndarray:
        """Names of the columns of `coef_`, a category as "column=category"."""
        self._linear_experts()
        n_columns, scales = self.n_features_in_, self._scales
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(n_columns)])
        if scales is None:
            return np.array(names, dtype=object)
        # Means of y of further classes, and slopes, stand behind all columns.
        n_more = self._format.input_shape[0] - n_columns
        names = [*names, *(f"mean {k}" for k in range(n_more))]
        found = [names[column] for column in scales.numeric]
        found += [f"{found[place]}=missing" for place in scales.with_missing]
        for column, n in zip(scales.categories, scales.n_categories, strict=True):
            known = self._format.categories
            values = known.values[known.columns.index(column)]
            found += [f"{names[column]}={value}" for value in values[:n]]
        return np.array(found, dtype=object)

    @torch.no_grad()
    def _linear_experts(self):
        """Return the coefficients and the intercepts of linear experts."""
        module, scales = self.module_, self._scales
        experts = [*module.experts]
        if isinstance(module, Pool):
            # A bag of several has no coefficients of its own.
            experts = [members[0] if len(members) == 1 else None for members in experts]
        are_linear = all(getattr(expert, "is_linear", False) for expert in experts)
        if module.trunk is not None or not are_linear:
            raise AttributeError(
                "coef_ needs a table, and experts that are all linear: expert='linear' or "
                "activation='linear'."
            )
        each = [[part.cpu().numpy() for part in expert.linear_function()] for expert in experts]
        coef, intercept = map(np.stack, zip(*each, strict=True))
        if scales is not None:
            n_numeric = len(scales.numeric)
            if scales.adds_linear:  # the numbers stand behind what is missing and the categories
                coef = np.concatenate([coef[..., -n_numeric:], coef[..., :-n_numeric]], -1)
            coef[..., :n_numeric] /= scales.scale
            intercept -= coef[..., :n_numeric] @ scales.center
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
        for name, members in zip(self.expert_kinds_, self.module_.experts, strict=True):
            if isinstance(members, FittedMembers):
                raise ValueError(
                    f"The kind {name!r} of expert={self._architecture['expert']!r} is no network: "
                    "it cannot be exported. Fit without it."
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

        It computes what the module of `to_torch` does (of images in float32), for any number of
        samples: input "X",
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
            If onnx or onnxscript is missing: `pip install onnx onnxscript`, or torch is older
            than 2.9.
        RuntimeError
            If torch cannot write an expert or a router of your own.
        ValueError
            If the router draws noise at prediction.
        """
        require_onnx()
        module = self.to_torch().cpu()
        if len(self.input_shape_) == 3:
            # Runtimes know no convolutions in float64.
            module.float()
        output = "predictions" if self._target.kind == "regression" else "probabilities"
        write_onnx(module, path, output)

    @property
    def loss_curve_(self) -> list[float]:
        """Training loss of every epoch."""
        return [epoch["train_loss"] for epoch in self.net_.history]

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
        """Return the attributes and the version."""
        return super().__getstate__() | {_VERSION: __version__}

    def __setstate__(self, state):
        """Take the attributes; warn of another version."""
        version = state.get(_VERSION, "unknown")
        if version != __version__:
            warning = InconsistentVersionWarning(
                estimator_name=f"{type(self).__name__} of sklearn_moe",
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            )
            warn(warning, InconsistentVersionWarning)
        super().__setstate__({k: v for k, v in state.items() if k != _VERSION})


def _category_codes(found):
    """Return what a `Predictor` knows of the categories of a table."""
    known, means = found.categories, found.means and CategoryMeans(found.means)
    if known is None:
        return {"categories": means}
    places, names = [], {}
    for column, values in zip(known.columns, known.values, strict=True):
        if all(isinstance(value, Number) for value in values):  # X holds them as they are
            places.append(values)
        else:
            places.append(range(len(values)))
            names[column] = values
    codes = CategoryCodes(known.columns, places, getattr(torch, found.dtype))
    if means is not None:
        codes = torch.nn.Sequential(codes, means)
    return {"categories": codes, "category_names": names}
