"""A receiver in a process of its own that writes down every request, and outlives whatever is done to a daemon.

The path says whose receiver it is; `behave` says how it answers, promptly until told otherwise. The signature is
verified on arrival, by the scheme as it is specified and not by our own code. Times are monotonic, which all processes
of a machine share.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, NamedTuple

import uvloop

from tests.benchmarks.sink import ANSWER, Wire

_PATH = re.compile(rb"POST (/\S*) ")
_HEADERS = {
    name: re.compile(rb"\r\n" + name.encode() + rb": *([^\r]*)", re.IGNORECASE)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
}

ANSWER_SECONDS = 30.0


class Arrival(NamedTuple):
    """One request. `is_taken`: it was answered with 2xx, or will be."""

    path: str
    event_id: str
    webhook_id: str
    at: float
    is_signed: bool
    is_taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Answers with `status` after `seconds`; None: accepts the request and never answers."""

    status: int | None = 204
    seconds: float = 0.0


PROMPT = Behaviour()
DEAD = Behaviour(status=None)
FAILING = Behaviour(status=503)


def slow(seconds: float) -> Behaviour:
    return Behaviour(seconds=seconds)


class Witness:
    """The test's side of it. `count` is the number of requests that came so far."""

    def __init__(self, url: str, pipe: Connection, count: Synchronized[int]) -> None:
        self.url = url
        self._pipe = pipe
        self._count = count
        self._known: list[Arrival] = []

    @property
    def count(self) -> int:
        return self._count.value

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """From now on; what a dead receiver left without an answer is cut off."""
        self._ask("behave", path, behaviour)

    def know(self, path: str, key: str) -> None:
        """Tells the key that requests to a path are signed with."""
        self._ask("know", path, key)

    def arrivals(self) -> list[Arrival]:
        """Everything that came so far, in order."""
        self._known += [Arrival(*fields) for fields in self._ask("arrivals", len(self._known))]
        return list(self._known)

    def connections(self) -> int:
        """How many are open. Of a process that is gone, everything it sent has arrived once its own are closed."""
        return int(self._ask("connections"))

    def _ask(self, *question: object) -> Any:
        self._pipe.send(question)
        assert self._pipe.poll(ANSWER_SECONDS), "the witness does not answer"
        return self._pipe.recv()


@dataclass
class _Book:
    count: Synchronized[int]
    arrivals: list[Arrival] = field(default_factory=list)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, set[_Receiver]] = field(default_factory=dict)
    connections: set[_Receiver] = field(default_factory=set)

    def answer(self, command: str, *arguments: Any) -> object:
        match command, arguments:
            case "behave", (path, behaviour):
                self.behaviours[path] = behaviour
                for receiver in self.held.pop(path, set()):
                    receiver.cut()
            case "know", (path, key):
                self.keys[path] = base64.b64decode(key.removeprefix("whsec_"))
            case "connections", ():
                return len(self.connections)
            case _:
                (known,) = arguments
                return [tuple(arrival) for arrival in self.arrivals[known:]]
        return None

    def note(self, request: bytes) -> tuple[str, Behaviour]:
        at = time.monotonic()
        head, _, body = request.partition(b"\r\n\r\n")
        found = _PATH.match(head)
        path = found.group(1).decode() if found else "?"
        behaviour = self.behaviours.get(path, PROMPT)
        headers = {name: _first(pattern, head) for name, pattern in _HEADERS.items()}
        arrival = Arrival(
            path,
            json.loads(body)["id"],
            headers["webhook-id"].decode(),
            at,
            self._is_signed(path, headers, body),
            behaviour.status is not None and 200 <= behaviour.status < 300,
        )
        self.arrivals.append(arrival)
        self.count.value += 1
        return path, behaviour

    def _is_signed(self, path: str, headers: dict[str, bytes], body: bytes) -> bool:
        """Standard Webhooks: HMAC-SHA256 over id, timestamp and body; any of the values given will do."""
        signed = b".".join((headers["webhook-id"], headers["webhook-timestamp"], body))
        expected = b"v1," + base64.b64encode(hmac.digest(self.keys.get(path, b""), signed, hashlib.sha256))
        return expected in headers["webhook-signature"].split()


def _first(pattern: re.Pattern[bytes], head: bytes) -> bytes:
    found = pattern.search(head)
    return found.group(1).strip() if found else b""


class _Receiver(Wire):
    """One connection."""

    def __init__(self, book: _Book) -> None:
        super().__init__()
        self._book = book

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._book.connections.add(self)

    def asked(self, request: bytes) -> None:
        path, behaviour = self._book.note(request)
        if behaviour.status is None:
            self._book.held.setdefault(path, set()).add(self)
        elif behaviour.seconds:
            asyncio.get_running_loop().call_later(behaviour.seconds, self._answer_with, behaviour.status)
        else:
            self._answer_with(behaviour.status)

    def cut(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._book.connections.discard(self)
        for held in self._book.held.values():
            held.discard(self)

    def _answer_with(self, status: int) -> None:
        self.answer(ANSWER if status == 204 else b"HTTP/1.1 %d Told So\r\nContent-Length: 0\r\n\r\n" % status)


def _serve(pipe: Connection, count: Synchronized[int]) -> None:
    book = _Book(count)

    def obey() -> None:
        try:
            question = pipe.recv()
        except EOFError:  # the test is gone
            asyncio.get_running_loop().stop()
            return
        os.set_blocking(pipe.fileno(), True)  # the loop made it non-blocking, the whole log is large
        pipe.send(book.answer(*question))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Receiver(book), "127.0.0.1", 0, backlog=1024)
        loop.add_reader(pipe.fileno(), obey)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def witness() -> Iterator[Witness]:
    context = get_context("spawn")
    count = context.Value("q", 0, lock=False)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Witness(f"http://127.0.0.1:{ours.recv()}", ours, count)
    finally:
        process.terminate()
        process.join()
