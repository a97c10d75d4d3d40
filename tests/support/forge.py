"""Forged Parquet files: any number in the footer or in a page header changed, the rest as it was.

A small codec of Thrift's compact protocol, to a tree of plain lists and back, so that a test can
say "this page claims 2 GiB" and nothing else is wrong with the file.
"""

from __future__ import annotations

from collections.abc import Iterator

STRUCT = 12
Node = list  # [kind, value]; a struct's value is a list of [field, node], a list's of nodes


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def raw(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def node(self, kind: int) -> Node:
        if kind in (4, 5, 6):
            return [kind, self.zigzag()]
        if kind == 3:
            return [kind, self.byte()]
        if kind == 8:
            return [kind, self.raw(self.varint())]
        if kind in (9, 10):
            head = self.byte()
            count = head >> 4 if head >> 4 != 15 else self.varint()
            return [kind, [head & 15, *(self.node(head & 15) for _ in range(count))]]
        if kind == STRUCT:
            return self.struct()
        assert kind in (1, 2), kind
        return [kind, None]

    def struct(self) -> Node:
        fields, number = [], 0
        while (head := self.byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields.append([number, self.node(head & 15)])
        return [STRUCT, fields]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def encode(node: Node) -> bytes:
    """The bytes of a node."""
    kind, value = node
    if kind in (4, 5, 6):
        return _zigzag(value)
    if kind == 3:
        return bytes((value,))
    if kind == 8:
        return _varint(len(value)) + value
    if kind in (9, 10):
        count = len(value) - 1
        head = bytes((count << 4 | value[0],)) if count < 15 else bytes((0xF0 | value[0],))
        return head + (_varint(count) if count >= 15 else b"") + b"".join(map(encode, value[1:]))
    if kind == STRUCT:
        out, before = b"", 0
        for number, inner in value:
            delta = number - before
            head = bytes((delta << 4 | inner[0],)) if 0 < delta < 16 else None
            out += (head or bytes((inner[0],)) + _zigzag(number)) + encode(inner)
            before = number
        return out + b"\0"
    return b""


def numbers(node: Node) -> Iterator[Node]:
    """Every integer node of a tree."""
    kind, value = node
    if kind in (4, 5, 6):
        yield node
    elif kind == STRUCT:
        for _, inner in value:
            yield from numbers(inner)
    elif kind in (9, 10):
        for inner in value[1:]:
            if isinstance(inner, list):
                yield from numbers(inner)


def field(node: Node, *path: int) -> Node:
    """The node at a path of field numbers and, inside of lists, of indices."""
    for step in path:
        kind, value = node
        node = value[step + 1] if kind in (9, 10) else dict(map(tuple, value))[step]
    return node


def split(data: bytes) -> tuple[bytes, Node]:
    """A Parquet file as all before its footer, and the footer's tree."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    return data[:start], _Reader(data, start).struct()


def assemble(body: bytes, footer: Node) -> bytes:
    """The file again."""
    encoded = encode(footer)
    return body + encoded + len(encoded).to_bytes(4, "little") + b"PAR1"


def page_at(data: bytes, at: int) -> tuple[Node, int]:
    """The page header at an offset, and where it ends."""
    reader = _Reader(data, at)
    return reader.struct(), reader.at


def with_page(data: bytes, column: int, change, stored: bytes | None = None) -> bytes:
    """The file with the first page header of a column of its first row group changed by
    `change(header)`, and other bytes stored for the page where they are given. What lies behind
    moves, and the footer says so."""
    body, footer = split(data)
    chunks = field(footer, 4, 0, 1)
    chunk = field(chunks, column, 3)
    fields = dict(map(tuple, chunk[1]))
    start = min(fields[n][1] for n in (9, 11) if n in fields)
    header, end = page_at(body, start)
    if stored is not None:
        end += field(header, 3)[1]
    change(header)
    new = encode(header) + (stored or b"")
    grown = len(new) - (end - start)
    for n in range(5):
        for number, node in field(chunks, n, 3)[1]:
            if number in (9, 11) and node[1] > start:
                node[1] += grown
    fields[7][1] += grown
    return assemble(body[:start] + new + body[end:], footer)
