# Each target makes the environment it needs, so that one command is enough on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
export SCIPY_ARRAY_API = 1
# Modules are compiled once, also where the environment says never: each process of the tests, and each
# that a test starts, imports thousands. Nothing is written to the checkout.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/compiled

.PHONY: demo paper test test-slow test-all test-recipes test-gpu test-kernels test-lowest \
	test-newest lint docs benchmarks release-check clean

demo: $(VENV)/plot
	$(VENV)/bin/python -m sklearn_moe.paper demo

paper: $(VENV)/paper $(VENV)/baselines
	$(VENV)/bin/python -m sklearn_moe.paper all later --runs 3

# A process per core, each with one thread; who has finished takes tests of the other.
PARALLEL = -n logical --dist worksteal
test test-slow test-all test-recipes test-gpu test-kernels test-lowest test-newest: \
	export OMP_NUM_THREADS = 1

test: $(VENV)/test
	$(VENV)/bin/python -m pytest $(PARALLEL) --durations 30

test-slow: $(VENV)/test-all $(VENV)/works-with
	$(VENV)/bin/python -m pytest $(PARALLEL) --durations 30 -m slow

# Both tiers, and what is true of CUDA alone where there is a GPU.
test-all: $(VENV)/test-all $(VENV)/works-with
	$(VENV)/bin/python -m pytest $(PARALLEL) --durations 30 -m ''

# What docs/saving.rst shows of other packages; test-all has it, too.
test-recipes: $(VENV)/test $(VENV)/works-with
	$(VENV)/bin/python -m pytest $(PARALLEL) -m '' -k 'block_runs or saving' \
		tests/contracts/test_documentation.py docs/saving.rst

# Products round as on another processor: no word of a report, and no figure of a page, depends on it.
# Of the pages these are those that print what was computed, and no others.
KERNEL = $(if $(shell grep -s avx512f /proc/cpuinfo),Haswell,Sandybridge)
ROUNDED = $(REPORTS:%=tests/inspection/test_%.py) tests/metrics/test_specialization.py \
	$(PAGES:%=docs/%.rst)
REPORTS = explain rules stability
PAGES = explain probabilities quickstart regimes regression searches specialization tabular trust
test-kernels: export OPENBLAS_CORETYPE = $(KERNEL)
test-kernels: $(VENV)/test-all
	$(VENV)/bin/python -m pytest $(PARALLEL) $(ROUNDED)

# On a GPU: what is true of CUDA alone, and every part of a fit.
test-gpu: $(VENV)/test-all
	$(VENV)/bin/python -m pytest tests -m gpu
	SKLEARN_MOE_DEVICE=cuda $(VENV)/bin/python -m pytest tests -m '' -k 'device'

# What is taken from other packages, with the lowest versions that pyproject.toml allows and with the
# newest: make test-lowest PYTHON=python3.10. Old versions warn of each other: not our business. What is
# installed anyway is nearly the newest: with it differ Python, what is pickled, and scikit-learn's checks.
ANYWAY = estimators/test_parameters.py persistence/test_persistence.py training/test_net.py \
	contracts/test_sklearn_checks.py
test-newest: TOUCHING = $(ANYWAY)
test-lowest: TOUCHING = $(ANYWAY) $(FRAMES:%=estimators/test_tables.py::test_%) \
	persistence/test_export.py preprocessing training/test_callbacks.py
FRAMES = a_frame_from_end_to_end a_sparse_table_is_the_same_table \
	categories_of_an_array_are_named_by_index what_differs_from_the_frame_of_the_fit_is_named
test-lowest: WARNINGS = -W ignore::DeprecationWarning
test-lowest test-newest: export PYTHONPATH = $(CURDIR)
test-lowest test-newest: test-%: $(VENV)/%/installed
	$(<D)/bin/python -m pytest $(PARALLEL) $(WARNINGS) $(TOUCHING:%=tests/%)

lint: $(VENV)/test-all $(VENV)/lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/docs
	$(VENV)/bin/sphinx-build -W -b html docs docs/_build/html
	$(VENV)/bin/python docs/check_links.py docs/_build/html
	$(VENV)/bin/python docs/check_widths.py docs/_build/html

benchmarks: $(VENV)/test-all
	$(VENV)/bin/python tests/benchmarks/speed.py
	$(VENV)/bin/python tests/benchmarks/accuracy.py

# The archives to publish, and their metadata. The wheel, which is built from the sdist, alone must run
# the README, installed as it says there, in an environment of its own and outside of the checkout.
release-check: $(VENV)/release
	rm -rf dist
	$(VENV)/bin/python -m build --quiet
	$(VENV)/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear $(VENV)/wheel
	$(VENV)/wheel/bin/python -m pip install --quiet --no-compile dist/*.whl palmerpenguins
	cd $(VENV)/wheel && bin/python -m doctest $(CURDIR)/README.md

# $(VENV)/EXTRA is a stamp: the project is installed there with that extra. Modules are compiled when
# they are imported, which most are not.
$(VENV)/plot $(VENV)/paper $(VENV)/baselines $(VENV)/test $(VENV)/test-all $(VENV)/works-with \
$(VENV)/lint $(VENV)/docs $(VENV)/release $(VENV)/ci: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile --editable '.[$(@F)]'
	touch $@

# What the project needs, not the project itself: an installation would write to the checkout.
$(VENV)/lowest/installed: RESOLUTION = lowest-direct
$(VENV)/newest/installed: RESOLUTION = highest
$(VENV)/lowest/installed $(VENV)/newest/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --no-compile uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) \
		--requirements pyproject.toml --extra test-all
	touch $@

clean:
	rm -rf $(VENV) dist docs/_build docs/auto_examples docs/api docs/sg_execution_times.rst
