"""Multilingual sentiment: whether mixtures divide texts by language, and what they gain."""

from itertools import product

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from ..._estimators.classifier import MoEClassifier
from .._protocols import expert
from .._text_runs import CORPORA, FEATURES, MOST, PACKAGES, PerLanguage, TextRun, Texts
from .common import better, experiment
from .drawing import draw_dispatch, draw_rows, labelled, legend, panels

_TRAINING = {  # of the paper; a text is one patch
    "expert": expert("patch_conv", 0.001),
    "batch_size": 512,
    "learning_rate_init": 0.001,
    "sample_shape": (1, -1),
    "solver": "normalized_sgd",
    "solver__momentum": 0.9,
    "solver__schedule": "constant",
    "solver__weight_decay": 5e-4,
    "tol": None,
}
_KINDS = {  # of experts: a function per class, or hidden units
    "cubic": {"activation": "cubic", "expert_width": 1, "max_iter": 300},  # the paper's
    "linear": {"activation": "linear", "expert_width": 1, "max_iter": 60},
    "ReLU": {
        **{"activation": "relu", "expert_width": 16, "max_iter": 60},
        "expert": expert("patch_conv", 0.3),  # units that start at 0 would stay there
    },
}
_BALANCED = {"n_experts": 4, "balance": "switch", "balance__weight": 0.1}
_SLOW = "mixture, slow router"
_ROUTERS = {
    "network": {"n_experts": 1},
    "mixture": _BALANCED | {"router__learning_rate": 0.1},  # the paper's
    _SLOW: _BALANCED | {"router__learning_rate": 0.003},
}
_ONE, _TOLD = "one logistic regression", "one per language"
_NETWORK = "network (library)"
_DENSE = ("SVD 256", "SVD 64", "projection 256")  # settings that all models have


def _trained(kind, router):
    """Return a model with the training of the paper."""
    return MoEClassifier().set_params(**_TRAINING | _KINDS[kind] | _ROUTERS[router])


def _models():
    """Return the models by name."""
    strengths = {"C": [0.001, 0.01, 0.1, 1, 10]}
    regression = GridSearchCV(LogisticRegression(max_iter=1000), strengths, cv=3)
    return {
        _ONE: regression,
        _TOLD: PerLanguage(regression),
        _NETWORK: MoEClassifier(1),
        "soft mixture (library)": MoEClassifier(4),
        **{f"{k} {r}": _trained(k, r) for k, r in product(_KINDS, _ROUTERS)},
        "ReLU network, wide": _trained("ReLU", "network").set_params(expert_width=64),
    }


def sentiment(protocol="code", data=None, *, folder=None):
    """Return single networks and mixtures on texts; `protocol` and `data` change nothing.

    Do experts divide the languages, and what does it gain? Reviews in four languages, positive or
    not, in place of the paper's texts (English, French, Russian), on which one network has 74.13 %
    and a mixture of four 76.22 % (quoted). Features are made of character n-grams of the training
    texts. At most {most:,} texts of a language, drawn and split anew for each seed, a quarter of
    them for the test. Dispatch entropy is that of the languages of test texts, 1.32 nats at most.
    Networks and mixtures are trained as in the paper; a slow router has a rate of 0.003 in place of
    0.1, chosen on seeds 100 to 102. A network is one expert, a wide one as large as four. Those of
    the library are its defaults for tables. One logistic regression per language is told the
    language. Intervals, of gains seed by seed, are not corrected for their number. The figure shows
    runs and their means, and the languages of each expert.
    """
    models = _models()
    problems = {setting: Texts(setting, folder) for setting in FEATURES}
    slow = {f"{kind} {_SLOW}" for kind in _KINDS}
    only = {p: slow for setting, p in problems.items() if setting not in _DENSE}
    only[problems["all n-grams"]] = {_ONE, _TOLD}
    return experiment(
        sentiment,
        "Multilingual sentiment",
        {"most": 2 * MOST},
        problems=tuple(problems.values()),
        models=models,
        only=only,
        n_runs=5,
        measures=("accuracy", "train_accuracy", "test_entropy", "fit_seconds"),
        kept=("by_language", "dispatch", "load", "n_train", "n_test"),
        run=TextRun,
        draw=_draw,
        findings=_findings,
    )


def add_arguments(parser):
    """Add what this experiment alone can be asked for."""
    parser.set_defaults(runs=5, jobs=1, protocol="code")
    text = f"with {' and '.join(PACKAGES)} as .tar.gz"
    parser.add_argument("--data", dest="folder", metavar="FOLDER", required=True, help=text)


def _findings(results):
    """Yield what there is to gain, what mixtures gain, and whether they divide the languages."""
    for setting in results.settings:
        cells = results.by("model", setting=setting)
        if _ONE in cells:
            yield _gain(setting, cells, _TOLD, _ONE)._replace(holds=None)
        for kind in _KINDS:
            if f"{kind} network" in cells:
                yield _gain(setting, cells, f"{kind} {_SLOW}", f"{kind} network")
        if _NETWORK in cells:  # the best one by the test texts, which favors it
            singles = {name: c for name, c in cells.items() if not c.has("dispatch")}
            del singles[_TOLD]
            best = max(singles, key=lambda name: singles[name].mean("accuracy"))
            yield _gain(setting, cells, f"ReLU {_SLOW}", f"{best}, the best single model", best)


def _gain(setting, cells, model, named, other=None):
    """Return by how much a model is better than another one, seed by seed."""
    text = f"{setting}: {model} is better than {named}:"
    return better(text, cells[model], cells[other or named], sign="+")


def _draw(results):
    """Draw the accuracy of all models, and the languages of the experts of two mixtures."""
    figure, ((ax, *others),) = panels(1, 3, (13, 4.6), width_ratios=(2.2, 1, 1))
    draw_rows(ax, {s: results.by("model", setting=s) for s in _DENSE}, "accuracy")
    for other, name in zip(others, ("cubic mixture", f"linear {_SLOW}"), strict=True):
        draw_dispatch(other, results.cell(setting="SVD 256", model=name))
        other.set(title=f"{name},\nSVD 256, first run", ylabel="", yticklabels=CORPORA)
    return legend(figure, labelled(ax), title="dots: runs, bars: their mean")
