"""Splits NDJSON into lines while its bytes arrive, with the memory of one line.

Lines are numbered from 1; blank lines count but are skipped. A line ends with LF or CRLF, the last line may end without
either, and the first may begin with a byte order mark. For a line beyond the limit only the length is kept: that line
is refused, and the lines after it are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.core.events.raw_json import BYTE_ORDER_MARK


@dataclass(slots=True, kw_only=True)
class Line:
    """A line that is not blank, without its line end. `text` is None if it is longer than allowed.

    Not frozen: one is created for every event, and creating a frozen one takes three times as long.
    """

    number: int
    text: bytes | None
    size_bytes: int


class LineSplitter:
    """Takes chunks of any size. `ended` is the number of the last complete line."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._keep_bytes = max_bytes + len(BYTE_ORDER_MARK) + len(b"\r")
        self.ended = 0
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that end in this chunk."""
        *ended, rest = chunk.split(b"\n")
        lines: list[Line] = []
        for piece in ended:
            if self._size_bytes:
                self._keep(piece)
                lines += self.end()
            elif piece:
                lines += self._line(piece, len(piece))
            else:
                self.ended += 1
        self._keep(rest)
        return lines

    def end(self) -> list[Line]:
        """Ends the current line and returns it, unless it is blank."""
        whole = b"".join(self._pieces)
        size_bytes = self._size_bytes
        self._pieces, self._size_bytes = [], 0
        return self._line(whole, size_bytes)

    def _line(self, text: bytes, size_bytes: int) -> list[Line]:
        """The line of `size_bytes` bytes. `text` has all of them if they are no more than are kept."""
        self.ended += 1
        if self.ended == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        text = text.strip()
        if size_bytes > self._keep_bytes or len(text) > self._max_bytes:
            return [Line(number=self.ended, text=None, size_bytes=size_bytes)]
        if text:
            return [Line(number=self.ended, text=text, size_bytes=len(text))]
        return []

    def _keep(self, piece: bytes) -> None:
        self._size_bytes += len(piece)
        if self._size_bytes <= self._keep_bytes:
            self._pieces.append(piece)
        else:
            self._pieces = []
