"""Measures iovabitmap beside its peers and the machine's limits; `run.py` is what one runs.

timing.py says what a case is and measures it; patterns.py makes bitmaps; native.py builds the C
files; peers.py and limits.py hold what iovabitmap is compared with; marking.py, reading.py,
algebra.py and systems.py hold the questions, questions.py their list; report.py and plot.py show.
"""
