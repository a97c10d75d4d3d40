"""Many logs at once: the answers of `iovabitmap.analysis` for a folder or a bucket of them.

Each log is asked in a task of Dask, by the same functions that one log is asked by, in whatever
threads, processes or machines the caller has given Dask. What comes back is one pandas data frame
with a row for each log. A log that cannot be read has a row too, which says why.

Needs Dask: pip install 'iovabitmap[fleet]'.
"""

from .fleet import Fleet, FleetRate, open  # noqa: A004  # as gzip.open: it is called fleet.open

__all__ = ["Fleet", "FleetRate", "open"]
