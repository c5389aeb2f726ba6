"""A sender with the settings of most tests, a request to send, and a short form of the answer."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import pytest

from daemon.core.delivery.answer import Answer, Failure, Response
from daemon.core.webhook.egress import EgressPolicy
from daemon.core.webhook.request import header_lines
from daemon.pipeline.http_client.egress_guard import Shortage, Unsent
from daemon.pipeline.http_client.sender import Sender

DEV = EgressPolicy.dev()
TIMEOUT_SECONDS = 10.0
BODY = b'{"id": "1"}'
HEADERS = {"Content-Type": "application/json", "User-Agent": "Hookledger/0", "webhook-id": "m"}
LINES = header_lines(HEADERS)


def sender(policy: EgressPolicy = DEV, denials: list[str] | None = None, **options: object) -> Sender:
    """A sender that allows loopback. The reason of each denial is appended to `denials`."""
    options.setdefault("timeout_seconds", TIMEOUT_SECONDS)
    return Sender(policy, on_denied=(denials if denials is not None else []).append, **options)  # type: ignore[arg-type]


def forget_names(sending: Sender) -> None:
    """Forgets the addresses of all names, as the sender does after a few seconds."""
    sending._guard._resolver._names.clear()  # type: ignore[attr-defined]  # it is the remembering one


def status_or_error(answer: Answer | Unsent) -> str:
    """The status, the name of the error, `shortage` or `withheld`."""
    match answer:
        case Response():
            return str(answer.status)
        case Failure():
            return answer.error.value
        case Shortage():
            return "shortage"
        case _:
            return "withheld"


def record_connects(monkeypatch: pytest.MonkeyPatch, *, but: str = "") -> list[str]:
    """Records and refuses every connect, so that no packet leaves the machine; only those to the database at `but` pass."""
    connects: list[str] = []
    loop = asyncio.get_running_loop()
    really, free = loop.sock_connect, urlsplit(but).port

    async def sock_connect(sock: socket.socket, address: tuple[str, int]) -> None:
        if sock.family is socket.AF_UNIX or (free and address[1] == free):
            await really(sock, address)
            return
        sock.close()
        connects.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    return connects
