"""Dirty logs: which pages were dirty in each of many epochs, kept in a file that others can read.

`LogWriter` writes one epoch after another while they happen, so that a killed recording loses at
most its last, and `DirtyLog` reads them back. A finished log is one Parquet file that pandas,
polars, DuckDB and Dask read without this package. `import_log` makes logs of what other programs
wrote.

Needs pyarrow: pip install 'iovabitmap[logs]'.
"""

from .errors import LogError
from .importers import FORMATS, import_log
from .log import DirtyLog
from .writer import LogWriter

__all__ = ["FORMATS", "DirtyLog", "LogError", "LogWriter", "import_log"]
