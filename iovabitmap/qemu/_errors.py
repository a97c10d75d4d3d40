"""What goes wrong with a QEMU that answers. One that is gone is a ConnectionError."""

from __future__ import annotations


class QemuError(RuntimeError):
    """QEMU refused a command; the message has its words."""


class ModeRefusedError(QemuError):
    """A measurement that would end QEMU, and the guest with it: it was not asked."""


class MigrationError(QemuError):
    """A migration failed; the guest runs on at the source."""
