"""The numbers in the documentation are those of the stored results.

Each expected text is made of the results that `python -m sklearn_moe.paper` and
`tests/benchmarks/tables.py` have stored, and has to be on the page.
"""

import csv
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from sklearn_moe.paper._statistics import mean_interval

ROOT = Path(__file__).parents[2]
KINDS = {"nonlinear": "cubic", "linear": "linear"}
PUBLISHED = {  # of the mixtures: what the pages put beside ours
    (1, "nonlinear"): ("99.46 ± .55", ".098 ± .088"),
    (1, "linear"): ("92.99 ± 2.11", "1.300 ± .044"),
    (2, "nonlinear"): ("98.09 ± 1.27", ".171 ± .103"),
    (2, "linear"): ("88.48 ± 1.96", "1.294 ± .036"),
    (3, "nonlinear"): ("99.99 ± .02", ".008 ± .011"),
    (3, "linear"): ("95.93 ± 1.34", "1.160 ± .100"),
    (4, "nonlinear"): ("98.92 ± 1.18", ".089 ± .120"),
    (4, "linear"): ("93.30 ± 1.48", "1.160 ± .155"),
}


@cache
def page(name):
    """Return the words of a page: without signs of markup, no zero before a point."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\\ |:(sub|doc|term):|[*`|;()\\]|^ *\* - | - ", " ", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"(?<![\d.])0(?=\.\d)", "", text).split()).replace(" ,", ",")


@cache
def stored(name):
    path = ROOT / "docs" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def values(name, measure="accuracy", **labels):
    """Return a measure of all runs of the one cell with these labels."""
    (cell,) = (c for c in stored(name)["cells"] if labels.items() <= c["labels"].items())
    return np.array(cell["values"][measure], dtype=float)


def plain(text):
    """Return a number as the pages write it: no zero before the point."""
    return re.sub(r"^(-?)0(?=\.)", r"\1", text)


def number(value, digits):
    return plain(f"{value:.{digits}f}")


def spread(numbers, digits):
    return f"{number(numbers.mean(), digits)} ± {number(numbers.std(ddof=1), digits)}"


def interval(numbers, digits):
    """Return mean and 95 % t-interval."""
    mean, low, high = (number(value, digits) for value in mean_interval(numbers))
    return f"{mean} {low} to {high}"


def found(name, start, pattern):
    """Return what a pattern finds in the one finding that begins so, as the pages write it."""
    (text,) = (f["text"] for f in stored(name)["findings"] if f["text"].startswith(start))
    return [plain(part) for part in re.search(pattern, text).groups()]


def table_of(setting):
    return "table1" if setting in (1, 2) else "appendix"


def ours(setting, kind, folder=""):
    """Return accuracy and entropy of the runs of a mixture, by default by the code's protocol."""
    name = folder + table_of(setting)
    labels = {"setting": setting, "model": f"mixture {KINDS[kind]}"}
    return [values(name, measure, **labels) for measure in ("accuracy", "entropy")]


def of_mixtures(setting, kind):
    """Return accuracy and entropy, ours and published, as the table of measured.md has them."""
    accuracies, entropies = ours(setting, kind)
    accuracy, entropy = PUBLISHED[setting, kind]
    return f"{setting}, {kind} {spread(accuracies, 2)} {accuracy} {spread(entropies, 3)} {entropy}"


def three_times():
    """Yield the rows of the table of paper_results.rst: by the code, by the text, with new data."""
    for (setting, kind), published in PUBLISHED.items():
        found = [
            f"{spread(accuracy, 2)} {spread(entropy, 3)}"
            for folder in ("", "protocol-paper/", "data-fresh/")
            for accuracy, entropy in [ours(setting, kind, folder)]
        ]
        yield " ".join([f"{setting}, {kind}", *published, *found])


def verdicts():
    """Yield how many lines of claims.rst have which verdict, as paper.rst counts them."""
    text = (ROOT / "docs" / "claims.rst").read_text(encoding="utf-8")
    found = re.findall(r"^   \* - \d+\n     - .*?\n     - (.*?)\n     - ", text, re.S | re.M)
    counts = dict.fromkeys(("built", "come out", "in part", "depend", "open", "not run"), 0)
    before = ""
    for verdict in found:
        before = verdict = before if verdict.startswith("the same") else " ".join(verdict.split())
        comes_out = "**holds**" in verdict or "**inside**" in verdict or "within three" in verdict
        if "**done**" in verdict:
            counts["built"] += 1
        elif verdict == "not run":
            counts["not run"] += 1
        elif "**depends**" in verdict:
            counts["depend"] += 1
        elif not comes_out:
            assert verdict.startswith(("**open**", "cannot be decided")), verdict
            counts["open"] += 1
        else:
            partly = re.search(r"outside|\*\*open|fails", verdict)
            counts["in part" if partly else "come out"] += 1
    yield f"Of {len(found)} definitions, claims, numbers and figures"
    yield (
        "{built} are built, {come out} come out, {in part} come out in part, {depend} depend on a "
        "choice that the paper does not name, {open} are open, and {not run} were not run"
    ).format(**counts)


def later():
    """Yield what later.rst says of claims that followed the paper."""
    spans = r"(\S+) % \(95 % interval (\S+) to (\S+)\)"
    tight = [found("tight", f"Setting {s}: the limit of 87.5", spans) for s in (3, "verify")]
    yield "{} % {} to {} on setting 3 and {} % {} to {} on".format(*tight[0], *tight[1])
    below = [
        found("tight", f"Setting {s}: training", r"by hand (\S+) %.*: (\S+) points more")
        for s in (3, "verify", 1, 2)
    ]
    yield f"{below[2][0]} % on setting 1 and {below[3][0]} % on setting 2"
    yield "by {}, {}, {} and {} points".format(*(gap for _, gap in below))
    orders = r"router (\S+) %.*load (\S+) %.*experts (\S+) %.*random (\S+) %"
    gain = r"(\S+) points \(95 % interval (\S+) to (\S+)\)"
    left = "{} % by the router, {} % by load, {} % by the experts, {} % at random"
    for start in ("clusters of one size", "rare clusters"):
        yield left.format(*found("pruning", f"{start}, 4 of 16", orders))
        for other in ("at random", "by load"):
            claim = f"{start}: by the router's norm more is left than {other}"
            yield "{} points {} to {}".format(*found("pruning", claim, gain))
    forgets = r"less: (\S+) against (\S+) points, \+?(\S+) \(95 % interval (\S+) to (\S+)\)"
    stops = [found("continual", f"A router that stops after cycle {n}", forgets) for n in (1, 2, 3)]
    yield "{}, {} and {} points".format(*(stop[0] for stop in stops))
    yield f"{stops[0][1]} without a stop"
    yield ", ".join("{} {} to {}".format(*stop[2:]) for stop in stops)
    ends = r"([+-]\S+) (?:points )?\(95 % interval (\S+) to (\S+)\)"
    for m in (4, 8, 16):
        even = found("loss_free", f"{m} experts: the bias balances", ends)
        right = found("loss_free", f"{m} experts: the bias leaves", ends)
        even, right = ([plain(part.lstrip("+")) for part in parts] for parts in (even, right))
        yield "{} experts: MaxVio {} {} to {}, {} points {} to {}".format(m, *even, *right)
    exponent = r"exponent (\S+) \(95 % interval (\S+) to (\S+)\)"
    for gate in ("softmax", "sigmoid"):
        yield "{} {} {} to {}".format(
            gate, *found("gate_rates", f"The function by {gate}", exponent)
        )
    steeper = r"softmax (\S+) .*sigmoid (\S+) .*steeper by (\S+) \(95 % interval (\S+) to (\S+)\)"
    yield "{} by softmax, {} by sigmoid gates: the sigmoid's is steeper by {} {} to {}".format(
        *found("gate_rates", "Experts are estimated", steeper)
    )
    cosine = r"cosine (\S+) without, (\S+) with it, (\S+) \(95 % interval (\S+) to (\S+)\)"
    for m in (8, 16):
        yield "{} experts {} without, {} with it: {} {} to {}".format(
            m, *found("alike_rows", f"{m} experts: a loss", cosine)
        )


def gains(settings, other):
    """Return what nonlinear mixtures are better by, as differences of all runs."""
    for setting in settings:
        name = table_of(setting)
        cubic = values(name, setting=setting, model="mixture cubic")
        if other == "linear":
            yield cubic - values(name, setting=setting, model="mixture linear")
        else:
            singles = [c for c in stored(name)["cells"] if c["labels"]["setting"] == setting]
            singles = [c for c in singles if c["labels"]["model"].startswith("single")]
            yield cubic - max(np.mean(c["values"]["accuracy"]) for c in singles)


def departures():
    """Yield what linear mixtures lose from the text to the code."""
    totals, steps = [], []
    for setting in (1, 2):
        start = f"Setting {setting}, linear experts"
        totals.append(
            found("departures", f"{start}: from", r"by -(\S+) points .* -(\S+) to -(\S+)\)")
        )
        pattern = r"softmax twice -(\S+) \(.*?p = (\S+)\)"
        steps.append(found("departures", f"{start}, on the path", pattern))
    (one, low, high), (two, low_2, high_2) = totals
    yield (f"{one} points on setting 1 {high} to {low} and {two} on setting 2 {high_2} to {low_2}")
    yield f"costs most: {steps[0][0]} points and {steps[1][0]} p = {steps[0][1]} and"


def claims():
    """Yield what claims.rst says of the experiments."""
    over_single = [number(gain.mean(), 1) for gain in gains((1, 2, 3, 4), "single")]
    yield "by {}, {}, {} and {} points on settings 1 to 4".format(*over_single)
    over_linear = [interval(gain, 1) for gain in gains((1, 2, 3, 4), "linear")]
    yield "by {}, {}, {}, {} points".format(*over_linear)
    for setting, kind in PUBLISHED:
        accuracy, entropy = ours(setting, kind)
        yield f"{spread(accuracy, 2)} %, {spread(entropy, 3)} nats"
    for model in ("linear", "cubic"):
        parts = []
        for form in ("notebook", "switch"):
            accuracy, entropy = (
                values("balance", m, setting=1, model=f"mixture {model}", balance=form)
                for m in ("accuracy", "entropy")
            )
            parts.append(f"{number(accuracy.mean(), 2)} %, {number(entropy.mean(), 3)}")
        yield f"{parts[0]} in the notebooks' form {parts[1]} in ours"
    experts, few = (values("coverage", model=f"{m} experts") for m in (32, 4))
    yield (
        f"{number(experts.mean(), 1)} % with 32, {number(few.mean(), 1)} % with 4: "
        f"{interval(experts - few, 1).replace(' ', ' points ', 1)}"
    )
    start, low, high, chance = found(
        "coverage", "The init", r"(\d+) % \(95 % interval (\d+) to (\d+)\).*; (\d+) % would"
    )
    yield f"{start} % {low} to {high} take the cluster of their strongest feature {chance} % by"
    for part, kinds, digits in (("Router", "centers", 1), ("Experts", "features", 0)):
        ratio = found(
            "innerproducts", f"{part} of the nonlinear", r"are (\S+) times.* (\S+) to (\S+)\)"
        )
        ratio, low, high = (number(float(part), digits) for part in ratio)
        yield f"inner products with {kinds} are {ratio} times {low} to {high}"
    lines = [
        found("simplified", f"Setting {s}: {what} is needed", r"is (\S+) points.* (\S+) to (\S+)\)")
        for what in ("normalization", "noise")
        for s in (1, 2)
    ]
    short = [tuple(number(float(x), 1) for x in line) for line in lines]
    yield "without: {} points {} to {} and {} {} to {} lower".format(*short[0], *short[1])
    yield "{} points {} to {} {} points {} to {}".format(*short[2], *short[3])
    exponent, low, high = found(
        "stages", "Exploration takes", r"exponent (\S+) .* (\S+) to (\S+)\)"
    )
    yield f"exponent {exponent} its interval, {low} to {high}, excludes -1"
    pattern = r"exponent (\S+) .*, or (\S+) .* ones, (\S+), (\S+), (\S+)\. "
    start, later, *local = found("stages", "The router takes", pattern)
    yield (
        f"exponent {start} from the start, {later} without exploration, steeper towards small "
        f"rates {', '.join(local)}"
    )
    yield from theorem()
    yield from figure_3()
    for k, numbers in ((4, (6, 8, 11, 14)), (8, (17, 25, 33)), (16, (44, 89, 133))):
        models = {m: f"K = {k}, {m} experts, slow router" for m in numbers}
        covered = [values("scaling", "covered", setting=3, model=name) for name in models.values()]
        counts = [sum(clusters == k) for clusters in covered]
        yield f"K = {k} by {', '.join(map(str, models))} in {', '.join(map(str, counts))}"
    for more in (whole_networks, sentiment, activations):
        yield from more()
    first = found("stages", "Experts commit", r"factor 100: (\d+ of \d+).*factor 200: (\d+ of \d+)")
    yield "in {} runs up to 100 times the start, in {} at 200 times".format(*first)
    cubic, linear, gap = found(
        "fig1", "At the end", r"entropy (\S+) against (\S+), a difference of (\S+) "
    )
    yield f"entropy {cubic} against {linear} at the end, a difference of {gap}"


def figure_3():
    """Yield the entropies of nonlinear experts beside the authors' record."""
    number = r"(\S+) at step 50, in the authors' record (\S+) \(p = (\S+)\); "
    late = r"(\S+) at step 500, in the authors' record (\S+) \(p = (\S+)\)"
    for setting in (1, 2):
        start = f"Setting {setting}: the entropy of nonlinear experts"
        parts = found("fig3", start, f"is {number}{late}")
        text = "step 50: {}, recorded {} p = {} step 500: {}, recorded {} p = {}"
        yield text.format(*parts)
        form = found("fig3_notebook", start, f"is {number}")
        yield f"{form[0]} at step 50 p = {form[2]} 4 seeds"
    linear = found("fig3", "Setting 2: the entropy of linear experts", f"is {number}")
    yield "at step 50 on setting 2 {}, recorded {} p = {}".format(*linear)


def theorem():
    """Yield what is said of Theorem 4.2: setting 1 and 2, 8 and 16 experts each."""
    cases = [f"Setting {s}, {m}: " for s in (1, 2) for m in ("8 experts", "16 experts, eta / 4")]
    share = r"in (\d+) of 10 runs \(95 % interval (\S+) to (\S+), (\S+) % on average"
    for statement in ("training error", "test error", "at least 99 % of the samples"):
        runs = [found("theorem", case + statement, share) for case in cases]
        for setting, (one, other) in ((1, runs[:2]), (2, runs[2:])):
            shares = "in {} {} to {} and {} {} to {}".format(*one[:3], *other[:3])
            means = f" of 10 runs, {one[3]} and {other[3]} %" if statement[0] == "t" else ""
            yield f"setting {setting}: {shares}{means}"
    error = r"(\S+) % \(95 % interval (\S+) to (\S+)\)"
    own = [found("theorem", f"{case}own cluster, used", error) for case in cases]
    yield f"error {own[0][0]} and {own[1][0]} % on setting 1"
    yield "{} % {} to {} and {} % {} to {} on setting 2".format(*own[2], *own[3])
    others = [found("theorem", f"{case}other clusters", error)[0] for case in cases]
    yield "error {}, {}, {} and {} %".format(*others)


def whole_networks():
    """Yield what is said of whole networks on images: single, mixture, what it gains."""
    for name, task in (
        ("cifar10", "cifar10"),
        ("rotate", "rotate-paper"),
        ("rotate", "rotate-inscribed"),
    ):
        single, mixture = (
            values(f"table2-{name}/table2", setting=task, model=f"cnn {m}")
            for m in ("single", "mixture")
        )
        gain = interval(mixture - single, 1)
        if len(single) == 2:  # paired, two differences tell nothing
            ends = ttest_ind(mixture, single, equal_var=False).confidence_interval()
            gain = f"{gain.split()[0]} unpaired {number(ends[0], 1)} to {number(ends[1], 1)}"
        means = f"single {number(single.mean(), 1)}, mixture {number(mixture.mean(), 1)} %"
        yield f"{means}: {gain.replace(' ', ' points ', 1)}"


def image_tasks():
    """Yield what image_tasks.rst says of whole networks."""
    yield from whole_networks()
    ahead = found("table2-rotate/table2", "The best test epoch", r"up to (\S+) points")[0]
    yield f"up to {number(float(ahead), 1)} points more than the last"


def routers():
    """Yield what routers.rst says of "patch_choice", beside the table that it shows."""
    with open(ROOT / "docs" / "tables" / "routers.csv", encoding="utf-8") as file:
        rows = {(row["model"], row["setting"]): row["accuracy %"] for row in csv.DictReader(file)}
    one, two = (float(rows[f"patch_choice, {kept}", "1"].split()[0]) for kept in (1, 2))
    yield f"has {number(one, 1)} and {number(two, 1)} % on setting 1"


def sentiment():
    """Yield what mixtures gain in claims.rst: at the paper's rate, and with a slow router."""

    def gain(setting, mixture, single):
        models = (f"{mixture}", f"{single}")
        first, second = (values("sentiment/sentiment", setting=setting, model=m) for m in models)
        return interval(first - second, 2)

    features = ("SVD 256", "SVD 64", "projection 256")
    yield ", ".join(gain(name, "cubic mixture", "cubic network") for name in features)
    slow = "linear mixture, slow router"
    yield f"{gain('SVD 256', slow, 'linear network')} with linear experts"
    yield gain("SVD 256", slow, "ReLU network, wide").replace(" ", ", ", 1)


def activations():
    """Yield the best of six single experts on each setting."""
    best = {}
    for cell in stored("activations")["cells"]:
        accuracies = best.setdefault(cell["labels"]["setting"], [])
        accuracies.append(cell["values"]["accuracy"][0])
    one, two, verify = (number(max(best[setting]), 1) for setting in (1, 2, "verify"))
    yield f"{verify} % at best where the theorem applies"
    yield f"{one} % on setting 1 and {two} % on 2"


def gain_on(name):
    """Return single network, mixture with shared convolutions, and what it gains, as texts."""
    single, mixture = (values(f"{name}/table2", model=f"cnn {m}") for m in ("single", "trunk"))
    gain = mean_interval(mixture - single)
    difference = f"+{number(gain.mean, 2)} ± {number(gain.high - gain.mean, 2)}"
    return number(single.mean(), 2), number(mixture.mean(), 2), difference


def images():
    """Yield rows of measured.md on images."""
    for label, name in (
        ("50,000 images, 20 epochs, 3 seeds", "table2-trunk"),
        ("10,000 images, 10 epochs, 5 seeds", "table2-trunk-10000"),
    ):
        yield " ".join([label, *gain_on(name)])
    for label, name, task in (
        ("Rotate, inscribed crop, 6 epochs", "table2-rotate", "rotate-inscribed"),
        ("the same without blur", "table2-sharp", "rotate-inscribed"),
        ("the same without blur", "table2-sharp", "rotate-paper"),
    ):
        cells = (
            values(f"{name}/table2", setting=task, model=f"cnn {m}") for m in ("single", "mixture")
        )
        yield " ".join([label, *(spread(cell, 2) for cell in cells)])


def image_tables():
    """Yield the rows of the tables of images.rst, and what its list says of them."""
    for name in ("table2-trunk", "table2-trunk-10000"):
        work = [
            number(values(f"{name}/table2", "multiply_adds", model=f"cnn {m}").mean(), 2)
            for m in ("single", "trunk")
        ]
        single, mixture, difference = gain_on(name)
        yield f"single network {single} 0 {work[0]}"
        yield f"{mixture} {difference} {work[1]}"
    trunk, wide = (values("table2-trunk-10000/table2", model=f"cnn {m}") for m in ("trunk", "wide"))
    yield f"better than the mixture by {interval(wide - trunk, 2)}"
    yield next(whole_networks())


@cache
def rows_of(title):
    """Return the rows of the first of docs/tables/tables.rst with such a title."""
    text = (ROOT / "docs/tables/tables.rst").read_text(encoding="utf-8")
    table = next(part for part in text.split(".. csv-table:: ") if part.startswith(title))
    return [*csv.reader(line.strip() for line in table.splitlines())]


def of_tables(title="Classification: means"):
    """Return the rows for all tables, by model."""
    return {row[1]: row[2:] for row in rows_of(title) if row and row[0] == "all"}


README_ORDER = (
    *("MoE", "one expert", "MLP", "linear", "HistGradientBoosting", "LightGBM", "CatBoost"),
    "RandomForest",
)
NAMES = {
    "MoE": "mixture of experts",
    "CatBoost": "CatBoost",
    "one expert": "one expert",
    "LightGBM": "LightGBM",
    "MLP": "MLPClassifier",
    "RandomForest": "random forest",
    "HistGradientBoosting": "HistGradientBoostingClassifier",
    "linear": "logistic regression",
}


def tables():
    """Yield the two rows of the README's table."""
    rows = of_tables()
    yield " ".join(["log loss", *(plain(rows[model][2]) for model in README_ORDER)])
    yield " ".join(["accuracy %", *(rows[model][0] for model in README_ORDER)])


def when():
    """Yield the rows of the table of when.rst."""
    for model, name in NAMES.items():
        accuracy, _, log_loss, rank, *_ = of_tables()[model]
        time = float(of_tables("Classification: time")[model][0])
        time = number(time, 1 if time > 0.05 else 2).removesuffix(".0")
        yield f"{name} {plain(log_loss)} {accuracy} {rank} {time}"
    yield from ratios("one expert", "CatBoost")


def ratios(*models):
    """Yield what the errors of the mixture are, relative to those of other models."""
    wanted = [("Classification", model) for model in models] + [("Regression", "CatBoost")]
    for kind, model in wanted:
        (row,) = (row for row in rows_of(f"{kind}: MoE over") if row and row[0] == model)
        ratio, low, high = map(plain, re.findall(r"[\d.]+", row[3]))
        yield from (ratio, f"{low} to {high}")


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("docs/claims.rst", claims),
        ("docs/measured.md", lambda: (of_mixtures(*key) for key in PUBLISHED)),
        ("docs/measured.md", images),
        ("docs/paper.rst", lambda: (of_mixtures(*key) for key in PUBLISHED)),
        ("docs/paper.rst", verdicts),
        ("docs/paper_results.rst", three_times),
        ("docs/later.rst", later),
        ("docs/images.rst", image_tables),
        ("docs/image_tasks.rst", image_tasks),
        ("docs/routers.rst", routers),
        ("docs/linear_experts.rst", departures),
        ("README.md", tables),
        ("README.md", lambda: [[*verdicts()][1].split(" that the")[0]]),
        ("docs/when.rst", when),
        ("docs/peers.rst", lambda: ratios("one expert", "LightGBM", "CatBoost")),
        ("docs/measured.md", lambda: ratios("one expert", "CatBoost")),
    ],
)
def test_numbers_are_those_of_the_results(name, texts):
    missing = [text for text in texts() if text not in page(name)]
    assert not missing, f"{name} does not say: {missing}"
