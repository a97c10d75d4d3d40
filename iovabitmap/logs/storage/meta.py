"""What a log says about itself: the geometry, where the dirty bits came from, and when it began."""

from __future__ import annotations

import json
import operator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..._base.geometry import Geometry, geometry_of
from ..._core import nbytes_for
from ..errors import LogError

if TYPE_CHECKING:
    from ..._base.paths import StrPath

VERSION = 1  # of the format; a reader refuses a later one
MAX_JSON = 16 << 20  # bytes; what a log says about itself is never more


@dataclass(frozen=True)
class Meta:
    """The metadata of a log, as they are stored (docs/logs.md has the meaning of each)."""

    iova: int
    length: int
    page_size: int
    granularity: int
    source: str = ""
    host: str = ""
    command: str | list[str] | None = None
    started: str = ""  # wall-clock, ISO 8601 with the offset from UTC
    started_unix_ns: int = 0
    started_monotonic_ns: int | None = None  # the same instant; None: times have another origin
    notes: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("iova", "length", "page_size", "granularity", "started_unix_ns"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        if self.iova < 0 or self.length < 1 or self.iova + self.length > 2**64:
            raise ValueError(f"no range of addresses: iova {self.iova}, length {self.length}")
        nbytes_for(self.length, self.page_size)  # raises for what is no page size
        if self.granularity < 1:
            raise ValueError(f"granularity must be 1 or more, not {self.granularity}")
        for name in ("source", "host", "started"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a str, not {getattr(self, name)!r}")
        words = self.command if isinstance(self.command, list) else [self.command or ""]
        if not all(isinstance(word, str) for word in words):
            raise TypeError(f"command must be a str or a list of them, not {self.command!r}")
        if not isinstance(self.notes, dict):
            raise TypeError(f"notes must be a dict, not {self.notes!r}")

    @property
    def geometry(self) -> Geometry:
        """That of each epoch's bitmap."""
        return geometry_of(self)

    def is_of(self, other: Meta) -> bool:
        """Whether both are of one recording, at whatever time."""
        return replace(self, notes={}) == replace(other, notes={})

    def noting(self, name: str, value: Any) -> Meta:
        """The same with a note more, or another value for one."""
        return replace(self, notes={**self.notes, name: value})

    def to_json(self, **more: Any) -> bytes:
        """As JSON, with more members. TypeError or ValueError for notes that JSON cannot hold."""
        text = json.dumps({**asdict(self), **more}, allow_nan=False).encode()
        if len(text) > MAX_JSON:
            raise ValueError(f"the metadata of a log are {MAX_JSON} bytes at most, not {len(text)}")
        return text


def from_json(text: bytes, path: StrPath) -> tuple[Meta, dict[str, Any]]:
    """The metadata, and members that are not part of them. LogError for anything unexpected."""
    try:
        document = json.loads(text)
        version = document["version"]
        if version != VERSION:
            raise LogError(path, f"a log of version {version!r}; this program reads {VERSION}")
        known = {name: document.pop(name) for name in Meta.__dataclass_fields__}
        return Meta(**known), document
    except LogError:
        raise
    except KeyError as missing:
        raise LogError(path, f"its metadata lack {missing}") from missing
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LogError(path, f"its metadata make no sense: {error}") from error
