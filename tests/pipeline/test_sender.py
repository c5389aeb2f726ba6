"""The sender against real sockets on loopback: hostile receivers, denied addresses, TLS, proxies, stale connections."""

import asyncio
import json
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from daemon.core.addresses import DenyReason
from daemon.core.delivery import Answer, ErrorName, Failure, Response
from daemon.core.egress import EgressPolicy, address_denied
from daemon.pipeline.egress_guard import GuardedConnector
from daemon.pipeline.sender import Sender
from daemon.pipeline.wire import ANSWER_BUDGET_BYTES, KEPT_BODY_BYTES, Wire
from tests.support import hostile
from tests.support.hostile import OK, Peer, Receiver

DATA = Path(__file__).parents[1] / "data"
HOSTILE = json.loads((DATA / "hostile_responses.json").read_text())
SSRF = json.loads((DATA / "ssrf_cases.json").read_text())
DEV = EgressPolicy.dev()
TIMEOUT_SECONDS = 1.0
BODY = b'{"id": "1"}'
HEADERS = {"Content-Type": "application/json", "User-Agent": "Hookledger/0", "webhook-id": "m"}


class Names(AbstractResolver):
    """A resolver of the test's own: each look-up of a name takes the next of its answers, the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(sequence) for name, sequence in answers.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        sequence = self._answers.get(host) or self._answers.get("*")
        if not sequence:
            raise OSError(None, "no such name")
        addresses = sequence.pop(0) if len(sequence) > 1 else sequence[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Denials(list[str]):
    """The reasons that were counted."""


def sender(policy: EgressPolicy = DEV, denials: list[str] | None = None, **options: object) -> Sender:
    options.setdefault("timeout_seconds", TIMEOUT_SECONDS)
    return Sender(policy, on_denied=Denials().append if denials is None else denials.append, **options)  # type: ignore[arg-type]


def told(answer: Answer) -> str:
    return str(answer.status) if isinstance(answer, Response) else answer.error.value


# ---- what goes out ----


async def test_the_request_has_exactly_the_headers_given_and_host_and_length() -> None:
    async with Receiver(hostile.polite) as receiver, sender() as sending:
        answer = await sending.send(receiver.url("/a%0d%0ab?x=%20[1]"), HEADERS, BODY)
    assert answer == Response(status=200, headers=(("Content-Length", "2"),), body=b"ok")
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    request_line, *lines = head.decode().split("\r\n")
    assert request_line == "POST /a%0d%0ab?x=%20[1] HTTP/1.1"
    own = {"Host": f"127.0.0.1:{receiver.port}", "Content-Length": str(len(BODY))}
    assert dict(line.split(": ", 1) for line in lines) == HEADERS | own
    assert body == BODY


async def test_an_empty_body_is_sent_as_one() -> None:
    async with Receiver(hostile.polite) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(), HEADERS, b"")) == "200"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Receiver(hostile.polite) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"


async def test_no_cookie_is_ever_sent_back() -> None:
    async with Receiver(hostile.always_cookies) as receiver, sender() as sending:
        for _ in range(3):
            await sending.send(receiver.url(), HEADERS, BODY)
    assert receiver.connections == 1
    assert len(receiver.requests) == 3
    assert not any(b"cookie" in request.lower() for request in receiver.requests)


# ---- hostile receivers ----


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: str(case["name"]))
async def test_a_hostile_receiver_gets_its_name_and_no_more_than_the_budget(case: dict[str, str]) -> None:
    scheme = "https" if case["name"] == "tls_stall" else "http"
    clock = asyncio.get_running_loop().time
    async with Receiver(hostile.BEHAVIOURS[case["name"]]) as receiver, sender() as sending:
        began = clock()
        answer = await sending.send(receiver.url(scheme=scheme), HEADERS, BODY)
        took_seconds = clock() - began
        if case["name"] not in ("set_cookie", "retry_after_year", "retry_after_negative", "no_content"):
            sending.close_pooled()
            await asyncio.wait_for(receiver.ended.acquire(), 5)  # whatever it was, it does not keep the connection
    assert told(answer) == case["answer"]
    assert receiver.connections == 1
    waits = case["answer"] in ("timeout", "connect_timeout")
    assert took_seconds < TIMEOUT_SECONDS + 1
    assert took_seconds > 0.8 * TIMEOUT_SECONDS if waits else took_seconds < 0.8 * TIMEOUT_SECONDS
    assert receiver.sent_bytes < 8 * 1024 * 1024  # what fits into the kernel's buffers, not what was read
    if isinstance(answer, Response):
        assert len(answer.body) <= KEPT_BODY_BYTES


def test_every_behaviour_is_a_case_and_the_other_way_round() -> None:
    assert {case["name"] for case in HOSTILE} == set(hostile.BEHAVIOURS)


async def test_a_slow_but_whole_answer_within_the_timeout_is_the_answer() -> None:
    async def thinks(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.6)
        await peer.write(OK)

    async with Receiver(thinks) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
        assert told(await sending.send(receiver.url(), HEADERS, BODY, timeout_seconds=0.3)) == "timeout"


async def test_silence_is_counted_from_the_first_byte_only() -> None:
    wire = Wire(asyncio.get_running_loop(), proxied=False)
    wire.read_timeout = 0.001
    wire.start_timeout()
    assert wire._read_timeout_handle is None


async def test_a_body_of_16_kib_is_kept_whole_and_the_connection_used_again() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n" + b"x" * 16384

    async def big(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(text)

    async with Receiver(big) as receiver, sender() as sending:
        for _ in range(2):
            answer = await sending.send(receiver.url(), HEADERS, BODY)
            assert isinstance(answer, Response)
            assert len(answer.body) == 16384
    assert receiver.connections <= 2


async def test_the_budget_is_per_answer_and_not_per_connection() -> None:
    text = b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 8000 + b"\r\nContent-Length: 0\r\n\r\n"

    async def verbose(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(text)

    rounds = ANSWER_BUDGET_BYTES // len(text) + 5
    async with Receiver(verbose) as receiver, sender() as sending:
        answers = [told(await sending.send(receiver.url(), HEADERS, BODY)) for _ in range(rounds)]
    assert answers == ["200"] * rounds
    assert receiver.connections == 1


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    answered, poisoned = asyncio.Event(), asyncio.Event()

    async def poisonous(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await answered.wait()
        await peer.write(b"HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n")
        await peer.hung_up()
        poisoned.set()

    async with Receiver(poisonous) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
        answered.set()
        await asyncio.wait_for(poisoned.wait(), 5)
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
    assert receiver.connections == 2


async def test_fifty_hostile_receivers_at_once_leave_the_polite_one_alone() -> None:
    names = ["flood_103", "endless_body", "endless_headers", "flood_chunk_extension", "silent"] * 10
    receivers = [Receiver(hostile.BEHAVIOURS[name]) for name in names]
    async with Receiver(hostile.polite) as friend, sender() as sending:
        for receiver in receivers:
            await receiver.__aenter__()
        try:
            tasks = [asyncio.create_task(sending.send(one.url(), HEADERS, BODY)) for one in receivers]
            friendly = [told(await sending.send(friend.url(), HEADERS, BODY, timeout_seconds=10)) for _ in range(20)]
            await asyncio.gather(*tasks)
        finally:
            for receiver in receivers:
                await receiver.__aexit__(None, None, None)
    assert friendly == ["200"] * 20


# ---- connections ----


def dies_after(answered: int, reset: bool = False) -> hostile.Behaviour:
    """Answers so many requests on a connection, reads one more, and closes."""

    async def behaviour(peer: Peer) -> None:
        for _ in range(answered):
            await peer.request()
            await peer.write(OK)
        await peer.request()
        if reset:
            peer.reset()

    return behaviour


@pytest.mark.parametrize("reset", [False, True])
async def test_a_pooled_connection_that_died_gets_one_free_try_on_a_fresh_one(reset: bool) -> None:
    async with Receiver(dies_after(1, reset)) as receiver, sender() as sending:
        answers = [told(await sending.send(receiver.url(), HEADERS, BODY)) for _ in range(3)]
    assert answers == ["200"] * 3
    assert receiver.connections == 3
    assert len(receiver.requests) == 5


async def test_all_pooled_connections_of_a_receiver_go_when_one_is_stale() -> None:
    async with Receiver(dies_after(1)) as receiver, sender() as sending:
        await asyncio.gather(*[sending.send(receiver.url(), HEADERS, BODY) for _ in range(8)])
        assert receiver.connections == 8
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
    assert len(receiver.requests) == 8 + 2


async def test_a_fresh_connection_that_dies_is_a_failure_without_a_second_try() -> None:
    async with Receiver(dies_after(0)) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "connection_reset"
    assert receiver.connections == 1


async def test_a_pooled_connection_that_died_after_a_byte_is_not_tried_again() -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await peer.request()
        await peer.write(b"HTTP/1.1 2")

    async with Receiver(half) as receiver, sender() as sending:
        answers = [told(await sending.send(receiver.url(), HEADERS, BODY)) for _ in range(2)]
    assert answers == ["200", "connection_reset"]
    assert len(receiver.requests) == 2


async def test_nobody_listening_is_a_refusal() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with sender() as sending:
            answer = await sending.send(f"http://127.0.0.1:{unheard.getsockname()[1]}/", HEADERS, BODY)
    assert answer == Failure(error=ErrorName.CONNECT_REFUSED)


async def test_closing_pooled_connections_hangs_up_idle_ones_now_and_busy_ones_after_their_answer() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waits(peer: Peer) -> None:
        request = await peer.request()
        if b"busy" in request:
            asked.set()
            await go.wait()
        await peer.write(OK)
        await peer.hung_up()

    async with Receiver(waits) as receiver, sender(timeout_seconds=10) as sending:
        busy = asyncio.create_task(sending.send(receiver.url("/busy"), HEADERS, BODY))
        await asked.wait()
        await sending.send(receiver.url(), HEADERS, BODY)
        sending.close_pooled()
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        go.set()
        assert told(await busy) == "200"
        await asyncio.wait_for(receiver.ended.acquire(), 5)


async def test_the_insides_of_aiohttp_that_we_rely_on_are_still_there() -> None:
    async with Receiver(hostile.polite) as receiver, sender() as sending:
        await sending.send(receiver.url(), HEADERS, BODY)
        [(key, [(wire, _)])] = sending._connector._conns.items()
        assert isinstance(wire, Wire)
        assert (key.host, key.port) == ("127.0.0.1", receiver.port)
        assert wire._received_bytes == len(OK)
        assert wire._requests == 1
        assert isinstance(sending._connector._acquired, set)
        assert (sending._connector.limit, sending._connector.limit_per_host) == (0, 0)
        assert sending._session._max_headers == 128
        assert sending._session.auto_decompress is False
        assert sending._session.trust_env is False
        timeout = sending._session.timeout
        assert (timeout.sock_connect, timeout.sock_read) == (0.9, 10)
        assert hasattr(wire, "_payload")
        assert hasattr(wire, "_reading_paused")


async def test_only_cancellation_escapes() -> None:
    started = asyncio.Event()

    async def notices(peer: Peer) -> None:
        await peer.request()
        started.set()
        await peer.hung_up()

    async with Receiver(notices) as receiver, sender(timeout_seconds=10) as sending:
        task = asyncio.create_task(sending.send(receiver.url(), HEADERS, BODY))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        broken = {"X-A": "line\r\nfeed"}
        assert told(await sending.send(receiver.url(), broken, BODY)) == "protocol_error"


# ---- where it may go ----


def record_connects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No packet leaves the machine: every connect is written down and refused."""
    connects: list[str] = []

    async def sock_connect(sock: socket.socket, address: tuple[str, int]) -> None:
        sock.close()
        connects.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    return connects


def without_url_checks(sending: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_checked", lambda raw: URL(raw, encoded=True))


def policy_of(case: dict[str, dict[str, list[str]]]) -> EgressPolicy:
    nets = {name: tuple(ip_network(net) for net in value) for name, value in case.get("policy", {}).items()}
    return EgressPolicy(allow_nets=nets.get("allow_nets", ()), deny_nets=nets.get("deny_nets", ()))


@pytest.mark.parametrize(
    "case", [case for case in SSRF if case["stage"] == "resolve"], ids=lambda case: str(case["id"])
)
async def test_a_resolved_name_is_connected_to_at_permitted_addresses_only(
    case: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence: Sequence[Sequence[str]] = case.get("resolves_to_sequence", [case["resolves_to"]])  # type: ignore[assignment]
    policy = policy_of(case)  # type: ignore[arg-type]
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    async with sender(policy, denials, resolver=Names(**{"*": sequence})) as sending:
        without_url_checks(sending, monkeypatch)
        for _ in sequence[1:]:
            await sending.send(str(case["url"]), HEADERS, BODY)
            sending.close_pooled()
        assert [address for address in connects if address_denied(address, policy)] == []
        connects.clear()
        answer = await sending.send(str(case["url"]), HEADERS, BODY)
    assert [address for address in connects if address_denied(address, policy)] == []
    if case["verdict"] == "deny":
        assert (told(answer), connects, len(denials)) == ("egress_denied", [], 1)
    else:
        assert (told(answer), denials) == ("connect_refused", [])
        assert set(connects) <= set(case.get("must_connect_to", sequence[0]))  # type: ignore[call-overload]
        assert connects


@pytest.mark.parametrize(
    "case", [case for case in SSRF if case["stage"] == "register"], ids=lambda case: str(case["id"])
)
async def test_without_any_url_check_the_guard_alone_still_connects_nowhere_else(
    case: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(case)  # type: ignore[arg-type]
    connects = record_connects(monkeypatch)
    async with sender(policy, resolver=Names(**{"*": [["127.0.0.1", "::1", "93.184.216.34"]]})) as sending:
        assert told(await sending.send(str(case["url"]), HEADERS, BODY)) == "egress_denied"
        assert connects == []
        without_url_checks(sending, monkeypatch)
        await sending.send(str(case["url"]), HEADERS, BODY)
    assert [address for address in connects if address_denied(address, policy)] == []


async def test_the_socket_factory_alone_stops_what_the_resolver_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    async with sender(
        EgressPolicy(), denials, resolver=Names(**{"*": [["10.0.0.5", "fd00::5", "127.0.0.1"]]})
    ) as sending:
        monkeypatch.setattr(sending._connector, "_resolver", sending._guard._resolver)  # unfiltered
        answer = await sending.send("https://hooks.shop.com/", HEADERS, BODY)
    assert told(answer) == "egress_denied"
    assert connects == []
    assert len(denials) == 1


async def test_a_denied_name_is_told_from_one_that_does_not_exist_or_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tarpit(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            if host == "tarpit.shop.com":
                await asyncio.Event().wait()
            return await super().resolve(host, port, family)

    monkeypatch.setattr("daemon.pipeline.egress_guard.DNS_DEADLINE_SECONDS", 0.05)
    denials: list[str] = []
    names = Tarpit(inside_shop_com=[["10.0.0.5"]], empty_shop_com=[[]])
    async with sender(EgressPolicy(), denials, resolver=names) as sending:
        answers = {
            name: told(await sending.send(f"https://{name}.shop.com/", HEADERS, BODY))
            for name in ("inside", "missing", "empty", "tarpit")
        }
    assert answers == {
        "inside": "egress_denied",
        "missing": "dns_error",
        "empty": "dns_error",
        "tarpit": "dns_error",
    }
    assert denials == [DenyReason.PRIVATE]


async def test_the_url_is_judged_again_at_every_attempt_under_the_policy_of_the_moment() -> None:
    denials: list[str] = []
    async with Receiver(hostile.polite) as receiver, sender(DEV, denials) as sending:
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
        sending.change_policy(EgressPolicy(allow_http=True, ports=None))
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "egress_denied"
        sending.change_policy(EgressPolicy(ports=None, allow_nets=DEV.allow_nets))
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "egress_denied"
        sending.change_policy(DEV)
        assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
    assert denials == [DenyReason.LOOPBACK, DenyReason.SCHEME]
    assert receiver.connections == 2


async def test_after_a_change_of_policy_a_pooled_connection_to_a_name_is_not_used_again() -> None:
    async with Receiver(hostile.polite) as receiver, sender(resolver=Names(hooks_shop_com=[["127.0.0.1"]])) as sending:
        url = receiver.url(host="hooks.shop.com")
        assert told(await sending.send(url, HEADERS, BODY)) == "200"
        sending.change_policy(EgressPolicy(allow_http=True, ports=None))
        assert told(await sending.send(url, HEADERS, BODY)) == "egress_denied"
    assert receiver.connections == 1


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver(hostile.polite) as inside:
        head = f"HTTP/1.1 307 Go\r\nLocation: {inside.url()}\r\nContent-Length: 0\r\n\r\n"
        async with Receiver(hostile.answers(head.encode())) as receiver, sender() as sending:
            assert told(await sending.send(receiver.url(), HEADERS, BODY)) == "307"
    assert inside.connections == 0


# ---- TLS ----

Issued = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issue(name: str, *, issuer: Issued | None = None, days_left: int = 1) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    is_authority = issuer is None
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days_left))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(key if issuer is None else issuer[1], hashes.SHA256()), key


def serving(issued: Issued, folder: Path) -> ssl.SSLContext:
    certificate, key = issued
    file = folder / f"{certificate.serial_number}.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    issued = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(issued[0].public_bytes(serialization.Encoding.PEM))
    return issued


async def over_tls(context: ssl.SSLContext, ca_file: Path | None, behaviour: hostile.Behaviour = hostile.polite) -> str:
    names = Names(hooks_shop_com=[["127.0.0.1"]])
    async with Receiver(behaviour, tls=context) as receiver, sender(resolver=names, extra_ca_file=ca_file) as sending:
        return told(await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), HEADERS, BODY))


async def test_a_certificate_of_the_operators_own_authority_is_trusted(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    assert await over_tls(context, tmp_path / "ca.pem") == "200"
    assert await over_tls(context, None) == "tls_error"


async def test_a_self_signed_certificate_is_a_tls_error(authority: Issued, tmp_path: Path) -> None:
    assert await over_tls(serving(issue("hooks.shop.com"), tmp_path), tmp_path / "ca.pem") == "tls_error"


async def test_an_expired_certificate_is_a_tls_error(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority, days_left=-1), tmp_path)
    assert await over_tls(context, tmp_path / "ca.pem") == "tls_error"


async def test_a_certificate_for_another_name_is_a_tls_error(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("other.shop.com", issuer=authority), tmp_path)
    assert await over_tls(context, tmp_path / "ca.pem") == "tls_error"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_1_1_is_a_tls_error(authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await over_tls(context, tmp_path / "ca.pem") == "tls_error"


async def test_plain_http_on_a_tls_port_is_a_tls_error() -> None:
    async def plain(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.hung_up()

    async with Receiver(plain) as receiver, sender() as sending:
        assert told(await sending.send(receiver.url(scheme="https"), HEADERS, BODY)) == "tls_error"


@pytest.mark.parametrize("name", ["endless_body", "flood_103", "silent_body"])
async def test_a_hostile_receiver_over_tls_is_hung_up_on_at_once(name: str, authority: Issued, tmp_path: Path) -> None:
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    names = Names(hooks_shop_com=[["127.0.0.1"]])
    [case] = [case for case in HOSTILE if case["name"] == name]
    async with (
        Receiver(hostile.BEHAVIOURS[name], tls=context) as receiver,
        sender(resolver=names, extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        answer = await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), HEADERS, BODY)
        await asyncio.wait_for(receiver.ended.acquire(), 5)
    assert told(answer) == case["answer"]


def test_a_ca_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(OSError):  # noqa: PT011 - ssl.SSLError and FileNotFoundError have that in common
            sender(extra_ca_file=file)


# ---- the operator's proxy ----


async def test_http_goes_through_the_proxy_in_absolute_form() -> None:
    async with Receiver(hostile.polite) as proxy, sender(proxy=proxy.url("")) as sending:
        assert told(await sending.send("http://hooks.shop.com/x?y=1", HEADERS, BODY)) == "200"
    assert proxy.requests[0].startswith(b"POST http://hooks.shop.com/x?y=1 HTTP/1.1\r\n")


async def test_with_a_proxy_nothing_else_is_connected_to_and_the_url_is_still_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    policy = EgressPolicy()
    names = Names(proxy_internal=[["10.9.9.9"]])
    async with sender(policy, denials, proxy="http://proxy.internal:3128", resolver=names) as sending:
        assert told(await sending.send("https://hooks.shop.com/", HEADERS, BODY)) == "proxy_error"
        assert connects == ["10.9.9.9"]
        assert told(await sending.send("https://10.0.0.1/", HEADERS, BODY)) == "egress_denied"
        with pytest.raises(OSError, match="not_the_proxy"):
            sending._guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("93.184.216.34", 443)))
    assert denials == [DenyReason.PRIVATE]


async def connect_refusing(peer: Peer, reply: bytes) -> None:
    await peer._reader.readuntil(b"\r\n\r\n")
    if reply:
        await peer.write(reply)
        await peer.hung_up()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_not_the_receivers_failure(reply: bytes) -> None:
    async with Receiver(lambda peer: connect_refusing(peer, reply)) as proxy, sender(proxy=proxy.url("")) as sending:
        assert told(await sending.send("https://hooks.shop.com/", HEADERS, BODY)) == "proxy_error"


async def test_a_proxy_that_is_down_or_unknown_or_wants_a_password_is_not_the_receivers_failure() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with Receiver(hostile.answers(answer)) as proxy, sender(proxy=proxy.url("")) as sending:
        assert told(await sending.send("http://hooks.shop.com/", HEADERS, BODY)) == "proxy_error"
    async with sender(proxy=proxy.url("")) as sending:
        assert told(await sending.send("http://hooks.shop.com/", HEADERS, BODY)) == "proxy_error"
    async with sender(proxy="http://proxy.shop.com:3128", resolver=Names()) as sending:
        assert told(await sending.send("http://hooks.shop.com/", HEADERS, BODY)) == "proxy_error"


async def test_the_connector_is_the_guarded_one() -> None:
    async with sender() as sending:
        assert isinstance(sending._session.connector, GuardedConnector)
        assert sending._connector._socket_factory == sending._guard.open_socket
