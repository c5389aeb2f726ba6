"""Both signature schemes against recorded vectors, and two independent libraries as verifiers."""

import hmac
import json
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.webhook.signing import (
    PreparedKey,
    SigningKey,
    Verification,
    fingerprint,
    format_key,
    ordergroove_signature,
    standard_signature,
    verify_ordergroove,
    verify_standard,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "signing_vectors.json").read_text())["vectors"]
NOW = int(datetime.now(UTC).timestamp())
new_keys = st.binary(min_size=32, max_size=32).map(format_key).map(SigningKey)
key_lists = st.lists(new_keys, min_size=1, max_size=2)
message_ids = st.from_regex(r"[a-zA-Z0-9_-]{1,40}", fullmatch=True)
OLD, NEW = SigningKey(format_key(bytes(32))), SigningKey(format_key(b"n" * 32))


def vectors(scheme: str) -> list[object]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["scheme"] == scheme]


@given(key=st.binary(min_size=1, max_size=200), bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_a_prepared_key_makes_the_hmac_of_the_standard_library_again_and_again(key: bytes, bodies: list[bytes]) -> None:
    prepared = PreparedKey(key)
    for body in bodies:
        assert prepared.digest(body) == hmac.digest(key, body, "sha256")


@pytest.mark.parametrize("length", [63, 64, 65])
def test_a_prepared_key_as_long_as_a_block_is_no_exception(length: int) -> None:
    assert PreparedKey(b"k" * length).digest(b"body") == hmac.digest(b"k" * length, b"body", "sha256")


@pytest.mark.parametrize("vector", vectors("ordergroove"))
def test_the_ordergroove_header_is_as_recorded(vector: dict[str, object]) -> None:
    keys = [SigningKey(text) for text in vector["keys"]]  # type: ignore[attr-defined]
    body = b64decode(str(vector["body_b64"]))
    assert ordergroove_signature(body, timestamp=vector["timestamp"], keys=keys) == vector["expect"]  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", vectors("ordergroove-verify"))
def test_a_receiver_accepts_and_refuses_as_recorded(vector: dict[str, object]) -> None:
    verdict = verify_ordergroove(
        str(vector["header_value"]),
        b64decode(str(vector["body_b64"])),
        keys=[SigningKey(text) for text in vector["keys"]],  # type: ignore[attr-defined]
        now=vector["now"],  # type: ignore[arg-type]
        tolerance_seconds=vector["tolerance_seconds"],  # type: ignore[arg-type]
    )
    assert (verdict is Verification.VALID) is vector["valid"], verdict


@pytest.mark.parametrize("vector", vectors("standard-webhooks"))
def test_the_standard_signature_is_as_recorded(vector: dict[str, object]) -> None:
    signature = standard_signature(
        b64decode(str(vector["body_b64"])),
        message_id=str(vector["msg_id"]),
        timestamp=vector["timestamp"],  # type: ignore[arg-type]
        keys=[SigningKey(text) for text in vector["secrets"]],  # type: ignore[attr-defined]
    )
    assert signature == vector["expect"]["webhook-signature"]  # type: ignore[index]


@given(key_lists, message_ids, st.text(max_size=300))
def test_independent_libraries_verify_what_we_sign(keys: list[SigningKey], message_id: str, text: str) -> None:
    body = json.dumps({"text": text}).encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": standard_signature(body, message_id=message_id, timestamp=now, keys=keys),
    }
    for key in keys:
        assert standardwebhooks.Webhook(key.text).verify(body, headers) == {"text": text}
        svix.Webhook(key.text).verify(body, headers)  # returns nothing, raises what is wrong
        with pytest.raises(svix.WebhookVerificationError):
            svix.Webhook(key.text).verify(body + b" ", headers)


@given(key_lists, st.binary(max_size=200))
def test_a_receiver_with_any_of_the_keys_verifies_both_schemes(keys: list[SigningKey], body: bytes) -> None:
    ordergroove = ordergroove_signature(body, timestamp=NOW, keys=keys)
    standard = standard_signature(body, message_id="m", timestamp=NOW, keys=keys)
    for key in keys:
        assert verify_ordergroove(ordergroove, body, keys=[key], now=NOW) is Verification.VALID
        verdict = verify_standard(standard, body, message_id="m", timestamp=str(NOW), keys=[key], now=NOW)
        assert verdict is Verification.VALID


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_is_of_one_body_only(body: bytes, other: bytes) -> None:
    header = ordergroove_signature(body, timestamp=NOW, keys=[NEW])
    assert (verify_ordergroove(header, other, keys=[NEW], now=NOW) is Verification.VALID) is (body == other)


@given(st.text())
def test_no_header_text_breaks_a_verifier(text: str) -> None:
    assert verify_ordergroove(text, b"", keys=[NEW], now=NOW) is not Verification.VALID
    verdict = verify_standard(text, b"", message_id=text, timestamp=text, keys=[NEW], now=NOW)
    assert verdict is not Verification.VALID


@pytest.mark.parametrize(
    ("shift_seconds", "verdict"),
    [
        (-301, Verification.TOO_OLD),
        (-300, Verification.VALID),
        (300, Verification.VALID),
        (301, Verification.IN_THE_FUTURE),
    ],
)
def test_the_tolerance_holds_in_both_directions(shift_seconds: int, verdict: Verification) -> None:
    signed_at = NOW + shift_seconds
    header = ordergroove_signature(b"x", timestamp=signed_at, keys=[NEW])
    assert verify_ordergroove(header, b"x", keys=[NEW], now=NOW) is verdict
    standard = standard_signature(b"x", message_id="m", timestamp=signed_at, keys=[NEW])
    assert verify_standard(standard, b"x", message_id="m", timestamp=str(signed_at), keys=[NEW], now=NOW) is verdict


def test_a_signature_in_capitals_is_the_same_signature() -> None:
    header = ordergroove_signature(b"x", timestamp=NOW, keys=[NEW])
    assert verify_ordergroove(header.upper().replace("TS", "ts").replace("SIG", "sig"), b"x", keys=[NEW], now=NOW) is (
        Verification.VALID
    )


def test_each_way_to_be_wrong_has_its_reason() -> None:
    header = ordergroove_signature(b"x", timestamp=NOW, keys=[NEW])
    assert verify_ordergroove("", b"x", keys=[NEW], now=NOW) is Verification.MISSING
    assert verify_ordergroove(header.replace(str(NOW), "soon"), b"x", keys=[NEW], now=NOW) is Verification.MALFORMED
    assert verify_ordergroove(f"ts=1,{header}", b"x", keys=[NEW], now=NOW) is Verification.MALFORMED
    assert verify_ordergroove(header, b"x", keys=[OLD], now=NOW) is Verification.MISMATCH
    standard = standard_signature(b"x", message_id="m", timestamp=NOW, keys=[NEW])
    swapped = verify_standard(standard, b"x", message_id="other", timestamp=str(NOW), keys=[NEW], now=NOW)
    assert swapped is Verification.MISMATCH
    v2 = verify_standard(standard.replace("v1,", "v2,"), b"x", message_id="m", timestamp=str(NOW), keys=[NEW], now=NOW)
    assert v2 is Verification.MISSING


def test_a_key_of_another_form_signs_in_the_ordergroove_scheme_only() -> None:
    for text in ("my old key", "whsec_", "whsec_not base64!", "whsec_abc"):
        key = SigningKey(text)
        assert key.standard is None
        assert ordergroove_signature(b"x", timestamp=NOW, keys=[key]).startswith(f"ts={NOW},sig=")
        assert standard_signature(b"x", message_id="m", timestamp=NOW, keys=[key]) == ""
    mixed = standard_signature(b"x", message_id="m", timestamp=NOW, keys=[NEW, SigningKey("my old key")])
    assert mixed == standard_signature(b"x", message_id="m", timestamp=NOW, keys=[NEW])


def test_a_key_never_shows_itself() -> None:
    assert NEW.text not in f"{NEW!r} {NEW} {[NEW]}"
    assert "bm5u" not in repr(NEW)


def test_a_new_key_is_whsec_and_32_bytes_in_base64() -> None:
    assert format_key(bytes(range(32))) == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    with pytest.raises(ValueError, match="32 random bytes"):
        format_key(b"short")
    with pytest.raises(ValueError, match="empty"):
        SigningKey("")


def test_a_fingerprint_is_short_and_tells_keys_apart() -> None:
    assert len(fingerprint(NEW.text)) == 12
    assert fingerprint(NEW.text) == fingerprint(SigningKey(NEW.text).text) != fingerprint(OLD.text)
