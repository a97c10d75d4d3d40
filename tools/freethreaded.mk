# The Python tests without a GIL: docs/threads.md tells what they show. Included by the Makefile.

.PHONY: test-freethreaded

FREETHREADED := build/freethreaded
FREETHREADED_LIB := $(abspath $(FREETHREADED))/lib
# What the interpreter's environment lacks packages for: logs, the command, data frames.
FREETHREADED_TESTS := tests/unit tests/parity tests/property tests/threads tests/faults tests/leaks \
	--ignore tests/unit/test_benchmarks.py \
	--ignore tests/unit/test_demo.py
# By four threads at once: tests that keep nothing which all threads of a process share.
FREETHREADED_TOGETHER := tests/parity tests/unit/test_set_clear.py tests/unit/test_queries.py \
	tests/unit/test_geometry.py

test-freethreaded: $(VENV)/.made ## The tests on a free-threaded CPython, which is built first: minutes
	@found=$$($(BIN)/python tools/freethreaded.py $(FREETHREADED)); status=$$?; \
	if [ $$status -eq 77 ]; then echo "SKIPPED: free-threaded tests. $$found"; exit 0; \
	elif [ $$status -ne 0 ]; then echo "$$found"; exit $$status; fi; \
	python=$$(echo "$$found" | tail -1)/bin/python; set -ex; \
	$$python setup.py --quiet build --build-base $(FREETHREADED)/build --build-lib $(FREETHREADED_LIB); \
	export PYTHONPATH=$(FREETHREADED_LIB); \
	$$python -P -c 'import sys, iovabitmap._core; assert not sys._is_gil_enabled()'; \
	$$python -P -m pytest -p no:cacheprovider $(FREETHREADED_TESTS); \
	$$python -P -m pytest -p no:cacheprovider --parallel-threads 4 $(FREETHREADED_TOGETHER)
