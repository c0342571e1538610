"""scikit-learn transformers of images: (n_samples, n_channels, height, width).

They are built on torchvision, which is imported by the first call that needs it, not before.
"""

from ._backbone import BackboneFeatures
from ._patch_kmeans import PatchKMeansFeatures
from ._transforms import RandomCropFlip

__all__ = [
    "BackboneFeatures",
    "PatchKMeansFeatures",
    "RandomCropFlip",
]
