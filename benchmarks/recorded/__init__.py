"""Recordings of real programs: the programs, a second source, and the log held against it."""
