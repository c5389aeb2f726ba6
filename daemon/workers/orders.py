"""What a parent says to a worker: its orders at the beginning, and that it is to stop.

A frame of a length and a pickle, then `stop` in plain text: the worker must not read further than its orders, since the
rest is for its loop. Pickled, because a configuration that was checked once need not be read and checked again - it may
have changed in the meantime, and workers of one daemon have one configuration.
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
    """A listener by the numbers of its files, which are the same in parent and worker."""

    address: ListenAddress
    files: tuple[int, ...]

    def listener(self) -> Listener:
        return Listener(address=self.address, sockets=tuple(socket.socket(fileno=file) for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrders:
    """`number` is the worker's place, from 0: a worker started anew takes the place of the one that died."""

    number: int
    config: Config
    main: InheritedSockets
    ops: InheritedSockets | None

    def listeners(self) -> Listeners:
        return Listeners(main=self.main.listener(), ops=None if self.ops is None else self.ops.listener())

    @property
    def files(self) -> tuple[int, ...]:
        return self.main.files + (() if self.ops is None else self.ops.files)


def inherited(listener: Listener) -> InheritedSockets:
    return InheritedSockets(address=listener.address, files=tuple(each.fileno() for each in listener.sockets))


def written(orders: WorkerOrders) -> bytes:
    body = pickle.dumps(orders)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read(file: int) -> WorkerOrders:
    """Reads no byte too many. Raises EOFError if whoever gives the orders is gone."""
    length = int.from_bytes(_exactly(file, _LENGTH_BYTES), "big")
    given: WorkerOrders = pickle.loads(_exactly(file, length))  # noqa: S301 - from the parent, through a pipe of its own
    return given


def _exactly(file: int, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = os.read(file, count - len(found))
        if not more:
            raise EOFError("the parent is gone")
        found += more
    return found
