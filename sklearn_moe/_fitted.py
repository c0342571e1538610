"""What a fitted mixture says, and which expert says it."""

import copy

import torch
from sklearn.utils.validation import check_is_fitted

from ._data.validation import check_samples
from ._devices import as_device, usual_modes
from ._onnx import require_onnx, write_onnx
from .nn import CategoryCodes, Predictor, softmax
from .nn.routers import pool

__all__ = ["FittedMixture"]


class FittedMixture:
    """The half of an estimator that is there once `net_` is."""

    def _predict_generator(self):
        """Return the source of noise at prediction, None without it."""
        if not self._noise_at_predict:
            return None
        return torch.Generator(self.net_.device).manual_seed(self._predict_seed)

    def _outputs(self, X, method):
        """Return what a method of the head makes of the mixture's outputs."""
        check_is_fitted(self)
        X, generator = check_samples(self, X), self._predict_generator()
        function = getattr(self.net_.criterion_, method)
        return self.net_.map_batches(lambda x: function(self.module_(x, generator).output), X)

    def _expert_predictions(self, X):
        """Return those of every expert in the place of all, (n_samples, n_experts, n_targets)."""
        check_is_fitted(self)
        predict = self.net_.criterion_.predict

        def answer(x):
            answers = self.module_.forward_each(x)
            return predict(answers.flatten(0, 1)).unflatten(0, answers.shape[:2])

        return self.net_.map_batches(answer, check_samples(self, X))

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
        X, generator = check_samples(self, X), self._predict_generator()
        chosen = self.net_.map_batches(lambda x: self.module_.route(x, generator).ranking(), X)
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
            lambda x: softmax(self.module_.route(x).scores).to(self.net_.dtype),
            check_samples(self, X),
        )

    def _router_input(self, X):
        """Return what a linear router without a trunk sees of samples, (n_samples, n_features).

        That is the encoded columns of a table, and the sum of the patches of other samples.
        """
        check_is_fitted(self)
        encoder, dtype = self.module_.encoder, next(self.module_.parameters()).dtype
        return self.net_.map_batches(
            lambda x: pool(x if encoder is None else encoder(x), dtype), check_samples(self, X)
        )

    def to(self, device):
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

    @usual_modes()
    def to_torch(self):
        """Return the fitted model as one module of torch, from X to predictions.

        It is a copy, on the same device, in evaluation mode and differentiable, that needs no
        scikit-learn: to be explained, served, exported by `torch.export` or trained on in torch.

        Returns
        -------
        module : sklearn_moe.nn.Predictor
            Maps a tensor X, (n_samples, ...), to what `predict_proba` returns, or `predict` of a
            regressor, in the type of the weights. X holds what the estimator takes, as floats
            (bytes of pictures if it was fitted on these). Categories that are numbers stay these;
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
                f"router={self.router!r} draws noise at prediction, from a generator that a module "
                "does not have. Fit with a router of noise_at_predict=False."
            )
        mixture, head = copy.deepcopy((self.module_, self.net_.criterion_))
        units = {}
        if self._target.kind == "numbers":
            units = {"mean": self._target.mean, "deviation": self._target.deviation}
            units["squeeze"] = self._target.is_column
        found = self._format
        return Predictor(
            mixture,
            head,
            self.input_shape_,
            flat=found.sample_shape is not None,
            x_dtype=getattr(torch, found.dtype),
            **_category_codes(found),
            **units,
        )

    def to_onnx(self, path):
        """Write the fitted model to a file that ONNX runtimes read.

        It computes what the module of `to_torch` does, for any number of samples: input "X",
        output "probabilities", or "predictions" of a regressor. Every expert answers every sample
        there, and the answers that the router chooses are taken. Where categories are no numbers,
        X holds their places, and the file has the lists of them as metadata, "categories": JSON, by
        column.

        Parameters
        ----------
        path : str or path-like

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
        output = "predictions" if self._target.kind == "numbers" else "probabilities"
        write_onnx(module, path, output)

    @property
    def loss_curve_(self):
        """Training loss of every epoch."""
        return list(self.net_.history[:, "train_loss"])

    @property
    def router_gradient_curve_(self):
        """Norm of the router's gradient in every epoch."""
        return list(self.net_.history[:, "router_gradient_norm"])

    @property
    def module_(self):
        """The trained mixture, a `torch.nn.Module`."""
        check_is_fitted(self)
        return self.net_.module_

    def __sklearn_is_fitted__(self):
        """Tell a fitted estimator by its net."""
        return hasattr(self, "net_")


def _category_codes(found):
    """Return what a `Predictor` knows of the categories of a table."""
    known = found.categories
    if known is None:
        return {}
    values, names = [], {}
    for column, its_values, are_numbers in zip(
        known.columns, known.values, known.are_numbers, strict=True
    ):
        if not are_numbers:
            names[column] = its_values
        values.append(its_values if are_numbers else range(len(its_values)))
    codes = CategoryCodes(known.columns, values, known.codes, getattr(torch, found.dtype))
    return {"categories": codes, "category_names": names}
