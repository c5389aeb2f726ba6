from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from daemon.core.delivery import resend
from daemon.core.delivery.answer import ErrorName
from daemon.core.delivery.resend import ResendRefused
from daemon.core.routing.route import LifecycleEventType, Route, RouteConfig, RouteStatus
from daemon.core.routing.windows import Window
from daemon.core.sentences.explanations import ExplainedDecision, ExplanationFacts, RouteChange, sentence
from daemon.core.sentences.failures import explain_error
from daemon.core.sentences.waiting import WaitingFacts
from daemon.web.dashboard.html.text import in_merchants_words

AT = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
ROUTE = Route(
    id=UUID(int=1), tenant="acme", version=1, pos=1, status=RouteStatus.ENABLED,
    config=RouteConfig(name="a", target_url="https://shop.example.com/", event_types=("shop.open",)),
    windows=(Window(AT),), keys=(), created_at=AT, updated_at=AT,
)  # fmt: skip
WAITING = WaitingFacts(now=AT, attempts=0, ended_at=None, error=None, due_at=None, is_parked=False)
FACTS = ExplanationFacts(
    event_time=AT, event_type="order.create", recorded_at=AT, route=ROUTE, waiting=WAITING,
    created=RouteChange(type=LifecycleEventType.CREATED, at=AT, actor="admin", reason=None),
    closed=RouteChange(type=LifecycleEventType.DISABLED, at=AT, actor="admin", reason=None),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sentence_below", "reworded"),
    [
        ("the route was deleted", "the webhook was deleted"),
        ("The route's filter, this route, a route, no route", "The webhook's filter, this webhook, a webhook, no webhook"),
        ("sent on purpose to another route only.", "sent on purpose to another webhook only."),
        ("there is no such route", "there is no such webhook"),
        ("there is nothing here: see GET /openapi.json, which describes the API", "there is nothing here"),
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
        ("since 2026-11-23 08:00:00.123456 UTC.", "since 23 Nov 2026, 08:00:00.123 UTC."),
        ("by admin (“the route was slow”), while the route", "by Administrator (“the route was slow”), while the webhook"),
        ("disabled by system (“by admin”).", "disabled by the system (“by admin”)."),
        ("token:t1 had it sent again at noon.", "API token t1 had it sent again at noon."),
        ("edited by token:t1, by maria@shop.example.", "edited by API token t1, by maria@shop.example."),
        ("by administrators, by system-x, by admins", "by administrators, by system-x, by admins"),
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
        replace(FACTS, waiting=replace(WAITING, attempts=2, ended_at=AT, error="http_500", due_at=AT)),
        replace(FACTS, waiting=replace(WAITING, is_parked=True)),
        replace(FACTS, waiting=replace(WAITING, is_parked=True, rate_limit_per_second=1.0)),
        replace(FACTS, waiting=replace(WAITING, is_parked=True, failing_since=AT, failed_at=AT, failure="http_500")),
        replace(FACTS, waiting=replace(WAITING, behind="e1", behind_due_at=AT)),
        replace(FACTS, is_test_of_another=True, route=None, closed=None),
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
    waiting = replace(WAITING, attempts=1, ended_at=AT, error=str(error), due_at=AT)
    for verdict in (ExplainedDecision.PENDING, ExplainedDecision.FAILED):
        reworded = in_merchants_words(sentence(verdict, replace(FACTS, waiting=waiting)))
        assert str(error) not in reworded
        assert explain_error(error).cause[1:] in reworded


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


def test_a_text_with_many_quotation_marks_is_shown_at_once() -> None:
    """Searching from each of them to the end of the text would take longer than the timeout."""
    text = "“" * 200_000
    assert in_merchants_words(text) == text
