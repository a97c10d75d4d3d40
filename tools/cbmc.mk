# Bounded model checking: docs/quality.md tells what is proved. Included by the Makefile.

.PHONY: cbmc

CBMC_CACHE ?= build/cbmc
CBMC_JOBS ?= 2
CBMC_ARGS ?=

cbmc: $(VENV)/.made ## Proofs by CBMC, of the engine's own files; CBMC_ARGS="--short" for fewer
	@found=$$($(BIN)/python tools/get_cbmc.py $(CBMC_CACHE)); status=$$?; \
	if [ $$status -eq 77 ]; then echo "SKIPPED: proofs by CBMC. $$found"; \
	elif [ $$status -ne 0 ]; then echo "$$found"; exit $$status; \
	else $(BIN)/python tools/cbmc.py --jobs $(CBMC_JOBS) $(CBMC_ARGS) "$$(echo "$$found" | tail -1)"; fi
