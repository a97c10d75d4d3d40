"""Recording: epochs of a source into a log, at the moments of a schedule, until a program's end."""

from .recorder import Recorder, Tally
from .running import Life, Running
from .schedule import Schedule

__all__ = ["Life", "Recorder", "Running", "Schedule", "Tally"]
