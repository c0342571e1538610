"""A deep set: what a bag of patches is given to when nothing is known of its clusters."""

from torch import Tensor, nn

__all__ = ["DeepSet"]


class DeepSet(nn.Module):
    """One network on every patch, the sum of its answers, and a second network on that [1]_.

    In contrast to the paper's expert, which is a sum over patches as well, it has a learned
    readout: the sign of one patch can depend on what another one is. As the `expert` of a
    MoEClassifier with `n_experts=1` it is an estimator.

    Parameters
    ----------
    input_shape : (n_patches, patch_size)
    n_outputs : int
    width : int, default=100
        Units of both hidden layers, as in scikit-learn's MLPClassifier.

    References
    ----------
    .. [1] M. Zaheer et al., "Deep Sets", NeurIPS 2017.
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, *, width: int = 100):
        super().__init__()
        self.patch = nn.Sequential(nn.Linear(input_shape[1], width), nn.ReLU())
        self.readout = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_outputs)."""
        return self.readout(self.patch(x).sum(1))
