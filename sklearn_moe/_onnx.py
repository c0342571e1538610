"""Modules as files of ONNX."""

import importlib
import json
import warnings

import torch
from sklearn.utils.fixes import parse_version
from torch.overrides import TorchFunctionMode

from ._devices import usual_modes

__all__ = ["require_onnx", "write_onnx"]

OLDEST_TORCH = "2.9"  # older ones fail at a free number of samples


def require_onnx(*more):
    """Refuse to begin without the packages that write ONNX.

    Raises
    ------
    ImportError
        If one of them is missing, or torch is too old.
    """
    for name in ("onnx", "onnxscript", *more):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"{name} is needed to export to ONNX: pip install 'sklearn_moe[onnx]'"
            ) from error
    if parse_version(torch.__version__) < parse_version(OLDEST_TORCH):
        raise ImportError(
            f"torch>={OLDEST_TORCH} is needed to export to ONNX, this is {torch.__version__}"
        )


@usual_modes()
def write_onnx(module, path, output):
    """Write a `Predictor` with input "X" and a free number of samples.

    Parameters
    ----------
    module : Predictor
    path : str, path-like or None
        None writes nothing.
    output : str
        Name of the output.

    Returns
    -------
    program : torch.onnx.ONNXProgram
    """
    batch = {"X": {0: torch.export.Dim("n_samples")}}
    with torch.no_grad(), warnings.catch_warnings():
        # What torch deprecates in itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        with _MatrixConvolutions():
            program = torch.export.export(
                module, (module.example(),), dynamic_shapes=batch, strict=False
            )
        program = torch.onnx.export(
            program,
            input_names=["X"],
            output_names=[output],
            custom_translation_table={torch.ops.prims.hypot.default: _hypot},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if module.category_names:
        program.model.metadata_props["categories"] = json.dumps(module.category_names, default=str)
    if path is not None:
        program.save(path, external_data=False)
    return program


class _MatrixConvolutions(TorchFunctionMode):
    """Within this context convolutions in float64 are products of matrices.

    Runtimes know no others in float64, in which routers decide.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, or the same by matrices."""
        if func is torch.conv2d and args[0].dtype == torch.float64:
            return _convolve(*args, **kwargs or {})
        return func(*args, **kwargs or {})


def _convolve(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    if groups != 1 or isinstance(padding, str):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    options = {"dilation": dilation, "padding": padding, "stride": stride}
    columns = torch.nn.functional.unfold(x, weight.shape[2:], **options)
    height = x.shape[2] + 2 * padding[0] - dilation[0] * (weight.shape[2] - 1)
    y = (weight.flatten(1) @ columns).unflatten(2, ((height - 1) // stride[0] + 1, -1))
    return y if bias is None else y + bias[:, None, None]


def _hypot(x, y):
    """Return sqrt(x^2 + y^2), whose squares must not overflow."""
    from onnxscript import opset18 as op

    largest = op.Max(op.Abs(x), op.Abs(y))
    x, y = op.Div(x, largest), op.Div(y, largest)
    return op.Mul(largest, op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y))))
