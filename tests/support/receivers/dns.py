"""DNS under a test's control: a resolver with prepared answers, and a name server for real resolvers."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

A, CNAME, AAAA = 1, 5, 28
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
TRUNCATED = 0x0200
TTL_SECONDS = 60


class FakeResolver:
    """A resolver without network. Each look-up of a name takes its next answer; the last answer stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(sequence) for name, sequence in answers.items()}

    async def resolve(self, host: str) -> Sequence[str]:
        sequence = self._answers.get(host) or self._answers.get("*")
        if not sequence:
            raise OSError(None, "no such name")
        return sequence.pop(0) if len(sequence) > 1 else sequence[0]

    async def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsEntry:
    """The records of a name; `aliases` is a chain of CNAMEs, `code` the response code. Queries of the types in `silent` are
    never answered, others after `seconds`. A datagram has the first `in_datagram` records, and says if there are more.
    """

    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    code: int = 0
    silent: frozenset[int] = frozenset()
    seconds: float = 0.0
    is_garbage: bool = False
    in_datagram: int | None = None


TAR_PIT = DnsEntry(silent=frozenset({A, AAAA}))


class NameServer(asyncio.DatagramProtocol):
    """DNS on loopback; an async context manager. A name that is not in `zone` has the entry of its parent.

    `asked` counts all queries, `asked_by_tcp` those by TCP.
    """

    def __init__(self, zone: dict[str, DnsEntry]) -> None:
        self.zone = zone
        self.asked: Counter[str] = Counter()
        self.asked_by_tcp: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._by_tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._by_tcp.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transport.close()
        self._by_tcp.close()

    def datagram_received(self, query: bytes, sender: tuple[str, int]) -> None:
        name, end = _read_name(query, 12)
        entry = self._entry(name)
        answer = self._answer(query, name, end, entry, most=entry.in_datagram)
        if answer is not None:
            asyncio.get_running_loop().call_later(entry.seconds, self._send, answer, sender)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                query = await reader.readexactly(length)
                name, end = _read_name(query, 12)
                self.asked_by_tcp[name] += 1
                answer = self._answer(query, name, end, self._entry(name), most=None)
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()

    def _answer(self, query: bytes, name: str, end: int, entry: DnsEntry, *, most: int | None) -> bytes | None:
        """The answer with the first records, None for silence. `end` is where the name in the query ends."""
        (kind,) = struct.unpack_from("!H", query, end)
        self.asked[name] += 1
        if kind in entry.silent:
            return None
        records = [] if entry.code else list(_records(name, kind, entry))
        flags = 0x8180 | entry.code
        if most is not None and len(records) > most:
            records, flags = records[:most], flags | TRUNCATED
        if entry.is_garbage:
            return b"\xff" * 40
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12 : end + 4] + b"".join(records)

    def _send(self, answer: bytes, sender: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(answer, sender)

    def _entry(self, name: str) -> DnsEntry:
        found = self.zone.get(name) or self.zone.get(name.partition(".")[2])
        return found or DnsEntry(code=NXDOMAIN)


def _records(name: str, kind: int, entry: DnsEntry) -> Iterator[bytes]:
    for alias in entry.aliases:
        yield _record(name, CNAME, _written(alias))
        name = alias
    for address in map(ip_address, entry.addresses):
        if kind == (A if address.version == 4 else AAAA):
            yield _record(name, kind, address.packed)


def _record(name: str, kind: int, value: bytes) -> bytes:
    return _written(name) + struct.pack("!HHIH", kind, 1, TTL_SECONDS, len(value)) + value


def _written(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _read_name(query: bytes, start: int) -> tuple[str, int]:
    labels = []
    while length := query[start]:
        labels.append(query[start + 1 : start + 1 + length].decode())
        start += 1 + length
    return ".".join(labels).lower(), start + 1
