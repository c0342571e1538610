"""scikit-learn transformers of pictures: (n_samples, n_channels, height, width).

They are built on torchvision, which is imported by the first transform, not before.
"""

from ._augment import RandomCropFlip
from ._backbone import BackboneFeatures
from ._blur import GaussianBlur, paper_blur
from ._cifar10 import cifar10_features
from ._crop import CenterCropResize
from ._patch_kmeans import PatchKMeansFeatures
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
    "RandomCropFlip",
    "Rotate",
    "cifar10_features",
    "paper_blur",
]
