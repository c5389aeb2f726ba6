"""NDJSON cut into lines as its bytes come, in the memory of one line: blank ones are skipped, all are numbered from 1.

A line ends with LF or CRLF, the last one may end with nothing, and the first may begin with a byte order mark. Of a
line beyond the limit only the length is kept, so that it is refused for its length and the ones behind it are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that is not blank, without its end. `text` is None if it is longer than allowed."""

    number: int
    text: bytes | None
    size_bytes: int


class LineSplitter:
    """Fed with chunks cut anywhere. `ended` is the number of the last line that has ended."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.ended = 0
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in this chunk."""
        first, *others = chunk.split(b"\n")
        self._keep(first)
        for piece in others:
            yield from self.end()
            self._keep(piece)

    def end(self) -> Iterator[Line]:
        """The line that is made of what was fed since the last one; none if it is blank."""
        self.ended += 1
        is_whole = self._size_bytes == sum(map(len, self._pieces))
        text = b"".join(self._pieces)
        if self.ended == 1:
            text = text.removeprefix(_BOM)
        text = text.strip()
        if not is_whole or len(text) > self._max_bytes:
            yield Line(number=self.ended, text=None, size_bytes=self._size_bytes)
        elif text:
            yield Line(number=self.ended, text=text, size_bytes=len(text))
        self._pieces, self._size_bytes = [], 0

    def _keep(self, piece: bytes) -> None:
        self._size_bytes += len(piece)
        if self._size_bytes <= self._max_bytes + len(_BOM) + len(b"\r"):
            self._pieces.append(piece)
        else:
            self._pieces = []
