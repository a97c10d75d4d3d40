# Recordings of real programs: is each page that they write in the log, and what does it cost?
# docs/cli.md and benchmarks/README.md tell what is measured. Included by the Makefile.

.PHONY: recordings long-recording

RECORDINGS_ARGS ?=

recordings: $(VENV)/.extra-test ## Redis, PostgreSQL and SQLite: logs against a second source, overhead
	$(BIN)/python benchmarks/recordings.py $(RECORDINGS_ARGS)

SECONDS ?= 600

long-recording: $(VENV)/.extra-test ## 600 or SECONDS of 100 ms epochs, 1 GiB being written: on time?
	$(BIN)/python benchmarks/long_recording.py --seconds $(SECONDS)
