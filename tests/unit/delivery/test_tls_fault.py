"""Which fault of a receiver's TLS stands behind OpenSSL's numbers and reasons."""

import pytest

from daemon.core.delivery.tls_fault import TlsFault, fault_of


@pytest.mark.parametrize(
    ("verify_code", "reason", "fault"),
    [
        (20, "CERTIFICATE_VERIFY_FAILED", TlsFault.NO_CHAIN),
        (21, "CERTIFICATE_VERIFY_FAILED", TlsFault.NO_CHAIN),
        (18, "CERTIFICATE_VERIFY_FAILED", TlsFault.SELF_SIGNED),
        (19, "CERTIFICATE_VERIFY_FAILED", TlsFault.SELF_SIGNED),
        (62, "CERTIFICATE_VERIFY_FAILED", TlsFault.WRONG_NAME),
        (64, "CERTIFICATE_VERIFY_FAILED", TlsFault.WRONG_NAME),
        (10, "CERTIFICATE_VERIFY_FAILED", TlsFault.EXPIRED),
        (9, "CERTIFICATE_VERIFY_FAILED", TlsFault.NOT_YET_VALID),
        (66, "CERTIFICATE_VERIFY_FAILED", TlsFault.WEAK_KEY),
        (68, "CERTIFICATE_VERIFY_FAILED", TlsFault.WEAK_KEY),
        (24, "CERTIFICATE_VERIFY_FAILED", None),
        (None, "TLSV1_ALERT_PROTOCOL_VERSION", TlsFault.OLD_VERSION),
        (None, "UNSUPPORTED_PROTOCOL", TlsFault.OLD_VERSION),
        (None, "WRONG_VERSION_NUMBER", TlsFault.NOT_TLS),
        (None, "DH_KEY_TOO_SMALL", TlsFault.WEAK_KEY),
        (None, "SSLV3_ALERT_HANDSHAKE_FAILURE", TlsFault.REFUSED),
        (None, "TLSV13_ALERT_CERTIFICATE_REQUIRED", TlsFault.REFUSED),
        (None, "TLSV1_UNRECOGNIZED_NAME", TlsFault.WRONG_NAME),
        (None, "UNEXPECTED_EOF_WHILE_READING", None),
        (None, None, None),
    ],
)
def test_a_fault_is_found_by_number_or_reason(
    verify_code: int | None, reason: str | None, fault: TlsFault | None
) -> None:
    assert fault_of(verify_code, reason) is fault


@pytest.mark.parametrize("fault", TlsFault)
def test_a_detail_is_one_sentence_of_a_cause_and_a_step(fault: TlsFault) -> None:
    assert fault.detail == f"{fault.cause}: {fault.step}"
    assert not fault.detail.endswith(".")
    assert not set("()_;") & set(fault.detail), "other texts enclose it"
