"""The defaults are no worse than the ledger has them."""

import pytest
from ledger import blocks, compare, load, verdicts
from tasks import TASKS

FAMILIES = {name.partition(":")[0]: [] for name in TASKS}
for name in TASKS:
    FAMILIES[name.partition(":")[0]].append(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_loss_is_worse_than_the_stored_one(family):
    """If it is meant to be: python tests/quality/ledger.py --store, and the commit says why."""
    stored = load()
    changes = {name: compare(blocks(TASKS[name]), stored[name]) for name in FAMILIES[family]}
    assert [*verdicts(changes)] == []


def test_what_is_worse_is_told_from_chance():
    def judge(*found):
        return len([*verdicts({k: compare(blocks, [1, 1, 1]) for k, blocks in enumerate(found)})])

    assert judge([1, 1, 1], [0.9, 0.9, 0.9]) == judge([1.02, 1.019, 1.02], [1, 1, 0.99]) == 0
    assert judge([1, 1.2, 0.99]) == 0  # by less than two errors
    assert judge([1.04, 1.05, 1.04], [0.9, 0.9, 0.9]) == 1
    assert judge([1.02, 1.021, 1.02], [1.021, 1.02, 1.02]) == 1  # the family
    assert judge([1, float("nan"), 1], [0.9, 0.9, 0.9]) == 2
