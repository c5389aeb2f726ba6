"""TLS: which certificates the sender trusts, and that verification cannot be switched off."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from daemon.core.delivery.answer import Answer, ErrorName, Failure
from daemon.core.delivery.tls_fault import TlsFault
from daemon.pipeline.http_client.egress_guard import Unsent
from daemon.pipeline.http_client.tls import MAX_CERTIFICATE_BYTES, MAX_HANDSHAKE_MESSAGES, MAX_RECORDS
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.blocking_tls import blocking_tls_server
from tests.support.receivers.dns import FakeResolver
from tests.support.receivers.hostile import OK, HostileReceiver, Peer
from tests.support.until import until
from tests.support.values.certificates import Issued, issue, pem, private_pem, serving

pytestmark = ON_BOTH_LOOPS

HOSTILE = json.loads((Path(__file__).parents[2] / "data" / "hostile_responses.json").read_text())


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    issued = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(pem(issued))
    return issued


async def answer_over_tls(
    context: ssl.SSLContext, ca_file: Path | None, behaviour: hostile.Behaviour = hostile.polite
) -> Answer | Unsent:
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(behaviour, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=ca_file) as sending,
    ):
        return await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), LINES, BODY)


async def answer_of_blocking_server(context: ssl.SSLContext, ca_file: Path) -> Answer | Unsent:
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    with blocking_tls_server(context) as port:
        async with sender(resolver=names, extra_ca_file=ca_file) as sending:
            return await sending.send(f"https://hooks.shop.com:{port}/", LINES, BODY)


def failed(fault: TlsFault) -> Failure:
    return Failure(error=ErrorName.TLS_ERROR, detail=fault.detail)


async def test_a_certificate_of_the_operators_own_authority_is_trusted(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    assert status_or_error(await answer_over_tls(context, tmp_path / "ca.pem")) == "200"
    assert await answer_over_tls(context, None) == failed(TlsFault.NO_CHAIN)


async def test_a_certificate_without_its_chain_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    between = issue("Test CA 2", issuer=authority, is_authority=True)
    context = serving(issue("hooks.shop.com", issuer=between), tmp_path)
    assert await answer_over_tls(context, tmp_path / "ca.pem") == failed(TlsFault.NO_CHAIN)


async def test_so_much_of_a_chain_is_read_and_no_more(authority: Issued, tmp_path: Path) -> None:
    leaf, other = issue("hooks.shop.com", issuer=authority), issue("an authority that signs nothing")

    async def answer_with(more: int) -> Answer | Unsent:
        context = serving(leaf, tmp_path)
        (tmp_path / "chain.pem").write_bytes(pem(leaf) + pem(other) * more + private_pem(leaf))
        context.load_cert_chain(tmp_path / "chain.pem")
        return await answer_over_tls(context, tmp_path / "ca.pem")

    assert 20 * len(pem(other)) < MAX_CERTIFICATE_BYTES < 100 * len(pem(other)) * 3 / 4  # in DER
    assert status_or_error(await answer_with(20)) == "200"
    assert await answer_with(100) == failed(TlsFault.LONG_CHAIN)


async def test_a_self_signed_certificate_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com"), tmp_path)
    assert await answer_over_tls(context, tmp_path / "ca.pem") == failed(TlsFault.SELF_SIGNED)


@pytest.mark.parametrize(("tickets", "ended"), [(8, "timeout"), (1000, "protocol_error")])
async def test_a_receiver_that_sends_handshake_messages_without_end_is_left(
    authority: Issued, tmp_path: Path, tickets: int, ended: str
) -> None:
    async def silent(_peer: Peer) -> None:
        await asyncio.Event().wait()

    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    context.num_tickets = tickets
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(silent, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem", timeout_seconds=1.0) as sending,
    ):
        url = receiver.url(scheme="https", host="hooks.shop.com")
        assert status_or_error(await sending.send(url, LINES, BODY)) == ended
        assert sending._pool.open_connections == 0


async def test_a_connection_that_is_kept_is_not_taken_for_such_a_receiver(authority: Issued, tmp_path: Path) -> None:
    async def answers(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(OK)

    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(answers, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        url = receiver.url(scheme="https", host="hooks.shop.com")
        for _ in range(MAX_HANDSHAKE_MESSAGES + 1):
            assert status_or_error(await sending.send(url, LINES, BODY)) == "200"
        assert receiver.connections == 1
        (kept,) = sending._pool._idle
        assert kept._transport is not None
        secured = kept._transport.get_extra_info("ssl_object")
        assert 0 < secured.handshake_messages < 16
        secured.on_flood()  # while no answer is awaited
        await until(lambda: not sending._pool.open_connections, seconds=5)  # idle ones are closed after 15
        assert status_or_error(await sending.send(url, LINES, BODY)) == "200"


async def test_an_answer_in_thousands_of_records_is_not_read_to_its_end(authority: Issued, tmp_path: Path) -> None:
    missing = 0

    async def in_crumbs(peer: Peer) -> None:
        while True:
            await peer.request()
            length = MAX_RECORDS // 2 + missing
            await peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
            for _ in range(length - missing // 2):
                await peer.write(b"x")
                await asyncio.sleep(0)  # then it is a record

    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(in_crumbs, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        url = receiver.url(scheme="https", host="hooks.shop.com")
        for _ in range(4):  # each answer has its own count
            assert status_or_error(await sending.send(url, LINES, BODY)) == "200"
        assert receiver.connections == 1
        missing = 4 * MAX_RECORDS
        assert status_or_error(await sending.send(url, LINES, BODY)) == "response_too_large"
        assert sending._pool.open_connections == 0


async def test_an_expired_certificate_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority, days_left=-1), tmp_path)
    assert await answer_over_tls(context, tmp_path / "ca.pem") == failed(TlsFault.EXPIRED)


async def test_a_certificate_for_another_name_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("other.shop.com", issuer=authority), tmp_path)
    assert await answer_over_tls(context, tmp_path / "ca.pem") == failed(TlsFault.WRONG_NAME)


async def test_a_key_that_is_too_small_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority, rsa_bits=1024), tmp_path, security_level=0)
    assert await answer_over_tls(context, tmp_path / "ca.pem") == failed(TlsFault.WEAK_KEY)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_1_1_is_a_tls_error_that_says_so(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path, security_level=0)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await answer_of_blocking_server(context, tmp_path / "ca.pem") == failed(TlsFault.OLD_VERSION)


async def test_a_server_that_wants_a_certificate_of_ours_is_a_tls_error_that_says_so(
    authority: Issued, tmp_path: Path
) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 our handshake is over before the server refuses
    assert await answer_of_blocking_server(context, tmp_path / "ca.pem") == failed(TlsFault.REFUSED)


async def test_nothing_less_than_a_verified_name_and_tls_1_2_will_do() -> None:
    async with sender() as sending:
        context = sending._tls
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_plain_http_on_a_tls_port_is_a_tls_error_that_says_so() -> None:
    async def plain(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.hung_up()

    async with HostileReceiver(plain) as receiver, sender() as sending:
        assert await sending.send(receiver.url(scheme="https"), LINES, BODY) == failed(TlsFault.NOT_TLS)


@pytest.mark.parametrize("name", ["endless_body", "flood_103", "silent_body"])
async def test_a_hostile_receiver_over_tls_is_hung_up_on_at_once(name: str, authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    [case] = [case for case in HOSTILE if case["name"] == name]
    seconds = 1 if case["answer"] == "timeout" else 10
    async with (
        HostileReceiver(hostile.BEHAVIOURS[name], tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem", timeout_seconds=seconds) as sending,
    ):
        answer = await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), LINES, BODY)
        await asyncio.wait_for(receiver.ended.acquire(), 5)
    assert status_or_error(answer) == case["answer"]


def test_a_ca_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(OSError):  # noqa: PT011 - the common base of ssl.SSLError and FileNotFoundError
            sender(extra_ca_file=file)


@pytest.mark.parametrize("host", ["hooks.shop.com", "xn--bcher-kva.shop.com"])
async def test_http_1_1_is_agreed_on_with_the_host_that_the_url_names(
    host: str, authority: Issued, tmp_path: Path
) -> None:
    named: list[str | None] = []
    agreed: list[str | None] = []

    async def tells(peer: Peer) -> None:
        await peer.request()
        agreed.append(peer._writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await peer.write(OK)

    context = serving(issue(host, issuer=authority), tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _it, name, _context: named.append(name)
    names = FakeResolver(**{"*": [["127.0.0.1"]]})
    async with (
        HostileReceiver(tells, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        assert status_or_error(await sending.send(receiver.url(scheme="https", host=host), LINES, BODY)) == "200"
    assert (named, agreed) == ([host], ["http/1.1"])


async def test_an_address_is_verified_as_one(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    async with (
        HostileReceiver(hostile.polite, tls=context) as receiver,
        sender(extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        assert await sending.send(receiver.url(scheme="https"), LINES, BODY) == failed(TlsFault.WRONG_NAME)


async def test_a_receiver_over_tls_that_never_reads_costs_the_timeout_and_no_more(
    authority: Issued, tmp_path: Path
) -> None:
    async def deaf(peer: Peer) -> None:
        peer.stop_reading()
        await asyncio.Event().wait()

    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(deaf, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem", timeout_seconds=1.0) as sending,
    ):
        url = receiver.url(scheme="https", host="hooks.shop.com")
        assert status_or_error(await sending.send(url, LINES, bytes(16 * 1024 * 1024))) == "timeout"
        assert sending._pool.open_connections == 0
