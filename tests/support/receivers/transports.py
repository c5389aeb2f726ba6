"""A transport without a socket: a test hands a connection the bytes, and sees what it does."""

from __future__ import annotations

import asyncio


class ScriptedTransport(asyncio.Transport):
    """Its connection is lost as soon as it is aborted."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._is_closing = False
        self.written = b""
        self.unsent_bytes = 0
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._protocol.connection_lost(error)
