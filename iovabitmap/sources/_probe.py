"""The answer of a source's `probe()`."""

from typing import NamedTuple


class Probe(NamedTuple):
    """Whether a source works on this machine; its truth value is `ok`.

    Attributes
    ----------
    ok : bool
        A round trip on memory of its own gave just what was written.
    reason : str
        What is missing where it did not, "" where it did.

    Examples
    --------
    >>> bool(Probe(False, "this kernel has no userfaultfd"))
    False
    """

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok
