"""scikit-learn transformers, most of them of pictures: (n_samples, n_channels, height, width).

Those of pictures are built on torchvision, which is imported by the first transform, not before.
"""

from ._augment import RandomCropFlip
from ._backbone import BackboneFeatures
from ._blur import GaussianBlur, paper_blur
from ._cifar10 import cifar10_features
from ._crop import CenterCropResize
from ._patch_kmeans import PatchKMeansFeatures
from ._piecewise_linear import PiecewiseLinearEncoder
from ._rotate import Rotate
from ._scaler import ImageScaler
from ._transform import ImageTransform

__all__ = [
    "BackboneFeatures",
    "CenterCropResize",
    "GaussianBlur",
    "ImageScaler",
    "ImageTransform",
    "PatchKMeansFeatures",
    "PiecewiseLinearEncoder",
    "RandomCropFlip",
    "Rotate",
    "cifar10_features",
    "paper_blur",
]
