"""A QEMU that is only its monitor: a QMP server on a Unix socket, which answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Answer = Callable[["FakeQemu", dict[str, Any]], Any]


class Refusal(Exception):
    """What an answer raises for the command to be refused."""


class HangUp(Exception):
    """What an answer raises for QEMU to end."""


class FakeQemu:
    """Serves one connection. `answers` has for each command a value, or a function of this object
    and the command's arguments that returns one; `asked` is what came: (command, arguments)."""

    def __init__(
        self, path: Path, answers: dict[str, Any], *, version: tuple[int, int, int] = (7, 2, 22)
    ) -> None:
        self.path = path
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers = {"qmp_capabilities": {}, **answers}
        self._version = dict(zip(("major", "minor", "micro"), version, strict=True))
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._connection: socket.socket | None = None

    def __enter__(self) -> FakeQemu:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # for a thread that waits for a connection
        self._thread.join()
        self._listening.close()

    def commands(self) -> list[str]:
        return [command for command, _ in self.asked if command != "qmp_capabilities"]

    def _send(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, at_ms: int, **data: Any) -> None:
        stamp = {"seconds": at_ms // 1000, "microseconds": at_ms % 1000 * 1000}
        self._send({"event": name, "data": data, "timestamp": stamp})

    def _serve(self) -> None:
        try:
            self._connection, _ = self._listening.accept()
        except OSError:
            return
        with self._connection as connection:
            version = {"qemu": self._version, "package": ""}
            self._send({"QMP": {"version": version, "capabilities": []}})
            try:
                for message in _messages(connection):
                    self._answer(message)
            except HangUp:
                return

    def _answer(self, message: dict[str, Any]) -> None:
        command, arguments = message["execute"], message.get("arguments", {})
        self.asked.append((command, arguments))
        answer = self._answers[command]
        try:
            value = answer(self, arguments) if callable(answer) else answer
        except Refusal as refusal:
            error = {"class": "GenericError", "desc": str(refusal)}
            self._send({"id": message.get("id"), "error": error})
        else:
            self._send({"id": message.get("id"), "return": value})


def _messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Commands, each one JSON object: clients need not end them by a newline."""
    text = ""
    while received := connection.recv(1 << 16):
        text = (text + received.decode()).lstrip()
        while text:
            try:
                message, end = json.JSONDecoder().raw_decode(text)
            except ValueError:  # the rest of it is on its way
                break
            yield message
            text = text[end:].lstrip()
