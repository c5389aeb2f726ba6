"""Authorities that are trusted: read once, and anew after they have changed. What a receiver may choose is cheap."""

from __future__ import annotations

import os
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.pipeline.http_client.tls import tls_context
from tests.support.values.certificates import issue, pem


def test_authorities_are_read_anew_only_after_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(issue("first authority")))
    first = tls_context(file)
    assert tls_context(file) is first
    file.write_bytes(pem(issue("another authority")))
    os.utime(file, ns=(1, 1))  # whatever the clock of the file system resolves
    another = tls_context(file)
    names = [{str(each["subject"]) for each in context.get_ca_certs()} for context in (first, another)]
    assert any("first authority" in name for name in names[0] - names[1])
    assert any("another authority" in name for name in names[1] - names[0])


def test_a_file_that_was_broken_since_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(issue("authority")))
    tls_context(file)
    file.write_text("nothing")
    with pytest.raises(ssl.SSLError):
        tls_context(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        tls_context(file)


FFDHE3072, LAST_FINITE_FIELD = 0x0101, 0x01FF
SUPPORTED_GROUPS = 10


def test_no_key_exchange_is_offered_of_which_the_receiver_chooses_the_cost() -> None:
    suites, extensions = _client_hello(tls_context(None))
    names = {cipher["id"] & 0xFFFF: cipher["name"] for cipher in ssl.create_default_context().get_ciphers()}
    offered = [names[suite] for suite in suites if suite in names]
    assert any(name.startswith("ECDHE-") for name in offered)
    assert any(name.startswith("TLS_") for name in offered)
    assert not [name for name in offered if name.startswith("DHE-")]
    groups = {group for (group,) in struct.iter_unpack(">H", extensions[SUPPORTED_GROUPS][2:])}
    assert {0x0017, 0x0018, 0x001D} <= groups  # P-256, P-384, X25519
    assert not [group for group in groups if FFDHE3072 < group <= LAST_FINITE_FIELD]


def _client_hello(context: ssl.SSLContext) -> tuple[list[int], dict[int, bytes]]:
    """The cipher suites and the extensions, by their numbers, that a client begins with (RFC 8446, 4.1.2)."""
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="receiver.example").do_handshake()
    hello = sent.read()[5 + 4 + 2 + 32 :]  # after the heads of record and message, the version and the random bytes
    after_session = hello[1 + hello[0] :]
    (length,) = struct.unpack_from(">H", after_session)
    suites = [suite for (suite,) in struct.iter_unpack(">H", after_session[2 : 2 + length])]
    after_suites = after_session[2 + length :]
    return suites, dict(_extensions(after_suites[1 + after_suites[0] + 2 :]))


def _extensions(rest: bytes) -> Iterator[tuple[int, bytes]]:
    while rest:
        kind, length = struct.unpack_from(">HH", rest)
        yield kind, rest[4 : 4 + length]
        rest = rest[4 + length :]
