"""Tables of single experts and mixtures: Table 1, the appendix, and the checks beside them."""

from dataclasses import replace

from .._experiment import Finding
from .._protocols import paper_classifier
from .._published import ACTIVATIONS, NOTEBOOK, SINGLES
from .._statistics import mean_interval
from .bound import LIMITS
from .common import (
    ACTIVATION,
    KINDS,
    TRACE,
    better,
    default,
    experiment,
    explain_outside,
    problems,
    published_mixtures,
    single,
    single_with,
)


def table1(protocol="code", data="fixed"):
    """Return settings 1 and 2."""
    return _table("table1", "Table 1: settings 1 and 2", (1, 2), protocol, data)


def appendix(protocol="code", data="fixed"):
    """Return settings 3 and 4."""
    return _table("appendix", "Appendix: settings 3 and 4", (3, 4), protocol, data)


def _table(name, title, settings, protocol, data):
    """Return single experts and mixtures on two settings.

    Does a mixture of experts learn what a single expert cannot, and does it need nonlinear experts
    for that? Dispatch entropy of the training samples, in nats, at most log 4 = 1.386. Single
    experts are trained by Adam and once, as in the authors' notebooks. The mixtures named default
    are this library's, with nothing chosen but the activation.
    """
    singles, models, published = {}, {}, published_mixtures(settings)
    for nonlinear, activation in ACTIVATION.items():
        for filters in (80, 128, 512):
            label = f"single {activation}, {filters} filters"
            singles[label] = single(nonlinear, filters)
            published |= {(s, label): SINGLES[s, activation, filters] for s in settings}
        models[f"mixture {activation}"] = paper_classifier(protocol, nonlinear)
        models[f"mixture {activation}, default"] = default(nonlinear)
    return experiment(
        _table,
        title,
        name=name,
        problems=problems(settings, data),
        models=singles | models,
        once=tuple(singles),
        published=published,
        trace=TRACE,
        findings=_table_findings,
    )


def _table_findings(results):
    """Yield the paper's claims about the table, then a reason for what lies outside."""
    for setting in results.settings:
        cells = results.by("model", setting=setting)
        means = {model: cell.mean("accuracy") for model, cell in cells.items()}
        best = max((model for model in means if model.startswith("single")), key=means.get)
        cubic, linear = cells["mixture cubic"], cells["mixture linear"]
        yield Finding(
            f"Setting {setting}: the mixture of nonlinear experts ({means['mixture cubic']:.2f} %) "
            f"is better than the best single expert of this table ({means[best]:.2f} %, {best}; "
            "`activations` has other kinds).",
            cubic.interval("accuracy").above(means[best]),
        )
        text = f"Setting {setting}: it is better than the mixture of linear experts, by"
        yield better(text, cubic, linear)
        yield Finding(
            f"Setting {setting}: nonlinear experts specialize, linear ones hardly: entropy "
            f"{cubic.mean('entropy'):.3f} against {linear.mean('entropy'):.3f}, less than half.",
            mean_interval(linear.values("entropy") / 2 - cubic.values("entropy")).above(0),
        )
    yield from explain_outside(results)
    yield from _beside_the_notebook(results)


def _beside_the_notebook(results):
    """Yield where a recorded notebook and the table differ, and on which side we are."""
    for (setting, _, nonlinear), recorded in NOTEBOOK.items():
        for cell in results.select(setting=setting, model=f"mixture {ACTIVATION[nonlinear]}"):
            beside = replace(cell, published=recorded)
            sides = ["inside" if beside.inside(m) else "outside" for m in ("accuracy", "entropy")]
            yield Finding(
                f"Setting {setting}, {cell.labels['model']}: the authors' notebook recorded "
                f"{recorded.accuracy:.2f} ± {recorded.accuracy_std:.2f} % (ours is {sides[0]}) and "
                f"an entropy of {recorded.entropy:.3f} ± {recorded.entropy_std:.3f} (ours is "
                f"{sides[1]})."
            )


def wide(protocol="code", data="fixed"):
    """Return the single experts that lie outside, each run on a problem of its own.

    The notebooks recorded one run of each single expert. Two of the 24, of 512 filters, are not
    within three points of ours. How far do runs differ that vary the problem and the
    initialization?
    """
    filters = 512
    problem, other = problems((1, 2), "fresh")
    only = {problem: {"cubic"}, other: {"linear"}}
    return experiment(
        wide,
        "Wide single experts from other seeds",
        problems=(problem, other),
        models={activation: single(n, filters) for n, activation in ACTIVATION.items()},
        only=only,
        n_runs=3,
        published={(p.setting, a): SINGLES[p.setting, a, filters] for p in only for a in only[p]},
        measures=("accuracy", "train_accuracy"),
        findings=_wide_findings,
    )


def _wide_findings(results):
    """Yield the range of the runs beside the recorded run."""
    for cell in results.cells:
        values, recorded = cell.values("accuracy"), cell.published.accuracy
        low, high = values.min(), values.max()
        where = "among" if low <= recorded <= high else "below" if recorded < low else "above"
        yield Finding(
            f"Setting {cell.labels['setting']}, {cell.labels['model']}: {len(values)} runs reach "
            f"{low:.2f} to {high:.2f} % (training samples {cell.mean('train_accuracy'):.2f} %); "
            f"the recorded {recorded:.2f} % lies {where} them."
        )


def activations(protocol="code", data="fixed"):
    """Return single experts of 128 filters with six activations; the protocol is the code's.

    Theorem 4.1: where alpha and gamma have one distribution (setting verify), a single expert that
    sums over patches is wrong on at least 1/8 of the samples, whatever its activation. Settings 1
    and 2 are not covered by it, but the authors find the same. 128 filters, Adam.
    """
    return experiment(
        activations,
        "Single experts with other activations",
        problems=problems(("verify", 1, 2), data),
        models={activation: single_with(activation) for activation in KINDS},
        n_runs=5,
        published=ACTIVATIONS,
        measures=("accuracy", "train_accuracy", "hard_accuracy"),
        findings=_activations_findings,
    )


def _activations_findings(results):
    """Yield whether the bound holds, then a reason for what lies outside."""
    most = LIMITS["accuracy"]
    for setting in results.settings:
        best = max(results.select(setting=setting), key=lambda cell: cell.mean("accuracy"))
        accuracy = best.interval("accuracy")
        yield Finding(
            f"Setting {setting}: none of these single experts, as trained, gets past {most} % "
            f"(best: {best.labels['model']}, {accuracy.with_mean(2, '%')}).",
            accuracy.below(most),
        )
    yield from explain_outside(results)
