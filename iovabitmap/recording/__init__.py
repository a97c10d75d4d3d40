"""Recording: `record` puts epochs of a source into a log, at the moments of a schedule.

What runs a program to be recorded, and waits for its end, is in `running`, which needs POSIX.
"""

from .recorder import Recorder, Tally
from .recording import Recording, record
from .schedule import Schedule

__all__ = ["Recorder", "Recording", "Schedule", "Tally", "record"]
