"""What a parent writes to a worker: its orders at the start, later other configurations, and the request to stop.

Each is a frame of a length and a pickle; the empty frame asks for the end. A worker must not read beyond a frame,
because its event loop reads the next one. The checked configuration is pickled and not read from the file again: the
file may have changed meanwhile, and all workers of one daemon need the same configuration.

A worker answers each configuration with one line: it is ready by it, or why it goes on by the one before.
"""

from __future__ import annotations

import os
import pickle
import socket
from dataclasses import dataclass

from daemon.config import Config, ListenAddress
from daemon.web.http.listeners import Listener, Listeners

READY = b"ready\n"
# The exit code of a worker whose address somebody else listens on: the others would find the same (EX_TEMPFAIL).
NOT_LISTENING = 75
_REFUSED = b"refused "
# What a worker says: the parent reads lines of 64 KiB, and a pipe takes no more at once.
MAX_REFUSAL_CHARACTERS = 4000

_LENGTH_BYTES = 4
STOP = bytes(_LENGTH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedSockets:
    """A listener by its file descriptors, which are the same in parent and worker."""

    address: ListenAddress
    descriptors: tuple[int, ...]

    def listener(self) -> Listener:
        return Listener(address=self.address, sockets=tuple(socket.socket(fileno=each) for each in self.descriptors))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrders:
    """`number` is the worker's slot, from 0. A restarted worker takes the slot of the one that died. `watchdog` is the
    descriptor for its pings (daemon.workers.watchdog).
    """

    number: int
    config: Config
    main: InheritedSockets
    ops: InheritedSockets | None
    watchdog: int

    def listeners(self) -> Listeners:
        return Listeners(main=self.main.listener(), ops=None if self.ops is None else self.ops.listener())

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.main.descriptors + (() if self.ops is None else self.ops.descriptors)


def inherited_sockets(listener: Listener) -> InheritedSockets:
    return InheritedSockets(address=listener.address, descriptors=tuple(each.fileno() for each in listener.sockets))


def encode(content: WorkerOrders | Config) -> bytes:
    body = pickle.dumps(content)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read(descriptor: int) -> WorkerOrders:
    """Reads the orders and not one byte more. Raises EOFError if the parent is gone."""
    orders: WorkerOrders = pickle.loads(_read_frame(descriptor))  # noqa: S301 - from the parent, by a pipe
    return orders


def read_next(descriptor: int) -> Config | None:
    """Reads another configuration, or None: a request to stop. Raises EOFError if the parent is gone."""
    body = _read_frame(descriptor)
    config: Config | None = pickle.loads(body) if body else None  # noqa: S301 - from the parent, by a pipe
    return config


def refusal(why: str) -> bytes:
    return _REFUSED + " ".join(why.split())[:MAX_REFUSAL_CHARACTERS].encode(errors="backslashreplace") + b"\n"


def why_refused(answer: bytes) -> str | None:
    """Why a worker goes on by the configuration before, None if it is ready by the new one."""
    if answer == READY:
        return None
    return answer.removeprefix(_REFUSED).decode().strip() or "it died"


def _read_frame(descriptor: int) -> bytes:
    return _read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big"))


def _read_exactly(descriptor: int, count: int) -> bytes:
    content = b""
    while len(content) < count:
        chunk = os.read(descriptor, count - len(content))
        if not chunk:
            raise EOFError("the parent is gone")
        content += chunk
    return content
