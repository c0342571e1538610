"""Where and how often a fit keeps what it needs to go on after it was stopped."""

import os
from dataclasses import dataclass

__all__ = ["FitCheckpoint"]


@dataclass(frozen=True)
class FitCheckpoint:
    """A value of the parameter `checkpoint` that says how often, too.

    Parameters
    ----------
    path : str or os.PathLike
        A file, or a folder that holds a file for every fit. A path without a suffix is a folder.
    every : float, default=60.0
        Seconds between two writes, at least; there is one at the end of training in any case.
        0 writes after every epoch.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.checkpoints import FitCheckpoint
    >>> clf = MoEClassifier(checkpoint=FitCheckpoint("runs", every=600))
    """

    path: str | os.PathLike
    every: float = 60.0

    def __post_init__(self):
        if not os.fspath(self.path):
            raise ValueError("checkpoint must be the path of a file or folder, got ''.")
        if not self.every >= 0:
            raise ValueError(f"every must be at least 0 seconds, got {self.every!r}.")

    @classmethod
    def of(cls, checkpoint):
        """Return a checkpoint as it is, and one with the defaults for a path.

        Parameters
        ----------
        checkpoint : str, os.PathLike or FitCheckpoint
            A path, or a checkpoint.

        Returns
        -------
        FitCheckpoint
        """
        return checkpoint if isinstance(checkpoint, cls) else cls(checkpoint)
