"""cifar10_features: what the paper makes of the pictures of CIFAR-10 before it learns."""

from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import StrOptions, validate_params

from ._blur import GaussianBlur
from ._crop import CenterCropResize
from ._scaler import ImageScaler

__all__ = ["cifar10_features"]

_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@validate_params(
    {"blur": ["boolean"], "scaler": [StrOptions({"paper", "fit"})]},
    prefer_skip_nested_validation=True,
)
def cifar10_features(
    *,
    crop=24,
    size=32,
    blur=False,
    scaler="paper",
    random_state=None,
    batch_size=256,
    device="cpu",
):
    """Make the paper's pipeline for the pictures of CIFAR-10, rotated or not [1]_.

    It cuts out the middle ("crop"), enlarges it, and scales the channels ("scale"). The paper also
    blurs the training pictures, and no others: `MoEClassifier(train_transform=paper_blur)`.

    Parameters
    ----------
    crop : int or pair (height, width), default=24
        Size of what is cut out, see `CenterCropResize`. With 24, pictures rotated by 30 degrees
        keep black corners, which tell them from the others; with 22 they do not.

    size : int or pair (height, width), default=32
        Size of the result.

    blur : bool, default=False
        Whether to blur all pictures ("blur", in the end: blurring and scaling commute), those of
        prediction included.

    scaler : {"paper", "fit"}, default="paper"
        Mean and standard deviation of the channels: "paper" are its constants (.4914, .4822,
        .4465) and (.2023, .1994, .2010), "fit" those of the pictures given to `fit`.

    random_state : int, RandomState instance or None, default=None
        Determines the blur.

    batch_size : int, default=256
        Pictures worked on at once.

    device : str or torch.device, default="cpu"
        Where to compute.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        The pipeline, not fitted.

    See Also
    --------
    paper_blur : The paper's blur, for training only.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import cifar10_features, paper_blur
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(256, size=(40, 3, 32, 32), dtype=np.uint8)
    >>> y = rng.integers(2, size=40)
    >>> clf = MoEClassifier(
    ...     n_experts=2, expert="cnn", train_transform=paper_blur, max_iter=2, tol=None,
    ...     random_state=0)
    >>> model = make_pipeline(cifar10_features(), clf).fit(X, y)
    >>> model[:-1].transform(X).shape
    (40, 3, 32, 32)
    """
    options = {"batch_size": batch_size, "device": device}
    mean, std = (_MEAN, _STD) if scaler == "paper" else (None, None)
    steps = [
        ("crop", CenterCropResize(crop, size, **options)),
        ("scale", ImageScaler(mean, std, **options)),
    ]
    if blur:  # behind the scaler, where pictures are floats: bytes would be rounded once more
        steps.append(("blur", GaussianBlur(random_state=random_state, **options)))
    return Pipeline(steps)
