# Fuzzing, and the other byte order: docs/quality.md tells how. Included by the Makefile.
#
# The harness is tests/fuzz; `fuzz_replay` is it with a main of its own, one of the C programs: it
# runs the corpus wherever they run. With libFuzzer it is `fuzzer`, built in FUZZ.

.PHONY: fuzz fuzz-run fuzz-python fuzz-check fuzz-check-run fuzz-merge fuzz-replay s390x s390x-run

HARNESS := $(filter-out tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c))
HARNESS_OBJECTS := $(HARNESS:tests/fuzz/%.c=$(CORE_BUILD)/fuzz/%.o)
# What the harness puts in the place of the engine's, see tests/fuzz/fuzz.h; and the walker for small
# bitmaps, which searches for holes after fewer bytes. tools/fuzz_check.py does the same.
WRAPPED := tests/fuzz/fuzz.link
LONG_WALK := -DIOVA_LONG_WALK=100
FUZZED_CORE := $(CORE_OBJECTS:$(CORE_BUILD)/bitmap/walk.o=$(CORE_BUILD)/fuzz/walk.o)
FUZZ_REPLAY := $(CORE_BUILD)/tests/fuzz_replay
FUZZ_CORPUS := tests/fuzz/corpus

CORE_TESTS += $(FUZZ_REPLAY)
export IOVABITMAP_CORPUS := $(FUZZ_CORPUS)

$(CORE_BUILD)/fuzz/%.o: tests/fuzz/%.c Makefile tools/fuzz.mk
	@mkdir -p $(@D)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) -MMD -MP -c $< -o $@

$(CORE_BUILD)/fuzz/walk.o: csrc/core/bitmap/walk.c Makefile tools/fuzz.mk
	@mkdir -p $(@D)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) $(LONG_WALK) -MMD -MP -c $< -o $@

$(FUZZ_REPLAY): $(HARNESS_OBJECTS) $(CORE_BUILD)/fuzz/replay.o $(FUZZED_CORE) | $(WRAPPED)
	@mkdir -p $(@D)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) $^ @$(WRAPPED) -o $@

$(CORE_BUILD)/fuzzer: $(HARNESS_OBJECTS) $(FUZZED_CORE) | $(WRAPPED)
	@$(CC) $(CORE_FLAGS) $(CORE_OPTIONS) -fsanitize=fuzzer $^ @$(WRAPPED) -o $@

-include $(wildcard $(CORE_BUILD)/fuzz/*.d)

FUZZ_REPLAY_SANITIZED := build/core-sanitize/tests/fuzz_replay
FUZZ_INPUTS ?= $(FUZZ_CORPUS)

fuzz-replay: ## The corpus, or FUZZ_INPUTS=PATH, without a fuzzer, under ASan and UBSan
	@$(MAKE) -s --no-print-directory $(FUZZ_REPLAY_SANITIZED) CORE_BUILD=build/core-sanitize \
		CORE_OPTIONS="$(SANITIZE_OPTIONS)"
	@$(FUZZ_REPLAY_SANITIZED) $(FUZZ_INPUTS)

# --- with a fuzzer ------------------------------------------------------------------------------

FUZZ := build/fuzz
FUZZ_CC ?= clang
FUZZ_OPTIONS := $(SANITIZE_OPTIONS) -fsanitize=fuzzer-no-link
FUZZ_SECONDS ?= 600
# So many inputs for each process instead, the same each time: the short form.
FUZZ_RUNS ?=
FUZZ_JOBS ?= 2
FUZZ_PLANTS ?= 100
FUZZER = $(MAKE) -s --no-print-directory $(FUZZ)/core/fuzzer CC=$(FUZZ_CC) CORE_BUILD=$(FUZZ)/core \
	CORE_OPTIONS="$(FUZZ_OPTIONS)"
NEEDS_LIBFUZZER = "libfuzzer:$(FUZZ_CC)" "clang libclang-rt-dev"

fuzz: ## Try the engine at random for FUZZ_SECONDS=600, with coverage and sanitizers
	@sh tools/need.sh "fuzzing" $(NEEDS_LIBFUZZER) $(MAKE) --no-print-directory fuzz-run \
		FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_RUNS=$(FUZZ_RUNS)

fuzz-run:
	@$(FUZZER)
	@$(PYTHON) tools/fuzz.py run --seconds $(FUZZ_SECONDS) --runs $(or $(FUZZ_RUNS),0) \
		--jobs $(FUZZ_JOBS)

fuzz-check: ## Does the fuzzer find planted defects?
	@sh tools/need.sh "planted defects for the fuzzer" $(NEEDS_LIBFUZZER) \
		$(MAKE) --no-print-directory fuzz-check-run FUZZ_PLANTS=$(FUZZ_PLANTS)

fuzz-check-run:
	@$(FUZZER)
	@CC=$(FUZZ_CC) $(PYTHON) tools/fuzz_check.py --most $(FUZZ_PLANTS) --options "$(FUZZ_OPTIONS)"

fuzz-merge: ## Take what the fuzzer has found into the corpus, as few inputs as cover the same
	@$(FUZZER)
	@$(PYTHON) tools/fuzz.py merge

# atheris is libFuzzer with Python inside; where there is none, hypothesis has to do.
fuzz-python: $(VENV)/.extra-test ## Try the Python type at random for FUZZ_SECONDS=600
	@if $(BIN)/python -m pip install --quiet --only-binary :all: 'atheris>=3' 2>/dev/null; then \
		$(BIN)/python tools/fuzz.py run --python --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS); \
	else \
		echo "SKIPPED: fuzzing the Python type. No atheris for $$($(BIN)/python --version)"; \
	fi

# --- big-endian ---------------------------------------------------------------------------------

S390X := s390x-linux-gnu
S390X_RUN := qemu-s390x -L /usr/$(S390X)
S390X_MARKS := 20000
# In the short form: programs that take long there, and have no byte order in what they try.
S390X_LEFT_OUT ?=
S390X_TESTS = $(filter-out $(S390X_LEFT_OUT:%=$(CORE_BUILD)/tests/%),$(CORE_TESTS))

s390x: ## The C programs, and the corpus, on a big-endian machine
	@sh tools/need.sh "big-endian" "$(S390X)-gcc qemu-s390x" \
		"gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user" \
		$(MAKE) -s --no-print-directory s390x-run CC=$(S390X)-gcc CORE_BUILD=build/core-s390x \
		S390X_LEFT_OUT="$(S390X_LEFT_OUT)"

s390x-run: $(S390X_TESTS)
	@IOVABITMAP_MARKS=$(S390X_MARKS) sh tests/core/run.sh --under "$(S390X_RUN)" $^
	@echo "on s390x; left out: $(or $(S390X_LEFT_OUT),none)"
