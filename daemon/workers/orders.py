"""What a parent writes to a worker: its orders at the start, and later the request to stop.

The orders are a frame of a length and a pickle; `stop` follows in plain text. The worker must not read beyond its
orders, because its event loop reads the rest. The checked configuration is pickled and not read from the file again:
the file may have changed meanwhile, and all workers of one daemon need the same configuration.
"""

from __future__ import annotations

import os
import pickle
import socket
from dataclasses import dataclass

from daemon.config import Config, ListenAddress
from daemon.web.http.listeners import Listener, Listeners

STOP = b"stop\n"
READY = b"ready\n"

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedSockets:
    """A listener by its file descriptors, which are the same in parent and worker."""

    address: ListenAddress
    descriptors: tuple[int, ...]

    def listener(self) -> Listener:
        return Listener(address=self.address, sockets=tuple(socket.socket(fileno=each) for each in self.descriptors))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrders:
    """`number` is the worker's slot, from 0. A restarted worker takes the slot of the one that died."""

    number: int
    config: Config
    main: InheritedSockets
    ops: InheritedSockets | None

    def listeners(self) -> Listeners:
        return Listeners(main=self.main.listener(), ops=None if self.ops is None else self.ops.listener())

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.main.descriptors + (() if self.ops is None else self.ops.descriptors)


def inherited_sockets(listener: Listener) -> InheritedSockets:
    return InheritedSockets(address=listener.address, descriptors=tuple(each.fileno() for each in listener.sockets))


def encode(orders: WorkerOrders) -> bytes:
    body = pickle.dumps(orders)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read(descriptor: int) -> WorkerOrders:
    """Reads the orders and not one byte more. Raises EOFError if the parent is gone."""
    length = int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big")
    orders: WorkerOrders = pickle.loads(_read_exactly(descriptor, length))  # noqa: S301 - from the parent, by a pipe
    return orders


def _read_exactly(descriptor: int, count: int) -> bytes:
    content = b""
    while len(content) < count:
        chunk = os.read(descriptor, count - len(content))
        if not chunk:
            raise EOFError("the parent is gone")
        content += chunk
    return content
