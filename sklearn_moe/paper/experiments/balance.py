"""Load balancing and what it changes."""

from .._experiment import Experiment, Finding
from .._published import BALANCE
from .models import ACTIVATION, TRACE, mixture, problem
from .tables import explain_outside

__all__ = ["balance"]

_LITTLE = 1.0  # points of accuracy


def balance(protocol="code", data="fixed"):
    """Return setting 1 with and without the load-balancing loss."""
    return Experiment(
        name="balance",
        title="Load balancing on setting 1",
        question=(
            "The paper reports that a load-balancing loss, M^2 mean_m(P_m f_m), changes little: "
            "the noise of the router balances already. The weight of the loss is 0.01, that of the "
            "authors' code for pictures; for this problem it is not published."
        ),
        problems=(problem(1, data),),
        models={f"mixture {ACTIVATION[n]}": mixture(protocol, n) for n in (False, True)},
        grid={"balance": [None, "switch"]},
        published={
            (1, f"mixture {ACTIVATION[nonlinear]}", "switch" if balanced else None): published
            for (nonlinear, balanced), published in BALANCE.items()
        },
        trace=TRACE,
        findings=_findings,
    )


def _findings(results):
    """Yield what the loss does to accuracy and load."""
    for model in results.experiment.models:
        off, on = (results.cell(model=model, balance=b) for b in (None, "switch"))
        change = on.interval("accuracy", minus=off.values("accuracy"))  # paired by seed
        yield Finding(
            f"{model.capitalize()}: balancing changes the accuracy by less than {_LITTLE:g} point; "
            f"it changes by {change.mean:+.2f} points ({change.text(2)}).",
            change.within(_LITTLE),
        )
        least = [100 * cell.values("load").min(1).mean() for cell in (off, on)]
        yield Finding(
            f"{model.capitalize()}: the least used expert answers {least[0]:.1f} % of the samples "
            f"without balancing and {least[1]:.1f} % with it."
        )
    yield from explain_outside(results)
