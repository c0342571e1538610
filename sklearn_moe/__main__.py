"""Say what there is: `python -m sklearn_moe`."""

from ._version import __version__

_TEXT = """\
sklearn_moe {version}: a mixture of experts as a scikit-learn estimator.

    from sklearn_moe import MoEClassifier, MoERegressor
    MoEClassifier().fit(X, y)

Commands:
    python -m sklearn_moe.paper demo      setting 1 of the paper, beside its numbers
    python -m sklearn_moe.paper list      the other experiments
    python -m sklearn_moe.paper --help    how they are run"""

if __name__ == "__main__":
    print(_TEXT.format(version=__version__))
