"""Measures iovabitmap beside its peers and the machine's limits; `run.py` is what one runs.

timing.py says what a case is and measures it; patterns.py makes bitmaps; native.py builds the C
files; library.py loads iovabitmap, and against.py builds another commit of it. peers.py and
limits.py hold what iovabitmap is compared with; marking.py, batches.py, reading.py, harvest.py,
algebra.py and systems.py hold the questions, questions.py their list. report.py, compare.py,
machine.py and plot.py show what was found.
"""
