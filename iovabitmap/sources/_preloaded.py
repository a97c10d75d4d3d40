"""Programs that hand their memory over: the other end of the library that is loaded into them.

A program connects, sends HELLO with three descriptors for its memory, and waits for one byte, which
it gets when its memory is armed; before it ends it connects again, sends BYE, and waits until its
memory was looked at for the last time. Who may connect knows the token, which only the program's
environment holds.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import selectors
import socket
import struct
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Fds: TypeAlias = tuple[int, int, int]

VARIABLE = "IOVABITMAP_TRACKER"
_HELLO, _BYE = 1, 2
_MESSAGE = struct.Struct("=Ii64s")
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
_FDS = 3
# Against a stranger that connects and sends nothing: a program sends at once.
_PATIENCE_S = 5.0


def library() -> Path:
    """The shared object to be preloaded.

    Raises FileNotFoundError where the package was built without it.
    """
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_preload{suffix}"
        if path.exists():
            return path
    raise FileNotFoundError(f"no _preload library in {folder}: it is built on Linux only")


class Reception:
    """Accepts programs in a thread of its own, one message after the other.

    `hello(pid, fds or None, errno)` owns the descriptors; `bye(pid)` and `gone(pid)`, after a
    process ended, are called with it too. Each must not raise.
    """

    def __init__(
        self,
        hello: Callable[[int, Fds | None, int], None],
        bye: Callable[[int], None],
        gone: Callable[[int], None],
    ) -> None:
        self._hello, self._bye, self._gone = hello, bye, gone
        self._token = secrets.token_hex(16)
        self._name = f"iovabitmap-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(f"\0{self._name}")
        self._socket.listen(128)
        self._wake_read, self._wake = os.pipe2(os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._pidfds: dict[int, int] = {}
        self._thread = threading.Thread(target=self._serve, name="iovabitmap", daemon=True)
        self._thread.start()

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """A program's environment with what makes it come here."""
        # Behind the caller's: a sanitizer's runtime must be the first.
        preload = ":".join(filter(None, [base.get("LD_PRELOAD"), str(library())]))
        return {**base, "LD_PRELOAD": preload, VARIABLE: f"{self._name}:{self._token}"}

    def watch(self, pid: int) -> None:
        """Reports the end of a process, once."""
        with contextlib.suppress(ProcessLookupError):
            if pid not in self._pidfds:
                self._pidfds[pid] = os.pidfd_open(pid)
                self._selector.register(self._pidfds[pid], selectors.EVENT_READ, pid)
            return
        self._gone(pid)

    def close(self) -> None:
        """Asks the thread to end. Programs that come later are not kept waiting."""
        os.write(self._wake, b"x")

    def join(self) -> None:
        """Waits for the thread's end, after `close()`."""
        self._thread.join()

    # --- the thread ---

    def _serve(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj == self._wake_read:
                        return
                    if key.fileobj is self._socket:
                        self._accept()
                    else:
                        self._end(key.data)
        finally:
            self._selector.close()
            self._socket.close()
            for fd in (self._wake_read, self._wake, *self._pidfds.values()):
                os.close(fd)

    def _end(self, pid: int) -> None:
        fd = self._pidfds.pop(pid)
        self._selector.unregister(fd)
        os.close(fd)
        self._gone(pid)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # who wanted in is gone
            return
        with connection:
            connection.settimeout(_PATIENCE_S)
            with contextlib.suppress(OSError):
                self._answer(connection)
                connection.send(b"\0")

    def _answer(self, connection: socket.socket) -> None:
        message, fds, _, _ = socket.recv_fds(connection, _MESSAGE.size, _FDS)
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        pid = _CREDENTIALS.unpack(credentials)[0]
        kind, error, token = (
            _MESSAGE.unpack(message) if len(message) == _MESSAGE.size else (0, 0, b"")
        )
        if hmac.compare_digest(token.rstrip(b"\0"), self._token.encode()):
            if kind == _HELLO:
                self._hello(pid, (fds[0], fds[1], fds[2]) if len(fds) == _FDS else None, error)
                fds = []
            elif kind == _BYE:
                self._bye(pid)
        for fd in fds:
            os.close(fd)
