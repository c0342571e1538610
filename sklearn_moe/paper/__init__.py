"""The experiments of "Towards Understanding the Mixture-of-Experts Layer in Deep Learning".

Chen, Deng, Wu, Gu, Li, NeurIPS 2022. `python -m sklearn_moe.paper` runs them.
"""

from ._experiment import Experiment, Finding, Results
from ._protocols import NotebookStopping, paper_classifier
from ._published import TABLE_1
from ._report import write_report
from ._run import Problem
from ._runner import run_experiment
from .experiments import EXPERIMENTS, get_experiment

__all__ = [
    "EXPERIMENTS",
    "TABLE_1",
    "Experiment",
    "Finding",
    "NotebookStopping",
    "Problem",
    "Results",
    "get_experiment",
    "paper_classifier",
    "run_experiment",
    "write_report",
]
