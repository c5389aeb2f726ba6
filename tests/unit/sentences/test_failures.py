import pytest

from daemon.core.delivery.answer import ErrorName
from daemon.core.delivery.tls_fault import TlsFault
from daemon.core.sentences.failures import explain_error


@pytest.mark.parametrize(
    "error",
    [
        *ErrorName,
        *(f"tls_error: {fault.detail}" for fault in TlsFault),
        *(f"http_{status}" for status in (100, 199, 301, 400, 418, 500, 599, 700, 999)),
    ],
)
def test_every_error_has_a_cause_and_a_next_step(error: str) -> None:
    found = explain_error(error)

    assert found.cause.endswith(".")
    assert found.step.endswith(".")
    assert len(found.short) <= 40
    assert "_" not in found.short + found.cause + found.step
    assert "{" not in found.cause


@pytest.mark.parametrize(
    ("error", "short", "cause"),
    [
        ("http_500", "500 Internal Server Error", "The receiver answered 500: an error on its side."),
        ("http_410", "410 Gone", "The receiver answered 410: it is gone for good, so the webhook was disabled."),
        ("http_302", "302 Found", "The receiver answered 302, a redirect, and redirects are not followed."),
        ("http_799", "799", "The receiver answered 799, which is no status of HTTP."),
        ("timeout", "No answer in time", "The receiver did not answer within the time limit."),
        (
            "render_error: filter: unknown function: nope()",
            "Body not made",
            "The body could not be made by the webhook's payload settings: filter: unknown function: nope().",
        ),
        (
            f"tls_error: {TlsFault.WRONG_NAME.detail}",
            "TLS failed",
            "No trusted TLS connection could be made to the receiver: its certificate is for another name.",
        ),
        ("odd_thing", "odd_thing", "The request failed: odd_thing."),
    ],
)
def test_an_error_is_explained_for_the_person_who_runs_the_receiver(error: str, short: str, cause: str) -> None:
    assert (explain_error(error).short, explain_error(error).cause) == (short, cause)


def test_each_fault_of_tls_has_a_next_step_of_its_own() -> None:
    steps = [explain_error(f"tls_error: {fault.detail}").step for fault in TlsFault]
    assert len({*steps, explain_error("tls_error").step}) == len(TlsFault) + 1
    assert explain_error(f"tls_error: {TlsFault.EXPIRED.detail}").step == "Renew it and reload the server."
