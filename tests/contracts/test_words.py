"""The words of the library: those of the field, and not those that were once its own."""

import re

from house import ROOT

# Ordinary English in examples, but they once named things in code and pages.
NAMES = """
answers? pace paces perturb settles? shown_to judges? look_at_weights haste calm ALONE
""".split()
ANYWHERE = ["pictures?", "united", "listeners"]
WORDS = {
    "sklearn_moe": [*NAMES, *ANYWHERE],
    "docs": [*NAMES, *ANYWHERE, "apart", "swaps?", "swapped"],
    "examples": ANYWHERE,
}
MADE = {"_build", "api", "auto_examples", "results"}  # results are kept as they were computed


def test_words_of_the_field_are_used():
    found = []
    for folder, words in WORDS.items():
        pattern = re.compile(rf"\b(?:{'|'.join(words)})\b")
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix in (".py", ".rst", ".md") and MADE.isdisjoint(path.parts):
                found += [f"{path}: {word}" for word in pattern.findall(path.read_text())]
    assert not found, "\n".join(found)
