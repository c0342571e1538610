"""Where a model is trained, and in which precision, where that is left open."""

import torch

from .. import _devices
from .._registry import is_auto
from ..nn import OwnGenerator
from .threads import LARGE, work_of_a_step

__all__ = ["place"]


def place(estimator, settings, module, dtype):
    """Return device and precision of a new net, and note what "auto" became.

    Parameters
    ----------
    module : callable
        Builds the mixture. It is called only where there is a choice of devices, to look at.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    device = estimator.device
    if is_auto(device):
        device = settings.resolved["device"] = _choose(settings, module, estimator.input_shape_)
    device = _devices.as_device(device, float64=True)
    precision = settings.precision
    if is_auto(precision):
        precision = "bf16" if _devices.is_fast_in_bf16(device) else "float32"
    if is_auto(estimator.precision):
        settings.resolved["precision"] = "float64" if dtype == "float64" else precision
    return str(device), precision


def _choose(settings, module, input_shape):
    """Return the accelerator if a step is enough work for it.

    A small step takes as long there as on one core: the time that Python takes for it.
    """
    if (found := _devices.accelerator()) is None:
        return "cpu"
    with OwnGenerator(torch.Generator().manual_seed(0)):
        work = work_of_a_step(module(), settings.batch_size, input_shape)
    return found if work > LARGE else "cpu"
