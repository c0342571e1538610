"""The expert for feature vectors."""

from collections.abc import Callable

from torch import nn

from .parts import activation_layer, require_ndim

__all__ = ["MLPExpert"]


class MLPExpert(nn.Sequential):
    """One hidden layer and a learned readout, for samples that are feature vectors.

    Parameters
    ----------
    input_shape : (n_features,)
    n_outputs : int
    width : int, default=100
        Hidden units, as in scikit-learn's MLPClassifier.
    activation : str or callable, default="relu"
    init_scale : float, default=1.0
        Factor on the Glorot-uniform initial weights; biases start at zero.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_outputs: int,
        *,
        width: int = 100,
        activation: str | Callable = "relu",
        init_scale: float = 1.0,
    ):
        require_ndim(input_shape, 1, "mlp", "n_features,")
        super().__init__(
            nn.Linear(input_shape[0], width),
            activation_layer(activation),
            nn.Linear(width, n_outputs),
        )
        for layer in (self[0], self[2]):
            nn.init.xavier_uniform_(layer.weight, gain=init_scale)
            nn.init.zeros_(layer.bias)
