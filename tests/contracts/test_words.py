"""The words of the library: those of the field, and not those that were once its own."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Ordinary English outside of code, where they named things.
IN_CODE = "answers? draft pace paces perturb settle shown_to judge look_at_weights".split()
ANYWHERE = """
pictures? n_united united forward_apart listeners hears_batches add_up ConnectedRanks SelectedRows
knock_out expert_swap blind_error blind_score linear_view try_out Preset preset_of per_norm
hide_rows hide_at_random set_pace saying_what_to_lower repeats_itself
""".split()


def files(*folders):
    """Yield the files that people write; results are kept as they were computed."""
    made = {"_build", "api", "auto_examples", "results", "CHANGELOG.md", "changelog.md"}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*"))):
        is_text = path.suffix in (".py", ".rst", ".md")
        if is_text and made.isdisjoint(path.relative_to(ROOT).parts):
            yield path


def test_words_of_the_field_are_used():
    found = []
    for words, folders in (
        (ANYWHERE, ("sklearn_moe", "docs", "examples")),
        (IN_CODE, ["sklearn_moe"]),
    ):
        pattern = re.compile(rf"\b({'|'.join(words)})\b")
        for path in files(*folders):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if match := pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)
