"""The experiments of "Towards Understanding the Mixture-of-Experts Layer in Deep Learning".

Chen, Deng, Wu, Gu, Li, NeurIPS 2022. `python -m sklearn_moe.paper` runs them.
"""

from ._protocols import NotebookStopping, paper_classifier
from ._published import TABLE_1, Published

__all__ = ["TABLE_1", "NotebookStopping", "Published", "paper_classifier"]
