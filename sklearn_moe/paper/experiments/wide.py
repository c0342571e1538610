"""Wide single experts from other seeds, beside the notebooks' one run."""

from .._experiment import Experiment, Finding
from .._published import SINGLES
from .models import ACTIVATION, problem, single

__all__ = ["wide"]

_FILTERS = 512
_SETTINGS = (1, 2)


def wide(protocol="code", data="fixed"):
    """Return single experts of 512 filters, each run on a problem of its own."""
    models = {
        activation: single(nonlinear, _FILTERS) for nonlinear, activation in ACTIVATION.items()
    }
    return Experiment(
        name="wide",
        title="Wide single experts from other seeds",
        question=(
            "The notebooks recorded one run of each single expert. How far do runs of 512 filters "
            "differ that vary the problem and the initialization?"
        ),
        problems=tuple(problem(setting, "fresh") for setting in _SETTINGS),
        models=models,
        max_runs=3,
        published={
            (setting, activation): SINGLES[setting, activation, _FILTERS]
            for setting in _SETTINGS
            for activation in models
        },
        measures=("accuracy", "train_accuracy"),
        findings=_findings,
    )


def _findings(results):
    """Yield the range of the runs beside the recorded run."""
    for cell in results.cells:
        values, recorded = cell.values("accuracy"), cell.published.accuracy
        low, high = values.min(), values.max()
        where = "among" if low <= recorded <= high else "below" if recorded < low else "above"
        yield Finding(
            f"Setting {cell.labels['setting']}, {cell.labels['model']}: {len(values)} runs reach "
            f"{low:.2f} to {high:.2f} % (training samples "
            f"{cell.summary('train_accuracy').mean:.2f} %); the recorded {recorded:.2f} % lies "
            f"{where} them."
        )
