"""Monitor: a connection to QEMU's monitor, synchronous over the asynchronous package qemu.qmp.

The event loop runs in a thread of its own, so that a Monitor works in notebooks too, where the main
thread has a loop already, and so that events are received while nobody waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .._base.optional import need
from ._errors import QemuError

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Iterator, Mapping
    from typing import Self

T = TypeVar("T")


@dataclass(frozen=True)
class Kvm:
    """Whether this QEMU was built with KVM, and whether its guest runs on it."""

    present: bool
    enabled: bool


class Monitor:
    """A connection to the QMP socket of a QEMU: ``-qmp unix:PATH,server=on,wait=off``.

    A socket serves one connection at a time. Connected when made; `close()`, or the end of `with`,
    ends the connection, and not QEMU.

    Parameters
    ----------
    address : path, or (host, port)
        A Unix socket, or one of TCP.
    timeout : float
        Seconds that the connection and each command may take.

    Raises
    ------
    ImportError
        The package qemu.qmp is not installed.
    ConnectionError
        Nobody answers, or it is no QMP. So do all methods when QEMU is gone.
    TimeoutError
        Not within `timeout`. So do all methods.

    Examples
    --------
    >>> from iovabitmap.qemu import Monitor
    >>> with Monitor("/run/guest.qmp") as monitor:  # doctest: +SKIP
    ...     monitor.version, monitor.execute("query-status")["status"]
    ((7, 2, 22), 'running')
    """

    def __init__(
        self, address: str | os.PathLike[str] | tuple[str, int], *, timeout: float = 30.0
    ) -> None:
        self._qmp = need("qemu.qmp")
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="iovabitmap-qmp", daemon=True
        )
        self._thread.start()
        self._client = self._qmp.QMPClient()
        self._client.logger.disabled = True  # what goes wrong is raised
        where = address if isinstance(address, tuple) else str(address)
        try:
            self._run(self._client.connect(where), timeout)
        except self._qmp.QMPError as error:
            self._end()
            raise ConnectionError(f"no QMP at {where}: {error}") from error
        except TimeoutError as error:
            self._end()
            raise TimeoutError(f"no greeting at {where} in {timeout:g} s") from error
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Does nothing where it is closed."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):  # why it ended by itself was told before
            self._run(self._client.disconnect(), self._timeout)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """The result of a coroutine of the loop's."""
        if self._loop.is_closed():
            work.close()
            raise ConnectionError("the Monitor is closed")
        bounded = asyncio.wait_for(work, timeout)
        return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, /, **named: Any
    ) -> Any:
        """What QEMU returns for a command.

        Names of arguments are sent as they are: QEMU has ``bps_rd`` and ``max-bandwidth``. Names
        with a hyphen come in a mapping, the others by name too.

        Raises
        ------
        ValueError
            An argument is given twice. QEMU was not asked.
        QemuError
            QEMU refused, with its words.

        Examples
        --------
        >>> monitor.execute("migrate-set-parameters", {"max-bandwidth": 10**9})  # doctest: +SKIP
        {}
        >>> monitor.execute("migrate", uri="unix:/run/other")  # doctest: +SKIP
        {}
        """
        given = dict(arguments or {})
        twice = sorted(given.keys() & named.keys())
        if twice:
            raise ValueError(f"{command}: given twice: {', '.join(twice)}")
        given |= named
        try:
            return self._run(self._client.execute(command, given), self._timeout)
        except self._qmp.ExecuteError as error:
            raise QemuError(f"{command}: {error}") from error
        except (self._qmp.ExecInterruptedError, self._qmp.StateError) as error:
            raise ConnectionError(f"QEMU is gone: it did not answer {command}") from error
        except TimeoutError as error:
            raise TimeoutError(f"no answer to {command} in {self._timeout:g} s") from error

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version."""
        found = self._client.greeting.QMP.version["qemu"]
        return found["major"], found["minor"], found["micro"]

    @property
    def kvm(self) -> Kvm:
        """Asks whether the guest runs on KVM."""
        found = self.execute("query-kvm")
        return Kvm(found["present"], found["enabled"])

    @contextlib.contextmanager
    def listen(self, *names: str) -> Iterator[Events]:
        """Within `with`: events of these names, from now on, in their order."""
        listener = self._qmp.EventListener(names)
        self._client.register_listener(listener)
        try:
            yield Events(self, listener)
        finally:
            self._client.remove_listener(listener)

    async def _next(self, listener: Any) -> dict[str, Any]:
        """The next event; or the end of the connection, of which listeners are not told."""
        event = asyncio.ensure_future(listener.get())
        end = asyncio.ensure_future(self._client.runstate_changed())
        try:
            if self._client.runstate == self._qmp.Runstate.RUNNING:
                await asyncio.wait({event, end}, return_when=asyncio.FIRST_COMPLETED)
            elif not listener.empty():
                await event
            if event.done():
                return dict(event.result())
            raise ConnectionError("QEMU is gone: it sends no events")
        finally:
            event.cancel()
            end.cancel()


class Events:
    """A queue of events of a Monitor; see `Monitor.listen`."""

    def __init__(self, monitor: Monitor, listener: Any) -> None:
        self._monitor = monitor
        self._listener = listener

    def get(self, timeout: float) -> dict[str, Any]:
        """The next event as QEMU sent it: "event", "data", "timestamp".

        Raises TimeoutError after so many seconds, ConnectionError when QEMU is gone.
        """
        return self._monitor._run(self._monitor._next(self._listener), timeout)
