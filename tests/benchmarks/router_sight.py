"""What routers see of CIFAR-10: the information of expert and class, beside its null.

    python tests/benchmarks/router_sight.py [--data PATH] [--subset N] [--epochs N] [--seeds N]
        [ROUTER ...]

Mixtures of four, trained with shifted and mirrored images, are measured on the 10,000 test images.
PATH is a folder with train/<class>/*.jpg and test/<class>/*.jpg, or an .npz with X_train, y_train,
X_test and y_test; without it the images are fetched. --subset takes so many random images to train
on, other ones for each seed. Prints two Markdown tables, means over the seeds with 95 % intervals:
what the selected expert tells about the class, and what its choice follows. Shares of H(expert)
say little where one expert gets almost all. A line per fit goes to stderr.
"""

import sys
from collections import Counter
from typing import NamedTuple

import numpy as np
from measure import command, load_images, print_table, quiet, shown

from sklearn_moe import MoEClassifier
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import expert_load, image_properties, split_information
from sklearn_moe.metrics._split import above_null
from sklearn_moe.paper._statistics import mean_interval
from sklearn_moe.preprocessing import RandomCropFlip

N_EXPERTS = 4
PIXELS = {"expert": "cnn", "trunk": None, "router": "top1"}  # experts are whole networks
ROUTERS = {  # name in the tables, parameters
    "linear": ("linear, on pixels, top1", PIXELS | {"router__network": "linear"}),
    "trunk-soft": ("linear, behind the trunk, soft (default)", {}),
    "trunk-top1": ("linear, behind the trunk, top1", {"router": "top1"}),
}
CLASS_HEADER = (
    *("router", "accuracy %", "I(expert; class), nats", "null", "% of H(expert)"),
    *("H(expert), nats", "beyond chance", "loads %"),
)


class Outcome(NamedTuple):
    """What one fit came to, on the test images."""

    accuracy: float  # percent
    load: str  # of every expert in percent, the largest first
    split: dict  # SplitInformation by property


def run(router, seed, images, properties, options):
    """Fit a mixture and measure its routes."""
    X, y, X_test, y_test = images
    rows = np.random.default_rng(seed).permutation(len(X))[: options.subset]
    clf = MoEClassifier(
        N_EXPERTS,
        max_iter=options.epochs or "auto",
        batch_size=128,
        train_transform=RandomCropFlip(),
        random_state=seed,
    ).set_params(**ROUTERS[router][1])
    quiet(clf.fit, X[rows], y[rows], ignored=ExpertCollapseWarning)  # the loads tell
    experts = clf.apply(X_test)
    load = 100 * np.sort(expert_load(experts, n_experts=N_EXPERTS))[::-1]
    outcome = Outcome(
        100 * clf.score(X_test, y_test),
        "/".join(f"{share:.0f}" for share in load),
        {
            name: split_information(groups, experts, random_state=seed)
            for name, groups in ({"class": y_test} | properties).items()
        },
    )
    print(f"{router}, seed {seed}: {outcome}", file=sys.stderr)
    return outcome


def interval(values, digits):
    """Return mean and 95 % interval as text, the mean alone of one value."""
    return shown(mean_interval(list(values)), digits, sign="")


def class_row(router, outcomes):
    """Return what the experts of one router tell about the class."""
    told = [outcome.split["class"] for outcome in outcomes]
    return (
        ROUTERS[router][0],
        interval((outcome.accuracy for outcome in outcomes), 2),
        interval((one.information for one in told), 4),
        f"{np.mean([one.null_mean for one in told]):.4f}",
        interval((100 * one.share for one in told), 1),
        interval((one.expert_entropy for one in told), 3),
        f"{sum('class' in above_null(outcome.split) for outcome in outcomes)} of {len(outcomes)}",
        ", ".join(outcome.load for outcome in outcomes),
    )


def split_row(router, outcomes):
    """Return what the split of one router follows most, and the shares of all properties."""
    follows = (above_null(outcome.split) for outcome in outcomes)  # the largest share first
    most = Counter(next(iter(found), "nothing") for found in follows)
    shares = (
        interval((100 * outcome.split[name].share for outcome in outcomes), 1)
        for name in outcomes[0].split
    )
    return ROUTERS[router][0], ", ".join(f"{name} {n}" for name, n in most.most_common()), *shares


def main():
    """Fit every router with every seed, and print what they see."""
    parser = command(__doc__, ROUTERS)
    parser.add_argument("--data", metavar="PATH", help="folder or .npz")
    parser.add_argument("--subset", type=int, metavar="N", help="images to train on")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    images = load_images(options.data)
    properties = image_properties(images[2])
    outcomes = {router: [] for router in options.rows}
    for seed in range(options.seeds):
        for router, found in outcomes.items():
            found.append(run(router, seed, images, properties, options))
    print(f"{len(images[0][: options.subset]):,} images to train on, {options.seeds} seeds\n")
    print_table(CLASS_HEADER, (class_row(*item) for item in outcomes.items()))
    print("\nShare of H(expert) that a property tells, null left out, in %:\n")
    header = ("router", "follows most, seeds", "class", *properties)
    print_table(header, (split_row(*item) for item in outcomes.items()))


if __name__ == "__main__":
    main()
