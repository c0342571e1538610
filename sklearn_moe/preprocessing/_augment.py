"""RandomCropFlip: the usual augmentation of small pictures, for training only."""

from typing import ClassVar

import torch
from sklearn.utils._param_validation import validate_parameter_constraints

from .._validation import Count

__all__ = ["RandomCropFlip"]


class RandomCropFlip:
    """Shift each picture by up to `padding` pixels and mirror half of them.

    A `train_transform` of MoEClassifier. Every picture has a shift of its own; transforms of
    torchvision draw one for all pictures of a batch.

    Parameters
    ----------
    padding : int, default=4
        Largest shift in pixels, in each direction, at least 0. What comes in from outside is 0.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import RandomCropFlip
    >>> clf = MoEClassifier(expert="cnn", train_transform=RandomCropFlip())
    """

    _parameter_constraints: ClassVar[dict] = {"padding": [Count(0)]}

    def __init__(self, padding=4):
        self.padding = padding

    def __call__(self, x):
        """Map pictures (n, c, h, w) to shifted and mirrored ones."""
        validate_parameter_constraints(
            self._parameter_constraints, vars(self), caller_name=type(self).__name__
        )
        (n, c, h, w), device, p = x.shape, x.device, self.padding
        shift = torch.randint(2 * p + 1, (2, n, 1), device=device)
        mirror = torch.rand(n, 1, device=device) < 0.5
        across = torch.arange(w, device=device)
        rows = shift[0] + torch.arange(h, device=device)  # (n, h)
        columns = shift[1] + torch.where(mirror, across.flip(0), across)  # (n, w)
        padded = torch.nn.functional.pad(x, (p, p, p, p))
        samples = torch.arange(n, device=device)[:, None, None, None]
        channels = torch.arange(c, device=device)[:, None, None]
        return padded[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]

    def __repr__(self):
        return f"{type(self).__name__}(padding={self.padding})"
