"""Addresses that no socket may connect to: every recorded case without the check at registration, by name and by address."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from yarl import URL

from daemon.core.webhook.egress import CheckedTarget, EgressPolicy, address_denied
from daemon.pipeline.http_client.dial import Origin
from daemon.pipeline.http_client.egress_guard import MAX_ADDRESSES
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, forget_names, record_connects, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.dns import FakeResolver
from tests.support.receivers.hostile import HostileReceiver

pytestmark = ON_BOTH_LOOPS

SSRF = json.loads((Path(__file__).parents[2] / "data" / "ssrf_cases.json").read_text())


def without_url_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    def unchecked(raw: str, _policy: EgressPolicy) -> CheckedTarget:
        url = URL(raw, encoded=True)
        return CheckedTarget(url=raw, scheme=url.scheme, host=url.raw_host or "", port=url.port or 443)

    monkeypatch.setattr("daemon.pipeline.http_client.sender.check_url", unchecked)


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
    async with sender(policy, denials, resolver=FakeResolver(**{"*": sequence})) as sending:
        without_url_checks(monkeypatch)
        for _ in sequence[1:]:
            await sending.send(str(case["url"]), LINES, BODY)
            forget_names(sending)
        assert [address for address in connects if address_denied(address, policy)] == []
        connects.clear()
        answer = await sending.send(str(case["url"]), LINES, BODY)
    assert [address for address in connects if address_denied(address, policy)] == []
    if case["verdict"] == "deny":
        assert (status_or_error(answer), connects, len(denials)) == ("egress_denied", [], 1)
    else:
        assert (status_or_error(answer), denials) == ("connect_refused", [])
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
    async with sender(policy, resolver=FakeResolver(**{"*": [["127.0.0.1", "::1", "93.184.216.34"]]})) as sending:
        assert status_or_error(await sending.send(str(case["url"]), LINES, BODY)) == "egress_denied"
        assert connects == []
        without_url_checks(monkeypatch)
        await sending.send(str(case["url"]), LINES, BODY)
    assert [address for address in connects if address_denied(address, policy)] == []


async def test_the_socket_factory_alone_stops_what_the_resolver_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    async with sender(
        EgressPolicy(), denials, resolver=FakeResolver(**{"*": [["10.0.0.5", "fd00::5", "127.0.0.1"]]})
    ) as sending:
        monkeypatch.setattr(sending._guard, "resolve", sending._guard._resolver.resolve)  # unfiltered
        answer = await sending.send("https://hooks.shop.com/", LINES, BODY)
    assert status_or_error(answer) == "egress_denied"
    assert connects == []
    assert len(denials) == 1


@pytest.mark.parametrize("before", ["93.184.216.34", "2606:4700:4700::1111"])
@pytest.mark.parametrize("after", ["127.0.0.1", "169.254.169.254", "::1", "64:ff9b::7f00:1", "fd00:ec2::254"])
async def test_a_name_that_turned_inwards_between_two_attempts_is_not_followed(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    async with sender(EgressPolicy(), denials, resolver=FakeResolver(hooks_shop_com=[[before], [after]])) as sending:
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "connect_refused"
        forget_names(sending)
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "egress_denied"
    assert connects == [before]
    assert len(denials) == 1


async def test_an_open_connection_stays_where_it_is_when_its_name_turns_inwards() -> None:
    policy = EgressPolicy(allow_http=True, ports=None, allow_nets=(ip_network("127.0.0.1/32"),))
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"], ["127.0.0.2"]])
    async with HostileReceiver(hostile.polite) as receiver, sender(policy, resolver=names) as sending:
        url = receiver.url(host="hooks.shop.com")
        assert status_or_error(await sending.send(url, LINES, BODY)) == "200"
        forget_names(sending)
        assert status_or_error(await sending.send(url, LINES, BODY)) == "200"
        sending._pool.close_idle(Origin(is_tls=False, host="hooks.shop.com", port=receiver.port))
        assert status_or_error(await sending.send(url, LINES, BODY)) == "egress_denied"
    assert receiver.connections == 1


async def test_a_name_with_a_hundred_addresses_makes_no_storm_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    connects = record_connects(monkeypatch)
    four = [f"93.184.216.{n}" for n in range(100)]
    six = [f"2606:4700:4700::{n:x}" for n in range(1, 101)]
    async with sender(EgressPolicy(), resolver=FakeResolver(hooks_shop_com=[four + six])) as sending:
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "connect_refused"
    assert set(connects) == {*four[:MAX_ADDRESSES], *six[:MAX_ADDRESSES]}
    assert len(connects) <= 20


async def test_of_two_families_the_one_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = EgressPolicy(allow_http=True, ports=None, allow_nets=(ip_network("127.0.0.1/32"),))
    names = FakeResolver(hooks_shop_com=[["2606:4700:4700::1111", "127.0.0.1", "10.0.0.5"]])
    loop = asyncio.get_running_loop()
    connects: list[str] = []
    really = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: tuple[str, int]) -> None:
        connects.append(address[0])
        if ":" in address[0]:
            await asyncio.Event().wait()  # the packets get no answer
        await really(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    async with HostileReceiver(hostile.polite) as receiver, sender(policy, resolver=names) as sending:
        assert status_or_error(await sending.send(receiver.url(host="hooks.shop.com"), LINES, BODY)) == "200"
    assert connects == ["2606:4700:4700::1111", "127.0.0.1"]


async def test_addresses_that_never_answer_are_a_connect_timeout_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[socket.socket] = []

    async def no_answer(sock: socket.socket, _address: object) -> None:
        opened.append(sock)
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", no_answer)
    names = FakeResolver(hooks_shop_com=[["93.184.216.34", "2606:4700:4700::1111", "93.184.216.35"]])
    async with sender(EgressPolicy(), resolver=names, timeout_seconds=1.0) as sending:
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "connect_timeout"
    assert len(opened) == 3
    assert {sock.fileno() for sock in opened} == {-1}


async def test_a_redirect_is_not_followed() -> None:
    async with HostileReceiver(hostile.polite) as inside:
        head = f"HTTP/1.1 307 Go\r\nLocation: {inside.url()}\r\nContent-Length: 0\r\n\r\n"
        async with HostileReceiver(hostile.answers(head.encode())) as receiver, sender() as sending:
            assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "307"
    assert inside.connections == 0
