"""TLS: which certificates the sender trusts, and that verification cannot be switched off."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from tests.support import hostile
from tests.support.certificates import Issued, issue, pem, serving
from tests.support.dns import FakeResolver
from tests.support.hostile import HostileReceiver, Peer
from tests.support.sending import BODY, HEADERS, sender, status_or_error

HOSTILE = json.loads((Path(__file__).parents[2] / "data" / "hostile_responses.json").read_text())


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    issued = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(pem(issued))
    return issued


async def over_tls(context: ssl.SSLContext, ca_file: Path | None, behaviour: hostile.Behaviour = hostile.polite) -> str:
    names = FakeResolver(hooks_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(behaviour, tls=context) as receiver,
        sender(resolver=names, extra_ca_file=ca_file) as sending,
    ):
        return status_or_error(await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), HEADERS, BODY))


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


async def test_nothing_less_than_a_verified_name_and_tls_1_2_will_do() -> None:
    async with sender() as sending:
        context = sending._connector._ssl
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_plain_http_on_a_tls_port_is_a_tls_error() -> None:
    async def plain(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.hung_up()

    async with HostileReceiver(plain) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(scheme="https"), HEADERS, BODY)) == "tls_error"


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
        answer = await sending.send(receiver.url(scheme="https", host="hooks.shop.com"), HEADERS, BODY)
        await asyncio.wait_for(receiver.ended.acquire(), 5)
    assert status_or_error(answer) == case["answer"]


def test_a_ca_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(OSError):  # noqa: PT011 - the common base of ssl.SSLError and FileNotFoundError
            sender(extra_ca_file=file)
