"""Receivers of every kind, in a process of their own, which notes each arrival: latency, order and gaps are read off it.

The path says the kind and the route: /live/7 answers at once, /slow/7 after 14 s, /dead/7 accepts and never answers,
/failing/7 answers 500. `mend` makes dead and failing ones live. Times are monotonic, which all processes share.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from typing import NamedTuple

import uvloop

from tests.benchmarks.sink import Wire
from tests.support.until import until

SLOW_SECONDS = 14.0
ANSWER_SECONDS = 30.0
KINDS = ("live", "slow", "dead", "failing")
_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
_PATH = re.compile(rb"POST /(\w+)/(\d+) ")
_STAMP = re.compile(rb'"published_at":([\d.]+),"number":(\d+)')


class Arrival(NamedTuple):
    route: int
    number: int
    published_at: float
    at: float
    was_taken: bool

    @property
    def seconds(self) -> float:
        return self.at - self.published_at


class Receivers:
    """`taken` counts by kind what was answered with 204, or will be."""

    def __init__(self, url: str, pipe: Connection, counts: SynchronizedArray[int]) -> None:
        self.url = url
        self._pipe = pipe
        self._counts = counts

    def taken(self, kind: str = "live") -> int:
        return self._counts[KINDS.index(kind)]

    async def until_taken(self, count: int, *, kind: str = "live", seconds: float = 60.0) -> None:
        await until(lambda: self.taken(kind) >= count, seconds=seconds)

    def arrivals(self) -> list[Arrival]:
        """What arrived since this was asked last."""
        self._pipe.send("arrivals")
        numbers = array("d")
        numbers.frombytes(self._answer())
        fields = iter(numbers)
        return [
            Arrival(int(route), int(number), published_at, at, bool(was_taken))
            for route, number, published_at, at, was_taken in zip(*[fields] * 5, strict=True)
        ]

    def mend(self) -> float:
        """Makes every receiver live, and cuts the connections it left without an answer; the moment of it."""
        self._pipe.send("mend")
        return array("d", self._answer())[0]

    def _answer(self) -> bytes:
        if not self._pipe.poll(ANSWER_SECONDS):
            raise SystemExit("the process of the receivers does not answer")
        return self._pipe.recv_bytes()


class _Book:
    """What the receiving process knows."""

    def __init__(self, counts: SynchronizedArray[int]) -> None:
        self.counts = counts
        self.arrivals = array("d")
        self.is_mended = False
        self.held: set[_Receiver] = set()


class _Receiver(Wire):
    def __init__(self, book: _Book) -> None:
        super().__init__()
        self._book = book

    def asked(self, request: bytes) -> None:
        book, path, stamp = self._book, _PATH.match(request), _STAMP.search(request)
        if path is None or stamp is None:
            self.answer(_FAILURE)
            return
        kind = path.group(1).decode()
        is_taken = book.is_mended or kind in {"live", "slow"}
        book.arrivals.extend(
            (int(path.group(2)), int(stamp.group(2)), float(stamp.group(1)), time.monotonic(), is_taken)
        )
        if is_taken:
            book.counts[KINDS.index(kind)] += 1
        if kind == "slow":
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self.answer)
        elif is_taken:
            self.answer()
        elif kind == "failing":
            self.answer(_FAILURE)
        else:
            book.held.add(self)

    def cut(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._book.held.discard(self)


def _serve(pipe: Connection, counts: SynchronizedArray[int]) -> None:
    book = _Book(counts)

    def obey() -> None:
        if pipe.recv() == "arrivals":
            arrivals, book.arrivals = book.arrivals, array("d")
            pipe.send_bytes(arrivals.tobytes())
        else:
            book.is_mended = True
            for receiver in list(book.held):
                receiver.cut()
            pipe.send_bytes(array("d", [time.monotonic()]).tobytes())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Receiver(book), "127.0.0.1", 0, backlog=1024)
        loop.add_reader(pipe.fileno(), obey)
        os.set_blocking(pipe.fileno(), True)  # which the line above changed
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def receivers() -> Iterator[Receivers]:
    context = get_context("spawn")
    counts = context.Array("q", len(KINDS), lock=False)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, counts), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Receivers(f"http://127.0.0.1:{ours.recv()}", ours, counts)
    finally:
        process.terminate()
        process.join()
