"""What routers see of CIFAR-10: the information of expert and class, beside its null.

    python tests/benchmarks/router_sight.py [--data PATH] [--subset N] [--epochs N] [--seeds N]
        [--threads N] [ROUTER ...]

Mixtures of four, trained with shifted and mirrored pictures, are looked at on the 10,000 test
pictures. PATH is a folder with train/<class>/*.jpg and test/<class>/*.jpg, or an .npz with X_train,
y_train, X_test and y_test; without it the pictures are fetched. --subset takes so many random
pictures to train on, other ones for each seed. Prints two Markdown tables, means over the seeds
with 95 % intervals: what the expert that answers tells about the class, and what its choice
follows. Shares of H(expert) say little where one expert answers almost all. A line per fit goes to
stderr.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from measure import print_table
from pictures import load_pictures
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import expert_load, image_properties, split_information
from sklearn_moe.metrics._split import above_null
from sklearn_moe.paper._statistics import mean_interval
from sklearn_moe.preprocessing import RandomCropFlip

N_EXPERTS = 4
PIXELS = {"expert": "cnn", "trunk": None, "router": "top1"}  # experts are whole networks
ROUTERS = {
    "linear": PIXELS | {"router_network": "linear"},
    "cnn": PIXELS | {"router_network": "cnn", "balance": "switch", "balance_weight": 0.1},
    "trunk-soft": {},  # the default
    "trunk-top1": {"router": "top1"},
}
NAMES = {
    "linear": "linear, on pixels, top1",
    "cnn": "cnn, on pixels, top1, balanced",  # one expert would answer all
    "trunk-soft": "linear, behind the trunk, soft (default)",
    "trunk-top1": "linear, behind the trunk, top1",
}


class Outcome(NamedTuple):
    """What one fit came to, on the test pictures."""

    accuracy: float  # percent
    load: np.ndarray  # percent, the largest first
    split: dict  # SplitInformation by property
    collapsed: bool
    seconds: float

    @property
    def follows(self):
        """Return what the split follows beyond chance, the largest share first."""
        return above_null(self.split)


def run(router, seed, pictures, properties, options):
    """Fit a mixture and look at its routes."""
    X, y, X_test, y_test = pictures
    rows = np.random.default_rng(seed).permutation(len(X))[: options.subset]
    clf = MoEClassifier(
        N_EXPERTS,
        **ROUTERS[router],
        max_iter="auto" if options.epochs is None else options.epochs,
        batch_size=128,
        train_transform=RandomCropFlip(),
        precision="bf16",
        device=options.device,
        random_state=seed,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExpertCollapseWarning)
        start = time.perf_counter()
        clf.fit(X[rows], y[rows])
        elapsed = time.perf_counter() - start
    experts = clf.apply(X_test)
    split = {
        name: split_information(groups, experts, random_state=seed)
        for name, groups in ({"class": y_test} | properties).items()
    }
    return Outcome(
        100 * clf.score(X_test, y_test),
        100 * np.sort(expert_load(experts, n_experts=N_EXPERTS))[::-1],
        split,
        any(issubclass(warning.category, ExpertCollapseWarning) for warning in caught),
        elapsed,
    )


def loads(outcome):
    """Return the load of every expert as text."""
    return "/".join(f"{share:.0f}" for share in outcome.load)


def log(router, seed, outcome):
    """Tell of a fit as soon as it is there."""
    told = outcome.split["class"]
    print(
        f"{router}, seed {seed}: accuracy {outcome.accuracy:.2f}, class {told.information:.4f} "
        f"(null {told.null_mean:.4f}), follows {outcome.follows}, load {loads(outcome)}, "
        f"{outcome.seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def interval(values, digits):
    """Return mean and 95 % interval as text, the mean alone of one value."""
    mean, low, high = mean_interval(list(values))
    ends = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{mean:.{digits}f}{ends}"


CLASS_HEADER = (
    "router",
    "accuracy %",
    "I(expert; class), nats",
    "null",
    "% of H(expert)",
    "H(expert), nats",
    "beyond chance",
    "loads %",
    "collapse warnings",
    "fit s",
)


def class_row(router, outcomes):
    """Return what the experts of one router tell about the class."""
    told = [outcome.split["class"] for outcome in outcomes]
    return (
        NAMES[router],
        interval((outcome.accuracy for outcome in outcomes), 2),
        interval((one.information for one in told), 4),
        f"{np.mean([one.null_mean for one in told]):.4f}",
        interval((100 * one.share for one in told), 1),
        interval((one.expert_entropy for one in told), 3),
        f"{sum('class' in outcome.follows for outcome in outcomes)} of {len(outcomes)}",
        ", ".join(map(loads, outcomes)),
        sum(outcome.collapsed for outcome in outcomes),
        f"{np.median([outcome.seconds for outcome in outcomes]):.0f}",
    )


def split_row(router, outcomes):
    """Return what the split of one router follows most, and the shares of all properties."""
    most = Counter(next(iter(outcome.follows), "nothing") for outcome in outcomes)
    shares = (
        interval((100 * outcome.split[name].share for outcome in outcomes), 1)
        for name in outcomes[0].split
    )
    return NAMES[router], ", ".join(f"{name} {n}" for name, n in most.most_common()), *shares


def main():
    """Fit every router with every seed, and print what they see."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("routers", nargs="*", metavar="ROUTER", help=f"of {', '.join(ROUTERS)}")
    parser.add_argument("--data", metavar="PATH", help="folder or .npz")
    parser.add_argument("--subset", type=int, metavar="N", help="pictures to train on")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if unknown := set(options.routers) - set(ROUTERS):
        parser.error(f"unknown routers {sorted(unknown)}, choose from {list(ROUTERS)}")
    torch.set_num_threads(options.threads)
    pictures = load_pictures(options.data)
    properties = image_properties(pictures[2])
    outcomes = {router: [] for router in options.routers or ROUTERS}
    with threadpool_limits(options.threads):
        for seed in range(options.seeds):
            for router, found in outcomes.items():
                found.append(run(router, seed, pictures, properties, options))
                log(router, seed, found[-1])
    n_train, n_test = len(pictures[0][: options.subset]), len(pictures[2])
    print(
        f"{n_train:,} pictures to train on, {n_test:,} to look at, {options.seeds} seeds, "
        f"{options.threads} threads\n"
    )
    print_table(CLASS_HEADER, (class_row(*item) for item in outcomes.items()))
    print("\nShare of H(expert) that a property tells, null left out, in %:\n")
    header = ("router", "follows most, seeds", "class", *properties)
    print_table(header, (split_row(*item) for item in outcomes.items()))


if __name__ == "__main__":
    main()
