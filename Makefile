# The project's commands; `make help` lists them.
#
# Each makes what it needs: a virtual environment in $(VENV) from $(PYTHON), with the package
# installed in it in editable form, and the extension built in place. Stamp files in $(VENV) and
# build/ say what is there, so a second run starts at once and a changed C file is compiled again.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
BUILT := build/built-$(notdir $(VENV))
# A folder of csrc is a layer, and a folder of that a room: docs/architecture.md.
C_FILES := $(wildcard $(addprefix csrc/,*/*.c */*.h */*/*.c */*/*.h))

# What we build ourselves has no warnings; what a user builds may have some.
export IOVABITMAP_WERROR := 1
# Tools find the environment's programs, and nothing of the caller's Python.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SECONDARY:
.PHONY: help environment demo test test-core test-python lint format bench bench-fleet bench-scale docs proof proof-short sanitize \
	sanitize-core sanitize-python tsan test-freethreaded valgrind crash \
	faults-long suite-long qemu-tests notebook-tests browser-tests dist wheel-test wheel-short extras-test release wheels clean distclean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV)"

demo: $(VENV)/.extra-demo ## See which pages a real workload dirties, live
	$(BIN)/python examples/demo.py

test: test-core test-python ## All tests

BENCH_ARGS ?=

bench: $(VENV)/.extra-bench ## Measure beside peers, C and limits; BENCH_ARGS="--quick --against HEAD~1"
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

FLEET_ARGS ?=

bench-fleet: $(VENV)/.extra-fleet ## How a fleet's time changes with Dask's workers; FLEET_ARGS="--logs 50"
	$(BIN)/python benchmarks/fleet.py $(FLEET_ARGS)

SCALE_ARGS ?=

bench-scale: $(VENV)/.extra-bench $(VENV)/.extra-test ## Analyses of a long log beside DuckDB; SCALE_ARGS="--epochs 3600"
	$(BIN)/python benchmarks/scale.py $(SCALE_ARGS)

docs: $(VENV)/.extra-docs ## The manual, to docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# --- the environment ----------------------------------------------------------------------------

REQUIRES = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later, please: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c '$(REQUIRES)' | xargs $(BIN)/python -m pip install --quiet
	@touch $@

# After the extension, whose compiler errors would be hard to find in what pip says.
$(VENV)/.extra-%: pyproject.toml $(VENV)/.made | $(BUILT)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[$*]'
	@touch $@

# What .ci/run needs, at once: each pip looks at all that the others have installed.
MOST := test demo lint docs notebooks dist

environment: $(VENV)/.most ## .venv, with what most commands need: quicker than one by one

$(VENV)/.most: pyproject.toml $(VENV)/.made | $(BUILT)
	$(BIN)/python -m pip install --quiet --no-build-isolation \
		--editable '.[$(shell echo $(MOST) | tr ' ' ,)]'
	@touch $(MOST:%=$(VENV)/.extra-%) $@

$(BUILT): $(C_FILES) setup.py $(VENV)/.made
	$(BIN)/python setup.py --quiet build_ext --inplace
	@mkdir -p $(@D) && touch $@

# --- the engine without an interpreter ----------------------------------------------------------

CORE_BUILD ?= build/core
CORE_OPTIONS ?= -O2
CORE_FLAGS := -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Wshadow -Wconversion -Wcast-qual -Wundef \
	-Wmissing-prototypes -Werror -pthread -Icsrc -Icsrc/include -Itests/core
CORE_OBJECTS := $(patsubst csrc/core/%.c,$(CORE_BUILD)/%.o,$(wildcard csrc/core/*/*.c))
CORE_TESTS := $(patsubst tests/core/%.c,$(CORE_BUILD)/tests/%,$(wildcard tests/core/*/*.c))

$(CORE_BUILD)/%.o: csrc/core/%.c Makefile
	@mkdir -p $(@D)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) -MMD -MP -c $< -o $@

$(CORE_BUILD)/tests/%: tests/core/%.c $(CORE_OBJECTS)
	@mkdir -p $(@D)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) -MMD -MP -MF $@.d $< $(CORE_OBJECTS) \
		$(addprefix @,$(wildcard $(<:.c=.link))) -o $@

-include $(wildcard $(CORE_BUILD)/*/*.d $(CORE_BUILD)/tests/*/*.d)

SANITIZE_OPTIONS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

include tools/fuzz.mk

test-core: $(CORE_TESTS) ## The C engine's own test programs
	@sh tests/core/run.sh $(CORE_TESTS)

# --- Python -------------------------------------------------------------------------------------

PYTEST_ARGS ?=
# Tests are independent of each other; what counts processes or memory does so in children.
JOBS ?= auto
ALONE := tests/faults/test_signals.py # interrupts at a moment of its own work: with a core of its own

# The demonstration has tests too.
test-python: $(VENV)/.extra-test $(VENV)/.extra-demo ## The Python tests; PYTEST_ARGS="-k window" for some
	$(BIN)/pytest -n $(JOBS) --deselect $(ALONE) $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,$(BIN)/pytest $(ALONE))

C_STYLED := $(C_FILES) $(wildcard tests/core/*.h tests/core/*/*.c tests/fuzz/*.[ch] tests/cbmc/*.[ch] benchmarks/*.c examples/*/*.c)

lint: $(VENV)/.extra-lint $(VENV)/.extra-test ## Style and types; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(C_STYLED)
	@! grep -rn --exclude=refcount.h 'Py_RETURN_' csrc/python || { echo 'not with one binary for every CPython: see ib_none()'; exit 1; }
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml iovabitmap._core

format: $(VENV)/.extra-lint ## Give all code its style
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_STYLED)

# --- proof: the same tests, with every memory access watched -------------------------------------

PROOFS := sanitize tsan valgrind cbmc fuzz fuzz-check s390x crash notebook-tests

LONG_PROOFS := recordings browser-tests faults-long suite-long fuzz-python test-freethreaded \
	qemu-tests kernel-lab coverage mutation extras-test

proof: $(PROOFS) $(LONG_PROOFS) ## All of them: hours

$(LONG_PROOFS) crash: export IOVABITMAP_TEST_LIMIT ?= 7200

# Beside each other, the longest first: each keeps one core busy, and none writes where another does.
# ALSO are more targets, TIMES is a file that the times are added to.
ALSO ?=
TIMES ?= /dev/null
BESIDE := sanitize-python cbmc valgrind $(ALSO) sanitize-core s390x notebook-tests "fuzz fuzz-check" \
	crash tsan

proof-short: export PYTEST_ARGS = tests/unit tests/parity
proof-short: export PYTEST_XDIST_AUTO_NUM_WORKERS = 1
proof-short: export KILLS = 3
proof-short: export CBMC_JOBS = 1
proof-short: export CBMC_ARGS = --short
proof-short: export FUZZ_RUNS = 4000
proof-short: export FUZZ_JOBS = 1
proof-short: export FUZZ_PLANTS = 1
proof-short: export S390X_LEFT_OUT = bitmap/test_poll ops/test_allocations
proof-short: export VALGRIND_LEFT_OUT = bitmap/test_poll
proof-short: $(VENV)/.most $(CORE_TESTS) ## What of them takes minutes: for every change
	@$(BIN)/python tools/beside.py --by "timeout --kill-after=10 25m $(MAKE) --no-print-directory" \
		--times $(TIMES) $(BESIDE)

sanitize: sanitize-core sanitize-python ## The tests under ASan and UBSan

sanitize-core:
	@$(MAKE) --no-print-directory test-core CORE_BUILD=build/core-sanitize CORE_OPTIONS="$(SANITIZE_OPTIONS)"

# The interpreter itself is not instrumented: the runtime must come before it, and libstdc++ with
# it, for extensions in C++. What the interpreter never frees is no leak of ours; a size that cannot
# be had is a MemoryError. ASan makes mlock do nothing: its tests see that and say so. Those of the
# demonstration would only be slow. A report must not end in what pytest captures.
SANITIZED := build/sanitize
SANITIZED_ENV = PYTHONPATH=$(abspath $(SANITIZED)/lib) PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0,allocator_may_return_null=1 \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)"

sanitize-python: $(VENV)/.extra-test
	IOVABITMAP_SANITIZE=1 $(BIN)/python setup.py --quiet build --build-base $(SANITIZED) \
		--build-lib $(SANITIZED)/lib
	$(SANITIZED_ENV) $(BIN)/python -P -c \
		'import iovabitmap._core as core; assert "$(SANITIZED)" in core.__file__, core.__file__'
	$(SANITIZED_ENV) $(BIN)/pytest -n $(JOBS) --capture=sys -k "not test_demo" $(PYTEST_ARGS)

# The programs with threads, under ThreadSanitizer, which wants addresses where they always are:
# setarch. What is not atomic on purpose is marked IOVA_RACY in the source, but for the inner loops,
# which load words by SIMD or at any byte address and share nothing else: they are not instrumented.
TSAN_BUILD := build/core-tsan
TSAN_PROGRAMS := bitmap/test_threads bits/test_bits
TSAN_MARKS := 250000

tsan: ## The C programs with threads under ThreadSanitizer
	@$(MAKE) -s --no-print-directory $(patsubst csrc/core/%.c,$(TSAN_BUILD)/%.o,$(wildcard csrc/core/bits/kernels_*.c)) \
		CORE_BUILD=$(TSAN_BUILD) CORE_OPTIONS=-O1
	@$(MAKE) -s --no-print-directory $(TSAN_PROGRAMS:%=$(TSAN_BUILD)/tests/%) \
		CORE_BUILD=$(TSAN_BUILD) CORE_OPTIONS="-O1 -fsanitize=thread"
	@IOVABITMAP_MARKS=$(TSAN_MARKS) \
		sh tests/core/run.sh --under "setarch -R" $(TSAN_PROGRAMS:%=$(TSAN_BUILD)/tests/%)

notebook-tests: $(VENV)/.extra-test $(VENV)/.extra-notebooks ## %%dirty and the example notebooks in real kernels; pictures
	$(BIN)/pytest -n $(JOBS) tests/notebooks tests/plot

# The program is the system's Chromium: the package brings only what speaks to it.
browser-tests: $(VENV)/.extra-test $(VENV)/.extra-browser ## The interactive view, in a headless Chromium
	@sh tools/need.sh "the interactive view in a browser" chromium chromium \
		$(BIN)/pytest tests/browser

KILLS ?= 100

crash: $(VENV)/.extra-test ## Kill a recording, 100 times or KILLS, and read what is left
	IOVABITMAP_KILLS=$(KILLS) $(BIN)/pytest tests/logs/test_crash.py

faults-long: $(VENV)/.extra-test ## Every allocation fails at its turn, with every backend; leaks at length
	IOVABITMAP_TESTS=long $(BIN)/pytest -n $(JOBS) -rP tests/faults/test_allocations.py tests/leaks

# The seeds are those from SEED on, and those of hypothesis are shown with what it finds.
suite-long: $(VENV)/.extra-test ## Tests that take long, and random ones at length, with other seeds each time
	IOVABITMAP_TESTS=long IOVABITMAP_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/pytest -n $(JOBS) \
		--hypothesis-profile=deep tests/property tests/kit tests/logs tests/unit/test_variants.py

qemu-tests: $(VENV)/.extra-test ## Real guests and migrations in QEMU: its figures, ours and the truth
	IOVABITMAP_QEMU=1 $(BIN)/pytest tests/guests/test_qemu_real.py

# Threads take turns: without that one that waits for others in a loop can keep them from running.
VALGRIND := valgrind --quiet --error-exitcode=1 --leak-check=full --fair-sched=try

# In the short form: a program that takes a third of the time there, and is under ASan anyway.
VALGRIND_LEFT_OUT ?=

valgrind: $(CORE_TESTS) ## The C programs under valgrind
	@IOVABITMAP_MARKS=20000 sh tools/need.sh "valgrind" valgrind valgrind \
		sh tests/core/run.sh --under "$(VALGRIND)" \
		$(filter-out $(VALGRIND_LEFT_OUT:%=$(CORE_BUILD)/tests/%),$(CORE_TESTS))
	@echo "under valgrind; left out: $(or $(VALGRIND_LEFT_OUT),none)"

include tools/quality.mk

include tools/cbmc.mk

include tools/freethreaded.mk

include tools/lab.mk

include tools/recordings.mk

# --- what users get -----------------------------------------------------------------------------

include tools/install.mk

dist: $(VENV)/.extra-dist ## The sdist, and from it the wheel, to dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

wheel-test: dist ## The tests against the wheel, in an empty environment outside of this tree
	$(BIN)/python tools/wheel_test.py dist

wheel-short: dist ## The same, with fewer of the tests
	$(BIN)/python tools/wheel_test.py --short dist

EXTRAS ?=

extras-test: $(VENV)/.extra-dist ## Each extra alone in an empty environment: is all there? EXTRAS="plot cli"
	$(BIN)/python tools/extras.py $(EXTRAS)

RELEASE_PYTHONS ?= all

release: $(VENV)/.extra-dist ## All that a release must pass, by every CPython found; uploads nothing
	$(BIN)/python tools/release.py
	@$(MAKE) --no-print-directory dist
	$(BIN)/python tools/release.py dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/abi3audit --strict dist/*.whl
	$(BIN)/python tools/wheel_test.py dist $(RELEASE_PYTHONS)
	@echo "Ready. What is left to do is in CONTRIBUTING.md, Release."

WHEELS_ARGS ?=

wheels: $(VENV)/.extra-dist ## The wheels of a release, to dist/; WHEELS_ARGS="--only cp311-manylinux_x86_64"
	sh tools/need.sh "wheels for other systems" docker docker.io \
		$(BIN)/cibuildwheel --platform linux --output-dir dist $(WHEELS_ARGS)

# --- order --------------------------------------------------------------------------------------

clean: ## Remove all that is built, but not the environment
	rm -rf build dist docs/_build iovabitmap/include *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f iovabitmap/_core*.so iovabitmap/_core*.pyd iovabitmap/sources/_preload*.so
	find benchmarks docs examples iovabitmap tests tools -name __pycache__ -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV)
