"""A TLS server on a blocking socket: it sends the alert of a handshake that fails, as servers do and asyncio does not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

WAITING_SECONDS = 10.0


@contextmanager
def blocking_tls_server(context: ssl.SSLContext) -> Iterator[int]:
    """Shakes hands with one client, and closes the connection. Yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAITING_SECONDS)

        def serve() -> None:
            with suppress(OSError):  # ssl.SSLError is one
                connection, _ = listening.accept()
                connection.settimeout(WAITING_SECONDS)
                with connection, context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1)

        thread = Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(WAITING_SECONDS)
