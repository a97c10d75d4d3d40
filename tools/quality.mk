# How good the tests are: what of the code they reach (coverage), and whether they notice when it is
# wrong (mutation). docs/quality.md tells how both are done. Included by the Makefile.

.PHONY: coverage coverage-measure mutation mutation-short mutation-run

# Both halves are compiled alike, so that their counts add up; assertions are no branches.
COVERED := build/coverage
COVERED_OPTIONS := -O0 --coverage -fprofile-update=atomic -DNDEBUG

coverage: ## What of C and Python the tests reach; fails where a line of csrc/core is missed
	@if ! command -v gcov >/dev/null || ! $(CC) --version | grep -qi 'free software foundation'; then \
		echo "skipped: coverage needs gcc and its gcov, and CC is $(CC)"; \
	else \
		$(MAKE) --no-print-directory coverage-measure; \
	fi

coverage-measure: $(VENV)/.extra-proof $(VENV)/.extra-test $(VENV)/.extra-demo
	@mkdir -p $(COVERED) && rm -f $(COVERED)/python* && find $(COVERED) -name '*.gcda' -delete
	@$(MAKE) --no-print-directory test-core CORE_BUILD=$(COVERED)/core \
		CORE_OPTIONS="$(COVERED_OPTIONS)"
	IOVABITMAP_COVERAGE=1 $(BIN)/python setup.py --quiet build --build-base $(COVERED) \
		--build-lib $(COVERED)/lib
	PYTHONPATH=$(abspath $(COVERED)/lib) $(BIN)/python -P -m coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report
	@$(BIN)/gcovr --root . --filter csrc/ --json $(COVERED)/c.json $(COVERED)
	@$(BIN)/python tools/coverage_check.py $(COVERED)/c.json

MUTATE = $(BIN)/python tools/mutate.py

mutation: MUTATION_ARGS ?= --number 300
mutation: mutation-run ## Is there a test that fails for each of 300 small faults? Hours
mutation-short: MUTATION_ARGS ?= --sample 25
mutation-short: mutation-run ## For 25 of them: minutes

mutation-run: $(VENV)/.extra-test
	$(MUTATE) $(MUTATION_ARGS)
