"""The receiver's check, against recorded vectors and against signatures of two independent libraries."""

import json
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import svix

from daemon.core.webhook.signing import (
    SigningKey,
    Verification,
    format_key,
    ordergroove_signature,
    standard_signature,
    verify,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "signing_vectors.json").read_text())["vectors"]
NOW = 1_795_463_815
OLD, NEW, OTHER = (format_key(bytes([number]) * 32) for number in range(3))
BODY = b'{"id":"evt_1"}'


def vectors(scheme: str) -> list[object]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["scheme"] == scheme]


def signed(*keys: str, at: int = NOW, body: bytes = BODY, message_id: str = "msg_1") -> dict[str, str]:
    """The headers of a request as we send it."""
    signers = [SigningKey(key) for key in keys]
    return {
        "OrderGroove-Signature": ordergroove_signature(body, timestamp=at, keys=signers),
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": standard_signature(body, message_id=message_id, timestamp=at, keys=signers),
    }


ORDERGROOVE, STANDARD = ("OrderGroove-Signature",), ("webhook-id", "webhook-timestamp", "webhook-signature")


def only(names: tuple[str, ...], headers: dict[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in names}


@pytest.mark.parametrize("vector", vectors("ordergroove"))
def test_recorded_ordergroove_headers_are_valid_with_each_of_their_keys(vector: dict[str, Any]) -> None:
    headers = {"ordergroove-signature": vector["expect"]}
    for key in vector["keys"]:
        assert verify(b64decode(vector["body_b64"]), headers, key, now=vector["timestamp"] + 300) is Verification.VALID


@pytest.mark.parametrize("vector", vectors("ordergroove-verify"))
def test_recorded_headers_are_judged_as_recorded(vector: dict[str, Any]) -> None:
    verdict = verify(
        b64decode(vector["body_b64"]),
        {"OrderGroove-Signature": vector["header_value"]},
        vector["keys"],
        now=vector["now"],
        tolerance_seconds=vector["tolerance_seconds"],
    )
    assert bool(verdict) is vector["valid"], verdict


@pytest.mark.parametrize("vector", vectors("standard-webhooks"))
def test_recorded_standard_webhooks_are_valid_with_each_of_their_keys(vector: dict[str, Any]) -> None:
    headers = {
        "Webhook-Id": vector["msg_id"],
        "Webhook-Timestamp": str(vector["timestamp"]),
        "Webhook-Signature": vector["expect"]["webhook-signature"],
    }
    for key in vector["secrets"]:
        assert verify(b64decode(vector["body_b64"]), headers, key, now=vector["timestamp"]) is Verification.VALID


@pytest.mark.parametrize("signer", [svix.Webhook, standardwebhooks.Webhook])
def test_what_independent_libraries_sign_is_valid(signer: Callable[[str], Any]) -> None:
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer(NEW).sign("msg_1", now, BODY.decode()),
    }
    assert verify(BODY, headers, NEW, now=now.timestamp()) is Verification.VALID
    assert verify(BODY + b" ", headers, NEW, now=now.timestamp()) is Verification.MISMATCH
    assert verify(BODY, headers, OLD, now=now.timestamp()) is Verification.MISMATCH


@pytest.mark.parametrize("names", [ORDERGROOVE, STANDARD, ORDERGROOVE + STANDARD])
@pytest.mark.parametrize(
    ("headers", "keys", "verdict"),
    [
        (signed(NEW), NEW, "valid"),
        (signed(NEW), [OTHER, NEW], "valid"),
        (signed(NEW, OLD), OLD, "valid"),
        (signed(NEW, OLD), [OLD, NEW], "valid"),
        (signed(NEW), OLD, "mismatch"),
        (signed(NEW, body=b"{}"), NEW, "mismatch"),
        (signed(NEW, at=NOW - 300), NEW, "valid"),
        (signed(NEW, at=NOW - 301), NEW, "too_old"),
        (signed(NEW, at=NOW + 300), NEW, "valid"),
        (signed(NEW, at=NOW + 301), NEW, "in_the_future"),
        (signed(NEW, at=NOW - 301), OLD, "mismatch"),
    ],
)
def test_both_schemes_are_judged_alike(
    names: tuple[str, ...], headers: dict[str, str], keys: str | list[str], verdict: str
) -> None:
    assert verify(BODY, only(names, headers), keys, now=NOW + 0.9) == verdict


def test_names_of_headers_may_be_written_in_any_case() -> None:
    for case in (str.lower, str.upper, str.title):
        for names in (ORDERGROOVE, STANDARD):
            headers = {case(name): value for name, value in only(names, signed(NEW)).items()}
            assert verify(BODY, headers, NEW, now=NOW) is Verification.VALID


def test_another_name_of_our_header_is_known_by_its_name() -> None:
    headers = {"X-Acme-Signature": signed(NEW)["OrderGroove-Signature"]}
    assert verify(BODY, headers, NEW, now=NOW, header="x-acme-signature") is Verification.VALID
    assert verify(BODY, headers, NEW, now=NOW) is Verification.MISSING


def test_one_valid_signature_is_enough_and_one_that_is_wrong_beats_one_that_is_missing() -> None:
    right, wrong = signed(NEW), signed(OTHER)
    for names in (ORDERGROOVE, STANDARD):
        assert verify(BODY, {**wrong, **only(names, right)}, NEW, now=NOW) is Verification.VALID
        assert verify(BODY, only(names, wrong), NEW, now=NOW) is Verification.MISMATCH


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/json"}, {"webhook-id": "msg_1"}, {"OrderGroove-Signature": ""}]
)
def test_without_a_signature_there_is_nothing_to_verify(headers: dict[str, str]) -> None:
    assert verify(BODY, headers, NEW, now=NOW) is Verification.MISSING


@pytest.mark.parametrize("value", ["ts=soon,sig=00", "ts=²,sig=00", "ts=1,ts=1,sig=00", "ts=" + "9" * 5000 + ",sig=00"])
def test_a_header_of_another_form_is_malformed(value: str) -> None:
    assert verify(BODY, {"OrderGroove-Signature": value}, NEW, now=NOW) is Verification.MALFORMED


@pytest.mark.parametrize("text", ["é", "\udcff", "\x00", "=", "sig=", ","])
def test_no_text_in_a_header_makes_it_raise(text: str) -> None:
    headers = {"OrderGroove-Signature": f"ts={NOW},sig={text}", "webhook-signature": f"v1,{text}", "webhook-id": text,
               "webhook-timestamp": str(NOW)}  # fmt: skip
    assert not verify(BODY, headers, NEW, now=NOW)


def test_only_a_valid_verdict_is_true() -> None:
    assert [verdict for verdict in Verification if verdict] == [Verification.VALID]


@pytest.mark.parametrize("keys", [[], "", [""]])
def test_verifying_without_a_key_is_the_callers_mistake(keys: str | list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        verify(BODY, signed(NEW), keys, now=NOW)


BARE = NEW.removeprefix("whsec_").rstrip("=")


@pytest.mark.parametrize("names", [ORDERGROOVE, STANDARD])
@pytest.mark.parametrize("key", [f"{BARE}=", f"whsec_{BARE}", BARE, f" {NEW}\n"])
def test_a_key_that_lost_its_prefix_or_padding_is_read_as_meant(names: tuple[str, ...], key: str) -> None:
    assert verify(BODY, only(names, signed(NEW)), key, now=NOW) is Verification.VALID
    assert verify(BODY, only(names, signed(OTHER)), key, now=NOW) is Verification.MISMATCH


def test_signatures_may_be_in_capitals_without_padding_and_of_the_other_alphabet() -> None:
    for number in range(30):  # some of them have + or /
        body = BODY + b"%d" % number
        headers = signed(NEW, body=body)
        timestamp, _, signature = headers["OrderGroove-Signature"].partition(",sig=")
        written = {**headers, "OrderGroove-Signature": f" {timestamp} , sig = {signature.upper()} "}
        assert verify(body, only(ORDERGROOVE, written), NEW, now=NOW) is Verification.VALID
        plain = headers["webhook-signature"].rstrip("=").replace("+", "-").replace("/", "_")
        written = {**headers, "webhook-signature": f" v1,AAAA  {plain} "}
        assert verify(body, only(STANDARD, written), NEW, now=NOW) is Verification.VALID
        cut = {**headers, "webhook-signature": plain[:-1], "OrderGroove-Signature": f"{timestamp},sig={signature[:-1]}"}
        assert verify(body, cut, NEW, now=NOW) is Verification.MISMATCH


@pytest.mark.parametrize(
    "key", ["Schlüssel des früheren Anbieters / 鍵", "x" * 16, "whsec_no base64 at all", "0" * 256]
)
def test_a_key_that_was_brought_along_verifies_in_the_first_scheme(key: str) -> None:
    headers = signed(key)
    assert headers["webhook-signature"] == ""
    assert verify(BODY, headers, key, now=NOW) is Verification.VALID
    assert verify(BODY, headers, key[:-1], now=NOW) is Verification.MISMATCH
