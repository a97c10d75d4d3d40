"""QEMU's own figures, over its monitor protocol (QMP): dirty rates, and the rounds of a migration.

What is here asks a QEMU that runs, whatever its guest; it is synchronous, and one `Monitor` is for
one thread at a time. Sizes are bytes, times seconds, as in `iovabitmap.analysis`, to whose types
the answers convert. For dirty pages themselves, see `iovabitmap.sources`.

Needs qemu.qmp: pip install 'iovabitmap[qemu]'.
"""

from ._errors import MigrationError, ModeRefusedError, QemuError
from .dirty_rate import MODES, DirtyRateMeter, QemuDirtyRate
from .migration import Migration
from .monitor import Events, Kvm, Monitor
from .rounds import MigrationRound
from .statistics import MigrationStatistics

__all__ = [
    "MODES",
    "DirtyRateMeter",
    "Events",
    "Kvm",
    "Migration",
    "MigrationError",
    "MigrationRound",
    "MigrationStatistics",
    "ModeRefusedError",
    "Monitor",
    "QemuDirtyRate",
    "QemuError",
]
