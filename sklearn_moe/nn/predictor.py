"""A trained mixture and its head as one module, from X to predictions, and as a file of ONNX."""

import importlib
import json
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .._devices import default_torch_modes
from .encoders import TableEncoder
from .functional import Shape
from .heads import Head
from .mixture import MixtureOfExperts

# Older versions fail at a free number of samples.
_OLDEST_TORCH = "2.9"


class Predictor(nn.Module):
    """The predictions of a fitted estimator as one torch module, made by `to_torch()`.

    Parameters
    ----------
    mixture : MixtureOfExperts
    head : Head
    input_shape : tuple of int
        Shape of a sample, as the mixture takes it.
    flat : bool, default=False
        Whether X is (n_samples, n_features), each row a flattened sample.
    x_dtype : torch.dtype, default=None
        Type of X in `fit`: torch.uint8 for images, which are scaled to 0 ... 1; float64 for tables
        with large numbers, which float32 would round. None: that of the mixture.
    categories : Module or None, default=None
        Encodes the categorical columns of a table: `CategoryCodes`, perhaps with `CategoryMeans`
        behind it.
    mean, std : sequence of float or None, default=None
        For regression: mean and standard std of each target.
    squeeze : bool, default=False
        Whether a single target is returned without its axis.

    Attributes
    ----------
    category_names : dict
        For each categorical column of X whose categories are no numbers, by its index: the list of
        them. X holds the position of a category in the list, 0, 1, ..., and any other number, such
        as -1, or NaN for a category that is missing or not in the list. Empty without such columns.
    """

    mean: Tensor | None
    std: Tensor

    def __init__(
        self,
        mixture: MixtureOfExperts,
        head: Head,
        input_shape: Shape,
        *,
        flat: bool = False,
        x_dtype: torch.dtype | None = None,
        categories: nn.Module | None = None,
        category_names: Mapping[int, Sequence] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        squeeze: bool = False,
    ):
        super().__init__()
        self.mixture = mixture
        self.head = head
        self.input_shape = tuple(input_shape)
        self.flat = flat
        self.x_dtype = self.dtype if x_dtype is None else x_dtype
        self.categories = categories
        self.category_names = dict(category_names or {})
        self.squeeze = squeeze
        for name, values in (("mean", mean), ("std", std)):
            copied = None if values is None else torch.tensor(values, dtype=torch.float64)
            self.register_buffer(name, copied)
        self.eval()

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the mixture computes."""
        return next(self.mixture.parameters()).dtype

    @property
    def takes_uint8(self) -> bool:
        """Whether X holds uint8 images."""
        return self.x_dtype == torch.uint8

    @property
    def sample_shape(self) -> Shape:
        """Shape of a sample of X."""
        return (torch.Size(self.input_shape).numel(),) if self.flat else self.input_shape

    def example(self, n_samples: int = 2) -> Tensor:
        """Return samples of zeros, for tools that need an example of X."""
        device = next(self.mixture.parameters()).device
        return torch.zeros(n_samples, *self.sample_shape, dtype=self.x_dtype, device=device)

    def forward(self, X: Tensor) -> Tensor:
        """Map samples to probabilities, (n_samples, n_classes), or to numbers.

        Raises
        ------
        ValueError
            If samples are of another shape or kind than those of `fit`.
        """
        shape = self.sample_shape
        if X.shape[1:] != shape or (X.dtype == torch.uint8) != self.takes_uint8:
            kind = "bytes (torch.uint8)" if self.takes_uint8 else "floats"
            raise ValueError(
                f"X must hold {kind} of shape (n_samples, {', '.join(map(str, shape))}), as in "
                f"fit, got {X.dtype} of shape {tuple(X.shape)}."
            )
        x = X if self.categories is None else self.categories(X)
        # The encoder of a table needs X in its own type.
        if not isinstance(self.mixture.encoder, TableEncoder):
            x = x.to(self.dtype)
        if self.takes_uint8:
            x = x / 255
        if self.flat:
            x = x.reshape(x.shape[0], *self.input_shape)
        y = self.head.predict(self.mixture(x).output)
        if self.mean is not None:
            y = (y * self.std + self.mean).to(self.dtype)
        if self.squeeze:
            y = y.squeeze(1)
        return y


def require_onnx():
    """Refuse to begin without the packages that write ONNX.

    Raises
    ------
    ImportError
        If one of them is missing, or torch is too old.
    """
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"{name} is needed to export to ONNX: pip install onnx onnxscript"
            ) from error
    # It compares as a version, not as a text.
    if torch.__version__ < _OLDEST_TORCH:
        raise ImportError(
            f"torch>={_OLDEST_TORCH} is needed to export to ONNX, this is {torch.__version__}"
        )


@default_torch_modes()
def write_onnx(module, path, output):
    """Write a `Predictor` with input "X" and a free number of samples.

    Parameters
    ----------
    module : Predictor
    path : str or path-like
    output : str
        Name of the output.

    Raises
    ------
    RuntimeError
        If torch cannot write a part of the module.
    """
    batch = {"X": {0: torch.export.Dim("n_samples")}}
    with torch.no_grad(), warnings.catch_warnings():
        # What torch deprecates in itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        example = (module.example(),)
        try:
            program = torch.export.export(module, example, dynamic_shapes=batch, strict=False)
            program = torch.onnx.export(
                program,
                input_names=["X"],
                output_names=[output],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:
            experts = module.mixture.experts
            experts = experts if isinstance(experts, nn.ModuleList) else [experts]
            parts = {type(part).__name__ for part in (module.mixture.router, *experts)}
            reason = str(error).strip().partition("\n")[0]
            raise RuntimeError(
                f"torch cannot write one of {', '.join(sorted(parts))} for any number of samples. "
                "Use operations in it that torch.export knows, or keep the module that "
                f"`to_torch()` returns. The error of torch: {reason}"
            ) from error
    if module.category_names:
        program.model.metadata_props["categories"] = json.dumps(module.category_names, default=str)
    program.save(path, external_data=False)
