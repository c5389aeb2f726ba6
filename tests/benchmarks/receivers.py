"""Receivers of every kind in a process of their own. It logs each arrival, from which latency, order and gaps are computed.

The path gives the kind and the route: /live/7 answers at once, /slow/7 after 14 s, /dead/7 accepts and never answers,
/failing/7 answers 500. `recover` makes dead and failing ones live. Times are monotonic, which all processes share.
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

from tests.benchmarks.counting_receiver import RawConnection
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
    was_accepted: bool

    @property
    def seconds(self) -> float:
        return self.at - self.published_at


class Receivers:
    """`accepted` is the number of requests of a kind whose answer was 204, or will be."""

    def __init__(self, url: str, pipe: Connection, counts: SynchronizedArray[int]) -> None:
        self.url = url
        self._pipe = pipe
        self._counts = counts

    def accepted(self, kind: str = "live") -> int:
        return self._counts[KINDS.index(kind)]

    async def until_accepted(self, count: int, *, kind: str = "live", seconds: float = 60.0) -> None:
        await until(lambda: self.accepted(kind) >= count, seconds=seconds)

    def arrivals(self) -> list[Arrival]:
        """The arrivals since the last call."""
        self._pipe.send("arrivals")
        numbers = array("d")
        numbers.frombytes(self._answer())
        fields = iter(numbers)
        return [
            Arrival(int(route), int(number), published_at, at, bool(was_accepted))
            for route, number, published_at, at, was_accepted in zip(*[fields] * 5, strict=True)
        ]

    def recover(self) -> float:
        """Makes every receiver live, and closes connections with an unanswered request. Returns the time of it."""
        self._pipe.send("recover")
        return array("d", self._answer())[0]

    def _answer(self) -> bytes:
        if not self._pipe.poll(ANSWER_SECONDS):
            raise SystemExit("the process of the receivers does not answer")
        return self._pipe.recv_bytes()


class _ReceiverState:
    """The state of the receiving process."""

    def __init__(self, counts: SynchronizedArray[int]) -> None:
        self.counts = counts
        self.arrivals = array("d")
        self.is_recovered = False
        self.held: set[_Connection] = set()


class _Connection(RawConnection):
    def __init__(self, state: _ReceiverState) -> None:
        super().__init__()
        self._state = state

    def request_received(self, request: bytes) -> None:
        state, path, stamp = self._state, _PATH.match(request), _STAMP.search(request)
        if path is None or stamp is None:
            self.answer(_FAILURE)
            return
        kind = path.group(1).decode()
        is_accepted = state.is_recovered or kind in {"live", "slow"}
        state.arrivals.extend(
            (int(path.group(2)), int(stamp.group(2)), float(stamp.group(1)), time.monotonic(), is_accepted)
        )
        if is_accepted:
            state.counts[KINDS.index(kind)] += 1
        if kind == "slow":
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self.answer)
        elif is_accepted:
            self.answer()
        elif kind == "failing":
            self.answer(_FAILURE)
        else:
            state.held.add(self)

    def cut(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.held.discard(self)


def _serve(pipe: Connection, counts: SynchronizedArray[int]) -> None:
    state = _ReceiverState(counts)

    def handle_command() -> None:
        try:
            command = pipe.recv()
        except EOFError:  # the benchmark was killed
            asyncio.get_running_loop().stop()
            return
        if command == "arrivals":
            arrivals, state.arrivals = state.arrivals, array("d")
            pipe.send_bytes(arrivals.tobytes())
        else:
            state.is_recovered = True
            for connection in list(state.held):
                connection.cut()
            pipe.send_bytes(array("d", [time.monotonic()]).tobytes())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=1024)
        loop.add_reader(pipe.fileno(), handle_command)
        os.set_blocking(pipe.fileno(), True)  # the line above made it non-blocking
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
