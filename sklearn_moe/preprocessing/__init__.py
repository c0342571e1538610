"""scikit-learn transformers of pictures: arrays of shape (n_samples, n_channels, height, width).

They are built on torchvision, which is imported by the first transform, not before.
"""

from ._augment import RandomCropFlip
from ._blur import GaussianBlur, paper_blur
from ._cifar10 import cifar10_features
from ._crop import CenterCropResize
from ._rotate import Rotate
from ._scaler import ImageScaler
from ._transform import ImageTransform

__all__ = [
    "CenterCropResize",
    "GaussianBlur",
    "ImageScaler",
    "ImageTransform",
    "RandomCropFlip",
    "Rotate",
    "cifar10_features",
    "paper_blur",
]
