"""Change one thing in the library at a time, and see whether a test fails.

    python tests/mutation.py RESULTS.jsonl [--mutants 200] [--seed 0] [--jobs 1] [--files nn/table]

A mutant is a place of the library and a change of cosmic-ray's there: another operator, a number
one off, a condition negated, a loop left out, a decorator removed. `--seed` draws the places, each
as likely as any other. They are tried in copies of the last commit, by the tests that matter for
their file. RESULTS.jsonl gets a line for each; called again, the run goes on where it was.
Those that no test noticed are printed in the end.

cosmic-ray itself draws no sample and knows one test command, so that only its changes are used.
mutmut puts a wrapper around each function, and leaves those alone that have a decorator.
"""

import argparse
import difflib
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from joblib import Parallel, delayed
from scipy.stats import binomtest

ROOT = Path(__file__).parent.parent

# The tests of a file or folder of the library; those of the longest name count. Each is a folder of
# tests or a file in one.
TESTS = {
    "_data": ["data", "estimators", "contracts/weights", "contracts/bad_data"],
    "_data/distributions": ["estimators/likelihood", "mixtures"],
    "_data/router": ["mixtures", "training/pool", "estimators/tables"],
    "_data/tables": ["data", "estimators", "inspection", "contracts/bad_data"],
    "_data/validation": ["data", "estimators", "mixtures", "metrics", "contracts/bad_data"],
    "_devices": ["training/modes", "training/placement", "persistence/export", "devices"],
    "_estimators": ["estimators", "training", "persistence/persistence", "contracts/bad_data"],
    "_mixtures": ["mixtures", "inspection/intervals", "contracts/weights"],
    "_parameters": ["estimators", "contracts/bad_parameters", "training"],
    "_persistence": ["persistence/persistence"],
    "_threads": ["training/threads"],
    "_training": [
        "training",
        "estimators",
        "data",
        "contracts/weights",
        "contracts/bad_parameters",
    ],
    "_training/checkpoint": ["training/checkpoint", "training/process_group"],
    "_training/density": ["estimators/likelihood", "estimators/partial_fit"],
    "_training/net": ["training", "persistence/persistence", "estimators/tables"],
    "_training/process_group": ["training/process_group"],
    "_validation": [
        "contracts/registry",
        "contracts/bad_parameters",
        "contracts/plugins",
        "metrics",
    ],
    "callbacks": ["training/callbacks", "training/checkpoint"],
    "datasets": ["datasets", "contracts/bad_parameters"],
    "distributed": ["training/process_group"],
    "inspection": ["inspection"],
    "metrics": ["metrics", "inspection", "contracts/bad_parameters"],
    "nn": ["nn", "contracts/plugins", "contracts/bad_parameters"],
    "nn/encoders": ["nn/encoders", "data", "estimators/tables", "persistence/export"],
    "nn/experts": ["nn", "contracts/plugins", "devices", "estimators/classifier"],
    "nn/functional": ["nn", "contracts", "training/process_group", "persistence/export"],
    "nn/heads": ["nn/heads", "contracts/plugins", "estimators"],
    "nn/mixture": ["nn", "contracts/plugins", "estimators/images"],
    "nn/predictor": ["persistence/export"],
    "nn/seeding": ["nn", "contracts/weights"],
    "optim": ["nn/optim", "training/net"],
    "preprocessing": ["preprocessing", "contracts/bad_parameters"],
}

# No slip of the pen: numbers refuse these operators, and any test would notice.
_BITS = re.compile("Bit|Shift|Invert")


class Mutant(NamedTuple):
    """A change of one place."""

    path: str
    operator: str
    occurrence: int  # of all changes that the operator makes in the file


def tests_for(path):
    """Return the test files of a file of the library, and itself for its examples."""
    name = path.removeprefix("sklearn_moe/").removesuffix(".py")
    longest = max((key for key in TESTS if f"{name}/".startswith(f"{key}/")), key=len)
    tests = []
    for test in [*TESTS[longest], "contracts/docstrings"]:
        folder, _, file = test.partition("/")
        tests.append(f"tests/{folder}/test_{file}.py" if file else f"tests/{folder}")
    return [*tests, path]


def mutants(tree, files=()):
    """Return the mutants at each place of the library: lists of those that differ in how only.

    `files` are the names of those that are changed, as in TESTS; all if there are none.
    """
    from cosmic_ray.plugins import get_operator, operator_names

    operators = {name: get_operator(name) for name in operator_names()}
    operators = {name: make() for name, make in operators.items() if not make.arguments()}
    package, places = tree / "sklearn_moe", {}
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package).with_suffix(""))
        wanted = not files or name in files
        if wanted and any(f"{name}/".startswith(f"{key}/") for key in TESTS):
            for place, mutant in _mutants_of(path, str(path.relative_to(tree)), operators):
                places.setdefault(place, []).append(mutant)
    return [places[place] for place in sorted(places)]


def _mutants_of(path, name, operators):
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(path.read_text())))
    left_out = [span for node in nodes for span in _left_out(node)]
    for operator, how in operators.items():
        kind, _, change = operator.split("/")[1].partition("_")
        positions = (where for node in nodes for where in how.mutation_positions(node))
        for occurrence, (start, stop) in enumerate(positions):
            inside = any(first <= start and stop <= last for first, last in left_out)
            if not inside and not _BITS.search(change):
                yield (name, start, stop, kind), Mutant(name, operator, occurrence)


def _left_out(node):
    """Yield where annotations stand, on which nothing depends, and stars that are no products."""
    if node.type in ("tfpdef", "annassign", "funcdef"):
        for sign, after in zip(node.children, node.children[1:], strict=False):
            if getattr(sign, "value", None) in (":", "->") and after.type != "suite":
                yield after.start_pos, after.end_pos
    if getattr(node, "value", None) in ("*", "**"):  # in signatures and calls
        if node.parent.type in ("parameters", "param", "argument", "star_expr", "atom"):
            yield node.start_pos, node.end_pos


def copy_of_head(folder):
    """Write the last commit to a folder, and return it."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def run_tests(tree, tests, timeout):
    """Run tests of a copy, and end all that they start after a while; return code and output."""
    pytest = (sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider")
    # Compiled files may be those of the code before the last change, of the same second and size.
    environment = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["timeout", "--signal", "KILL", str(timeout), *pytest, *tests],
        cwd=tree,
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def draw(tree, n_mutants, generator, files=()):
    """Return mutants at so many places, drawn without replacement."""
    places, drawn = mutants(tree, files), []
    generator.shuffle(places)
    for place in places:
        generator.shuffle(place)
        drawn += [mutant for mutant in place if _is_python(mutated(tree, mutant))][:1]
        if len(drawn) == n_mutants:
            break
    return drawn


def mutated(tree, mutant):
    """Return the code of a file with a mutant in it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code = (tree / mutant.path).read_text()
    return mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)


def _is_python(code):
    with warnings.catch_warnings(), suppress(SyntaxError):
        warnings.simplefilter("error")
        return bool(compile(code, "mutant", "exec"))
    return False


def trial(mutant, trees, timeout):
    """Return what the tests make of a mutant in one of the copies."""
    tree = trees.get()
    path = tree / mutant.path
    code, changed = path.read_text(), mutated(tree, mutant)
    path.write_text(changed)
    code_of_tests = run_tests(tree, tests_for(mutant.path), timeout).returncode
    path.write_text(code)
    trees.put(tree)
    outcome = {0: "passed", -signal.SIGKILL: "timeout"}.get(code_of_tests, "failed")
    difference = difflib.unified_diff(code.splitlines(), changed.splitlines(), lineterm="", n=2)
    return mutant._asdict() | {"outcome": outcome, "diff": "\n".join([*difference][2:])}


def check_tests(tree, chosen):
    """Refuse to begin where tests fail without a mutant."""
    tests = sorted({test for mutant in chosen for test in tests_for(mutant.path)})
    found = run_tests(tree, tests, timeout=0)  # without a limit
    if found.returncode:
        raise SystemExit(f"{found.stdout}\nTests fail without a mutant: mend them first.")


def report(results):
    """Print how many mutants were noticed, and those that were not."""
    survivors = [result for result in results if result["outcome"] == "passed"]
    for result in survivors:
        print(f"\n{result['path']}  {result['operator']}\n{result['diff']}")
    killed, tried = len(results) - len(survivors), len(results)
    interval = binomtest(killed, tried).proportion_ci(method="wilson")
    print(
        f"\n{killed} of {tried} mutants noticed: {killed / tried:.1%} "
        f"(95 %: {interval.low:.1%} to {interval.high:.1%})"
    )


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="*", default=(), help="such as nn/table; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="copies that are tested at once")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one mutant")
    args = parser.parse_args()
    # A job in the background ignores Ctrl-C, and so would the tests that are about it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {"OMP_NUM_THREADS": "1", "SCIPY_ARRAY_API": "1"}
    lines = args.results.read_text().splitlines() if args.results.exists() else []
    results = [json.loads(line) for line in lines]
    done = {Mutant(*(result[name] for name in Mutant._fields)) for result in results}
    with tempfile.TemporaryDirectory() as folder, args.results.open("a") as file:
        trees = queue.SimpleQueue()
        for job in range(args.jobs):
            tree = copy_of_head(Path(folder) / str(job))
            trees.put(tree)
        drawn = draw(tree, args.mutants, random.Random(args.seed), args.files)
        chosen = [mutant for mutant in drawn if mutant not in done]
        if not results:
            check_tests(tree, chosen)
        trials = (delayed(trial)(mutant, trees, args.timeout) for mutant in chosen)
        parallel = Parallel(args.jobs, backend="threading", return_as="generator_unordered")
        for result in parallel(trials):
            print(json.dumps(result), file=file, flush=True)
            results.append(result)
            print(f"{len(results)}: {result['outcome']} {result['path']}", flush=True)
    report(results)


if __name__ == "__main__":
    main()
