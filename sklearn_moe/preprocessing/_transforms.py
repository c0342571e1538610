"""A random change of images for training."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.utils._param_validation import validate_parameter_constraints

from .._validation import Count


@dataclass(eq=False)
class RandomCropFlip:
    """Shift each image by up to `padding` pixels and mirror half of the images.

    A `train_transform` of MoEClassifier. Every image has a shift of its own; transforms of
    torchvision draw one for all images of a batch.

    Parameters
    ----------
    padding : int, default=4
        Largest shift in pixels, in each direction, at least 0. Pixels from outside the image are 0.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import RandomCropFlip
    >>> clf = MoEClassifier(expert="cnn", train_transform=RandomCropFlip())
    """

    _parameter_constraints: ClassVar[dict] = {"padding": [Count(0)]}

    padding: int = 4

    def __call__(self, x):
        """Map images (n, c, h, w) to shifted and mirrored ones."""
        validate_parameter_constraints(
            self._parameter_constraints, vars(self), caller_name=type(self).__name__
        )
        n, n_channels, height, width = x.shape
        pad, device = self.padding, x.device
        shift = torch.randint(2 * pad + 1, (2, n, 1), device=device)
        mirror = torch.rand(n, 1, device=device) < 0.5
        across = torch.arange(width, device=device)
        # The rows (n, height) and columns (n, width) of the padded images that are kept.
        rows = shift[0] + torch.arange(height, device=device)
        columns = shift[1] + torch.where(mirror, across.flip(0), across)
        padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
        samples = torch.arange(n, device=device)[:, None, None, None]
        channels = torch.arange(n_channels, device=device)[:, None, None]
        return padded[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]
