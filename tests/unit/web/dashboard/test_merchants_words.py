from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from daemon.core.delivery import resend
from daemon.core.delivery.answer import ErrorName
from daemon.core.delivery.explanation_text import ExplainedDecision, ExplanationFacts, sentence
from daemon.core.delivery.failure_text import explain_error
from daemon.core.delivery.resend import ResendRefused
from daemon.core.routing.route import Route, RouteConfig, RouteStatus
from daemon.core.routing.windows import Window
from daemon.web.dashboard.text import in_merchants_words

AT = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
ROUTE = Route(
    id=UUID(int=1), tenant="acme", version=1, pos=1, status=RouteStatus.ENABLED,
    config=RouteConfig(name="a", target_url="https://shop.example.com/", event_types=("shop.open",)),
    windows=(Window(AT),), keys=(), created_at=AT, updated_at=AT,
)  # fmt: skip
FACTS = ExplanationFacts(
    event_time=AT, event_type="order.create", created_at=AT, route=ROUTE, window=Window(AT, AT + timedelta(hours=1)),
    attempts=0, last_at=None, last_error=None, due_at=None, is_parked=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("sentence_below", "reworded"),
    [
        ("the route was deleted", "the webhook was deleted"),
        ("The route's filter, this route, a route, no route", "The webhook's filter, this webhook, a webhook, no webhook"),
        ("sent on purpose to another route only.", "sent on purpose to another webhook only."),
        ("there is no such route", "there is no such webhook"),
        ("there is nothing here: see the paths of the API under /v1", "there is nothing here"),
        ("a.b is not in the catalogue: see GET /v1/event-types", "a.b is not in the catalogue"),
        ("a.b is not in the catalogue: did you mean a.c?", "a.b is not in the catalogue: did you mean a.c?"),
        (
            "It is a single word; use a name in public DNS or ask for egress.allow_hosts or egress.allow_nets.",
            "It is a single word; use a name in public DNS.",
        ),
        (
            "Port 22 is not allowed here (443, 8443); use one of these or ask for egress.ports.",
            "Port 22 is not allowed here (443, 8443); use one of these.",
        ),
        ("the routes en route to the router", "the routes en route to the router"),
        ("the route subscribed to the route.created, not to a route.*.", "the webhook subscribed to the route.created, not to a route.*."),
        ("since 2026-11-23 08:00:00.123456 UTC.", "since 2026-11-23 08:00:00.123 UTC."),
        ("Attempt 3 failed (http_500); the next", "Attempt 3 failed (500 Internal Server Error); the next"),
        ("Attempt 3 failed (http_599); the next", "Attempt 3 failed (599); the next"),
        ("Attempt 1 failed (timeout); the next", "Attempt 1 failed (No answer in time); the next"),
        ("Attempt 1 failed (render_error: it's\n(odd);.); the next", "Attempt 1 failed (Body not made); the next"),
        ("the last error was timeout.", "the last error was “No answer in time”."),
        ("the last error was render_error: no. Not so.", "the last error was “Body not made”."),
        ("the last error was unknown.", "the last error was unknown."),
        ("a text (with_a_name) and (timeout)", "a text (with_a_name) and (timeout)"),
    ],
)  # fmt: skip
def test_a_sentence_is_said_in_a_merchants_words(sentence_below: str, reworded: str) -> None:
    assert in_merchants_words(sentence_below) == reworded


@pytest.mark.parametrize("verdict", ExplainedDecision)
@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        replace(FACTS, attempts=2, last_at=AT, last_error="http_500", due_at=AT),
        replace(FACTS, is_parked=True),
        replace(FACTS, is_test_of_another=True, route=None, window=None),
    ],
)
def test_no_explanation_speaks_of_routes_or_of_names_in_the_log(
    verdict: ExplainedDecision, facts: ExplanationFacts
) -> None:
    reworded = in_merchants_words(sentence(verdict, facts))
    assert "route" not in reworded
    assert "http_500" not in reworded
    assert "123456" not in reworded


@pytest.mark.parametrize("error", ErrorName)
def test_each_recorded_error_has_its_words(error: ErrorName) -> None:
    for verdict in (ExplainedDecision.PENDING, ExplainedDecision.FAILED):
        reworded = in_merchants_words(sentence(verdict, replace(FACTS, attempts=1, last_error=str(error), due_at=AT)))
        assert str(error) not in reworded
        assert explain_error(error).short in reworded


@pytest.mark.parametrize(
    "route",
    [
        replace(ROUTE, status=RouteStatus.DISABLED, windows=()),
        replace(ROUTE, status=RouteStatus.DISABLED, windows=(Window(AT, AT + timedelta(hours=1)),)),
        replace(ROUTE, status=RouteStatus.DELETED),
        replace(ROUTE, windows=(Window(AT + timedelta(hours=2)),)),
        replace(ROUTE, windows=(Window(AT, AT + timedelta(hours=1)), Window(AT + timedelta(hours=2)))),
    ],
)
def test_no_refusal_to_send_again_speaks_of_routes(route: Route) -> None:
    refused = resend.delivery(route, AT)
    of_period = resend.period(route, since=AT - timedelta(days=2), until=AT, kept_from=None)
    for each in (refused, of_period):
        assert isinstance(each, ResendRefused)
        assert "webhook" in in_merchants_words(each.reason)
        assert "route" not in in_merchants_words(each.reason)


@pytest.mark.parametrize("sentence_below", ["failed (a_a: ", "the last error was a_a: "])
def test_a_text_that_begins_like_an_error_again_and_again_is_shown_at_once(sentence_below: str) -> None:
    """Searching from each beginning to the end of the text would take longer than the timeout."""
    text = sentence_below * 60_000
    assert in_merchants_words(text) == text
