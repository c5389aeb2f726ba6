"""A receiver in a process of its own that records every request. It survives whatever a test does to a daemon.

Each path is a receiver of its own. It answers 204 at once until `behave` changes that. The signature is verified on
arrival, from the specification of Standard Webhooks and without our own code. Times are monotonic seconds, which all
processes of a machine share.
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

from tests.benchmarks.counting_receiver import ANSWER, RawConnection

_PATH = re.compile(rb"POST (/\S*) ")
_HEADERS = {
    name: re.compile(rb"\r\n" + name.encode() + rb": *([^\r]*)", re.IGNORECASE)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
}

ANSWER_SECONDS = 30.0


class Arrival(NamedTuple):
    """One request. `is_accepted`: the answer was 2xx, or will be."""

    path: str
    event_id: str
    webhook_id: str
    at: float
    is_signed: bool
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseMode:
    """Answers with `status` after `seconds`. None accepts the request and never answers."""

    status: int | None = 204
    seconds: float = 0.0


PROMPT = ResponseMode()
DEAD = ResponseMode(status=None)
FAILING = ResponseMode(status=503)


def slow(seconds: float) -> ResponseMode:
    return ResponseMode(seconds=seconds)


class RecordingReceiver:
    """The handle of the test's process. `count` is the number of requests so far."""

    def __init__(self, url: str, pipe: Connection, count: Synchronized[int]) -> None:
        self.url = url
        self._pipe = pipe
        self._count = count
        self._known: list[Arrival] = []

    @property
    def count(self) -> int:
        return self._count.value

    def behave(self, path: str, mode: ResponseMode) -> None:
        """Sets how a path answers from now on. Connections on which it left a request unanswered are closed."""
        self._ask("behave", path, mode)

    def set_key(self, path: str, key: str) -> None:
        """Sets the key that requests to a path are signed with."""
        self._ask("set_key", path, key)

    def arrivals(self) -> list[Arrival]:
        """All requests so far, in order."""
        self._known += [Arrival(*fields) for fields in self._ask("arrivals", len(self._known))]
        return list(self._known)

    def connections(self) -> int:
        """How many connections are open. After a daemon has died, 0 means that everything it sent has arrived."""
        return int(self._ask("connections"))

    def _ask(self, *question: object) -> Any:
        self._pipe.send(question)
        assert self._pipe.poll(ANSWER_SECONDS), "the recording receiver does not answer"
        return self._pipe.recv()


@dataclass
class _RequestLog:
    count: Synchronized[int]
    arrivals: list[Arrival] = field(default_factory=list)
    modes: dict[str, ResponseMode] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    # Path → requests that came before its key was told: places among the arrivals, headers and bodies. A new route may
    # get its first webhook before its creator has read the answer.
    unverified: dict[str, list[tuple[int, dict[str, bytes], bytes]]] = field(default_factory=dict)
    held: dict[str, set[_Connection]] = field(default_factory=dict)
    connections: set[_Connection] = field(default_factory=set)

    def answer(self, command: str, *arguments: Any) -> object:
        match command, arguments:
            case "behave", (path, mode):
                self.modes[path] = mode
                for connection in self.held.pop(path, set()):
                    connection.cut()
            case "set_key", (path, key):
                self.keys[path] = base64.b64decode(key.removeprefix("whsec_"))
                for place, headers, body in self.unverified.pop(path, []):
                    is_signed = self._is_signed(path, headers, body)
                    self.arrivals[place] = self.arrivals[place]._replace(is_signed=is_signed)
            case "connections", ():
                return len(self.connections)
            case _:
                (known,) = arguments
                return [tuple(arrival) for arrival in self.arrivals[known:]]
        return None

    def record(self, request: bytes) -> tuple[str, ResponseMode]:
        at = time.monotonic()
        head, _, body = request.partition(b"\r\n\r\n")
        found = _PATH.match(head)
        path = found.group(1).decode() if found else "?"
        mode = self.modes.get(path, PROMPT)
        headers = {name: _first(pattern, head) for name, pattern in _HEADERS.items()}
        arrival = Arrival(
            path,
            json.loads(body)["id"],
            headers["webhook-id"].decode(),
            at,
            self._is_signed(path, headers, body),
            mode.status is not None and 200 <= mode.status < 300,
        )
        if path not in self.keys:
            self.unverified.setdefault(path, []).append((len(self.arrivals), headers, body))
        self.arrivals.append(arrival)
        self.count.value += 1
        return path, mode

    def _is_signed(self, path: str, headers: dict[str, bytes], body: bytes) -> bool:
        """Standard Webhooks: HMAC-SHA256 over id, timestamp and body; one matching value in the header suffices."""
        signed = b".".join((headers["webhook-id"], headers["webhook-timestamp"], body))
        expected = b"v1," + base64.b64encode(hmac.digest(self.keys.get(path, b""), signed, hashlib.sha256))
        return expected in headers["webhook-signature"].split()


def _first(pattern: re.Pattern[bytes], head: bytes) -> bytes:
    found = pattern.search(head)
    return found.group(1).strip() if found else b""


class _Connection(RawConnection):
    """One connection."""

    def __init__(self, log: _RequestLog) -> None:
        super().__init__()
        self._log = log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._log.connections.add(self)

    def request_received(self, request: bytes) -> None:
        path, mode = self._log.record(request)
        if mode.status is None:
            self._log.held.setdefault(path, set()).add(self)
        elif mode.seconds:
            asyncio.get_running_loop().call_later(mode.seconds, self._answer_with, mode.status)
        else:
            self._answer_with(mode.status)

    def cut(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.connections.discard(self)
        for held in self._log.held.values():
            held.discard(self)

    def _answer_with(self, status: int) -> None:
        self.answer(ANSWER if status == 204 else b"HTTP/1.1 %d Told So\r\nContent-Length: 0\r\n\r\n" % status)


def _serve(pipe: Connection, count: Synchronized[int]) -> None:
    log = _RequestLog(count)

    def handle_command() -> None:
        try:
            question = pipe.recv()
        except EOFError:  # the test is gone
            asyncio.get_running_loop().stop()
            return
        os.set_blocking(pipe.fileno(), True)  # the loop made it non-blocking, but the log may exceed the pipe's buffer
        pipe.send(log.answer(*question))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(log), "127.0.0.1", 0, backlog=1024)
        loop.add_reader(pipe.fileno(), handle_command)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def recording_receiver() -> Iterator[RecordingReceiver]:
    context = get_context("spawn")
    count = context.Value("q", 0, lock=False)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RecordingReceiver(f"http://127.0.0.1:{ours.recv()}", ours, count)
    finally:
        process.terminate()
        process.join()
