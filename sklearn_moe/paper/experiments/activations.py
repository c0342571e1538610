"""The activation check: no nonlinearity lets a single expert solve the problem."""

from .._experiment import Experiment, Finding
from .._published import ACTIVATIONS
from .models import KINDS, problem, single_with
from .tables import explain_outside

__all__ = ["activations"]

_SETTINGS = ("verify", 1, 2)
_BOUND = 87.5  # %, Theorem 4.1


def activations(protocol="code", data="fixed"):
    """Return single experts of 128 filters with six activations; the protocol is the code's."""
    models = {activation: single_with(activation) for activation in KINDS}
    return Experiment(
        name="activations",
        title="Single experts with other activations",
        question=(
            "Theorem 4.1: where alpha and gamma have one distribution (setting verify), a single "
            "expert that sums over patches is wrong on at least 1/8 of the samples, whatever its "
            "activation. Settings 1 and 2 are not covered by it, but the authors find the same. "
            "One run each, 128 filters, Adam."
        ),
        problems=tuple(problem(setting, data) for setting in _SETTINGS),
        models=models,
        once=tuple(models),
        published=ACTIVATIONS,
        measures=("accuracy", "train_accuracy", "hard_accuracy"),
        findings=_findings,
    )


def _findings(results):
    """Yield whether the bound holds, then a reason for what lies outside."""
    for setting in _SETTINGS:
        cells = results.select(setting=setting)
        best = max(cells, key=lambda cell: cell.summary("accuracy").mean)
        accuracy = best.summary("accuracy").mean
        yield Finding(
            f"Setting {setting}: no activation gets past {_BOUND} % "
            f"(best: {best.labels['model']}, {accuracy:.2f} %).",
            accuracy <= _BOUND,
        )
    yield from explain_outside(results)
