"""Unpacks compressed request bodies in small steps, so that a body costs no more than the limit its endpoint sets.

The server itself unpacks nothing (listeners.py). A megabyte may unpack to a gigabyte, so a reader of a body stops at
the limit of the endpoint, and only handlers read bodies: a caller without access has nothing unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from aiohttp import web

from daemon.web.http.problems import Problem

# The most that one step yields. It takes a tenth of a millisecond.
STEP_BYTES = 64 * 1024

# A gzip stream may consist of members, each with a head of its own. Tools write one for each 64 KiB or more; a body of
# empty members would cost much and unpack to nothing.
MAX_MEMBERS = 2_000

TAKEN = ("gzip", "deflate")

_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8  # RFC 1950: the lower half of the first byte


def inflater_of(request: web.Request) -> Inflater | None:
    """What unpacks the request's body, None if it is not packed. Raises Problem 415 for an unknown encoding."""
    match ", ".join(request.headers.getall("Content-Encoding", ())).strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Inflater("gzip")
        case "deflate":
            return Inflater("deflate")
        case _:
            taken = f"{', '.join(TAKEN)} or none"
            raise Problem(
                415,
                f"this Content-Encoding is not taken: send the body with {taken}",
                headers={"Accept-Encoding": ", ".join(TAKEN)},
            )


class Inflater:
    """One packed body. Call `feed` with each chunk of it, and `end` behind the last."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._unpacker = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        self._members = 1

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What a chunk unpacks to, in steps of at most STEP_BYTES, some of them empty. Raises Problem 400 or 413."""
        while packed:
            unpacker = self._unpacker_before(packed)
            try:
                unpacked = unpacker.decompress(packed, STEP_BYTES)
            except zlib.error as error:
                raise self._broken() from error
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            yield unpacked
            # What does not fit into a step may be inside the unpacker, with nothing left to feed.
            while not packed and not unpacker.eof and len(unpacked) == STEP_BYTES:
                unpacked = unpacker.decompress(b"", STEP_BYTES)
                yield unpacked

    def end(self) -> None:
        """Raises Problem 400 if the body ended too early. An empty body is whole."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise self._broken()

    def _unpacker_before(self, packed: bytes) -> zlib._Decompress:
        if self._unpacker is None:  # senders disagree about what deflate means, and the first byte tells
            self._unpacker = zlib.decompressobj(_ZLIB if packed[0] & 0xF == _ZLIB_METHOD else _RAW)
        elif self._unpacker.eof:
            if self._encoding != "gzip":
                raise self._broken()
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise Problem(413, f"the body has more than {MAX_MEMBERS} gzip members; nothing was stored")
            self._unpacker = zlib.decompressobj(_GZIP)
        return self._unpacker

    def _broken(self) -> Problem:
        return Problem(400, f"the body is not whole, or is no {self._encoding}, which its Content-Encoding says")
