"""The words of the library: those of the field, and not those that were once its own."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Ordinary English in examples, but they once named things in code and pages.
NAMES = """
answers? draft pace paces perturb settles? shown_to judges? look_at_weights haste calm ALONE
""".split()
ON_PAGES = [*NAMES, "apart", "swaps?", "swapped"]
ANYWHERE = ["pictures?", "united", "listeners"]
# Phrases of pages at which a reader stops, each with the plain one.
PHRASES = {
    "who answers": "which expert handles the sample",
    "all that counts": "when training speed matters most",
    "by heart": "overfits",
    "needs? a hand": "rarely needs tuning",
    "[Ss]ay the seeds": "report the seeds",
    "bytes or floats": "uint8 or float arrays",
    "(by )?the own( expert)?": "the sample's own expert",
    "null: ": "baseline: ",
    "sets of patches": "bags of patches",
    "takes all of them, and long": "runs them all, which takes a while",
    "(put )?a scaler in front": "add a scaler first",
    "(written for GPUs|has not run on one)": "GPU support is untested",
}
TITLES = "Numbers", "Shapes of X", "Pictures", "Say the seeds"


def files(*folders):
    """Yield the files that people write; results are kept as they were computed."""
    made = {"_build", "api", "auto_examples", "results"}
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*")))
    for path in (*paths, *ROOT.glob("*.md")):
        is_text = path.suffix in (".py", ".rst", ".md")
        if is_text and made.isdisjoint(path.relative_to(ROOT).parts):
            yield path


def hits(pattern, *folders):
    """Return the places of a pattern."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in files(*folders)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_words_of_the_field_are_used():
    found = []
    for words, folders in (
        (ANYWHERE, ("sklearn_moe", "docs", "examples")),
        (NAMES, ["sklearn_moe"]),
        (ON_PAGES, ["docs"]),
        (PHRASES, ("sklearn_moe", "docs", "examples")),
    ):
        found += hits(re.compile(rf"\b({'|'.join(words)})\b"), *folders)
    found += hits(re.compile(rf"^(# )?({'|'.join(TITLES)})$"), "docs", "examples")
    assert not found, "\n".join(found)
