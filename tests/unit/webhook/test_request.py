"""The request as it is sent: its headers, signatures and body follow from the arguments of `build`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pytest
from svix.webhooks import Webhook

from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import PayloadEvent, RenderError
from daemon.core.webhook.request import (
    RequestForm,
    RequestOptions,
    UnsendableHeader,
    WebhookRequest,
    build,
    header_lines,
)
from daemon.core.webhook.signing import SigningKey, format_key

ROUTE = UUID("11111111-2222-3333-4444-555555555555")
KEYS = (SigningKey(format_key(b"n" * 32)), SigningKey(format_key(b"o" * 32)))
REQUEST_OPTIONS = RequestOptions(
    signing_header="OrderGroove-Signature", standard_webhooks=True, user_agent="Hookledger/1", max_body_bytes=1000
)
EVENT = PayloadEvent(
    event_id="evt_1",
    event_type="order.create",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    data=b"{}",
    context=None,
    snapshot=None,
)


def built(**more: Any) -> WebhookRequest:
    given: dict[str, Any] = {
        "route_id": ROUTE,
        "options": PayloadOptions(),
        "custom": {"X-Shop": "1"},
        "keys": KEYS,
        "timestamp": int(datetime.now(UTC).timestamp()),
        "is_test": False,
        "request_options": REQUEST_OPTIONS,
    }
    event = more.pop("event", EVENT)
    return build(event, **(given | more))


def test_the_headers_are_those_of_the_contract() -> None:
    made = built(timestamp=1767312000)
    assert set(made.headers) == {
        "X-Shop", "Accept", "Accept-Encoding", "Content-Type", "User-Agent", "Hookledger-Hops", "OrderGroove-Signature", "webhook-id",
        "webhook-timestamp", "webhook-signature",
    }  # fmt: skip
    assert (made.headers["Accept"], made.headers["Accept-Encoding"]) == ("*/*", "identity")
    assert (made.headers["Content-Type"], made.headers["User-Agent"]) == ("application/json", "Hookledger/1")
    assert (made.headers["webhook-id"], made.headers["webhook-timestamp"]) == (
        str(uuid5(ROUTE, "evt_1\n2026-01-02")),
        "1767312000",
    )
    assert made.headers["OrderGroove-Signature"].startswith("ts=1767312000,sig=")
    assert made.headers["OrderGroove-Signature"].count(",sig=") == 2


@pytest.mark.parametrize("key", KEYS)
def test_either_key_verifies_it(key: SigningKey) -> None:
    made = built()
    Webhook(key.text).verify(made.body, made.headers)


def test_the_same_gives_the_same_bytes() -> None:
    assert built(timestamp=1) == built(timestamp=1) != built(timestamp=2)


def test_without_standard_webhooks_its_headers_are_missing() -> None:
    plain = RequestOptions(
        signing_header="X-Sig", standard_webhooks=False, user_agent="Hookledger/1", max_body_bytes=1000
    )
    assert set(built(request_options=plain).headers) == {
        "X-Shop",
        "Accept",
        "Accept-Encoding",
        "Content-Type",
        "User-Agent",
        "Hookledger-Hops",
        "X-Sig",
    }


@pytest.mark.parametrize("name", ["Accept", "accept"])
def test_a_route_may_accept_something_else(name: str) -> None:
    headers = built(custom={name: "application/json"}).headers
    assert {key: value for key, value in headers.items() if key.lower() == "accept"} == {name: "application/json"}
    assert headers["Accept-Encoding"] == "identity"


def test_our_headers_win_over_custom_ones() -> None:
    assert built(custom={"Content-Type": "text/plain"}).headers["Content-Type"] == "application/json"


def test_a_test_says_so_and_is_not_stopped_by_its_filter() -> None:
    options = PayloadOptions(filter="sum(data)")
    with pytest.raises(RenderError):
        built(options=options)
    assert built(options=options, is_test=True).headers["Hookledger-Test"] == "true"
    assert "Hookledger-Test" not in built().headers


def test_a_request_says_how_many_deliveries_in_a_row_led_to_it() -> None:
    assert built().headers["Hookledger-Hops"] == "1"
    assert built(event=replace(EVENT, hops=3)).headers["Hookledger-Hops"] == "4"


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
def test_a_header_that_would_end_its_line_early_is_not_sent(value: str) -> None:
    with pytest.raises(UnsendableHeader):
        built(custom={"X-Shop": value})


def test_a_form_gives_each_event_the_lines_of_its_own_headers() -> None:
    form = RequestForm(custom={"X-Shop": "1"}, keys=KEYS, request_options=REQUEST_OPTIONS)
    for number in range(3):
        event = replace(EVENT, event_id=f"evt_{number}", hops=number)
        expected = built(event=event, timestamp=number)
        lines = form.lines(
            expected.body,
            hops=number,
            message_id=expected.headers["webhook-id"],
            timestamp=number,
            is_test=False,
        )
        assert lines == header_lines(expected.headers)
