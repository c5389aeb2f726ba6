"""The sentences of explanations, literally: each situation that a support person may be asked about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.routing.route import LifecycleEventType
from daemon.core.sentences.explanations import ExplainedDecision, ExplanationFacts, RouteChange, sentence
from daemon.core.sentences.waiting import SentAgain, WaitingFacts
from tests.support.values.lifecycles import filtered, life

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
WAITING = WaitingFacts(
    now=AT + timedelta(minutes=1), attempts=0, ended_at=None, error=None, due_at=None, is_parked=False
)
FACTS = ExplanationFacts(event_time=AT, event_type="order.create", recorded_at=AT, route=life(), waiting=WAITING)
CREATED = RouteChange(type=LifecycleEventType.CREATED, at=LATER, actor="token:t1", reason=None)
DISABLED = RouteChange(type=LifecycleEventType.DISABLED, at=LATER, actor="cli:anna", reason="moving house")
DELETED = RouteChange(type=LifecycleEventType.DELETED, at=LATER, actor="system", reason=None)


def waiting(**facts: object) -> ExplanationFacts:
    return replace(FACTS, waiting=replace(WAITING, **facts))  # type: ignore[arg-type]  # the fields of a literal table


def tried(attempts: int, error: str | None, **facts: object) -> ExplanationFacts:
    return waiting(attempts=attempts, ended_at=AT, error=error, **facts)


D = ExplainedDecision
SENTENCES: list[tuple[str, ExplainedDecision, ExplanationFacts, str]] = [
    ("delivered", D.DELIVERED, replace(tried(2, None), status_code=204), "Delivered at 2026-11-23 08:00:00.000000 UTC: the receiver answered 204 No Content to attempt 2."),
    ("to be tried again after an answer", D.PENDING, tried(3, "http_500", due_at=LATER), "Attempt 3 failed at 2026-11-23 08:00:00.000000 UTC: the receiver answered 500 Internal Server Error. Attempt 4 is due at 2026-11-23 08:05:00.000000 UTC."),
    ("to be tried again without a connection", D.PENDING, tried(1, "connect_refused", due_at=LATER), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: nothing accepts connections at the receiver's address. Attempt 2 is due at 2026-11-23 08:05:00.000000 UTC."),
    ("to be tried again without a DNS answer", D.PENDING, tried(1, "dns_error", due_at=LATER), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: the name of the receiver's host could not be resolved. Attempt 2 is due at 2026-11-23 08:05:00.000000 UTC."),
    ("to be tried again after a timeout", D.PENDING, tried(1, "timeout", due_at=LATER), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: the receiver did not answer within the time limit. Attempt 2 is due at 2026-11-23 08:05:00.000000 UTC."),
    ("to be tried again by now", D.PENDING, tried(1, "http_599", due_at=AT), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: the receiver answered 599. Attempt 2 is due since 2026-11-23 08:00:00.000000 UTC: it is about to be made, or under way."),
    ("to be tried again, behind our rate limit", D.PENDING, tried(1, "http_599", due_at=AT, rate_limit_per_second=0.5), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: the receiver answered 599. It is due since 2026-11-23 08:00:00.000000 UTC, and waits for our rate limit: the route gets at most 0.5 requests a second."),
    ("to be tried again within its rate", D.PENDING, tried(1, "http_599", due_at=WAITING.now, rate_limit_per_second=0.5), "Attempt 1 failed at 2026-11-23 08:00:00.000000 UTC: the receiver answered 599. Attempt 2 is due since 2026-11-23 08:01:00.000000 UTC: it is about to be made, or under way."),
    ("a test that was put back", D.PENDING, waiting(due_at=AT), "It is due: its request is about to be made, or under way."),
    ("under way", D.PENDING, waiting(due_at=LATER), "Its first request is under way; if nothing is known of it by 2026-11-23 08:05:00.000000 UTC, it is sent again."),
    ("sent again by hand", D.PENDING, tried(5, "http_500", due_at=AT, is_ended=True, sent_again=SentAgain(by="token:t1", at=AT, reason="the shop is back")), "token:t1 had it sent again at 2026-11-23 08:00:00.000000 UTC (“the shop is back”). Attempt 6 is due since 2026-11-23 08:00:00.000000 UTC: it is about to be made, or under way."),
    ("behind an earlier one", D.PENDING, waiting(is_parked=True, behind="evt_1", behind_due_at=LATER), "It waits for an earlier delivery, as the route is ordered: that of event evt_1, whose next attempt is due at 2026-11-23 08:05:00.000000 UTC."),
    ("behind a breaker", D.PENDING, waiting(is_parked=True, failing_since=AT, failed_at=LATER, failure="http_503"), "It waits for its receiver, of which every request has failed since 2026-11-23 08:00:00.000000 UTC, at last at 2026-11-23 08:05:00.000000 UTC: the receiver answered 503 Service Unavailable. Until one succeeds only single requests go out to see whether it is back, the next one by 2026-11-23 08:05:33.000000 UTC."),
    ("behind a breaker without a connection", D.PENDING, waiting(is_parked=True, failing_since=AT, failed_at=LATER, failure="connect_timeout"), "It waits for its receiver, of which every request has failed since 2026-11-23 08:00:00.000000 UTC, at last at 2026-11-23 08:05:00.000000 UTC: the receiver's address did not respond when we tried to connect. Until one succeeds only single requests go out to see whether it is back, the next one by 2026-11-23 08:05:33.000000 UTC."),
    ("behind a breaker, whose probe is late", D.PENDING, waiting(is_parked=True, failing_since=AT, failed_at=AT, failure="http_503"), "It waits for its receiver, of which every request has failed since 2026-11-23 08:00:00.000000 UTC, at last at 2026-11-23 08:00:00.000000 UTC: the receiver answered 503 Service Unavailable. Until one succeeds only single requests go out to see whether it is back."),
    ("behind what a disable has ended", D.PENDING, waiting(is_parked=True, is_behind_closed=True, rate_limit_per_second=0.5), "It waits until what waited when the route was disabled has been ended, none of which is sent: that takes a second for some thousands."),
    ("behind our rate limit", D.PENDING, waiting(is_parked=True, rate_limit_per_second=0.5), "It waits for our rate limit: the route gets at most 0.5 requests a second."),
    ("behind a slow receiver", D.PENDING, waiting(is_parked=True), "It waits for its turn: the receiver takes requests more slowly than events happen."),
    ("without a daemon", D.PENDING, waiting(is_owned=False), "It will be sent once a daemon runs: no running process sends for this tenant now."),
    ("about to be sent", D.PENDING, FACTS, "It is due: its request is about to be made, or under way."),
    ("failed for good", D.FAILED, tried(60, "timeout"), "Failed for good at 2026-11-23 08:00:00.000000 UTC, after 60 attempts: the receiver did not answer within the time limit. It is not sent any more, unless somebody has it sent again."),
    ("gone", D.FAILED, tried(1, "http_410"), "Failed for good at 2026-11-23 08:00:00.000000 UTC, after 1 attempt: the receiver answered 410 Gone. It is not sent any more, unless somebody has it sent again."),
    ("gone, and so disabled", D.FAILED, replace(tried(1, "http_410"), closed=DISABLED), "Failed for good at 2026-11-23 08:00:00.000000 UTC, after 1 attempt: the receiver answered 410 Gone. It is never sent again: the route was disabled at 2026-11-23 08:05:00.000000 UTC by cli:anna (“moving house”)."),
    ("suppressed by a disable", D.SUPPRESSED, replace(FACTS, closed=DISABLED), "Not sent: the route was disabled at 2026-11-23 08:05:00.000000 UTC by cli:anna (“moving house”), after the event and before it could be delivered. It is never sent afterwards."),
    ("suppressed by a deletion", D.SUPPRESSED, replace(tried(2, "http_404"), closed=DELETED), "Not sent: the route was deleted at 2026-11-23 08:05:00.000000 UTC by system, after the event and before it could be delivered. It is never sent afterwards. Before that 2 attempts had failed: the receiver answered 404 Not Found."),
    ("expired", D.EXPIRED, replace(FACTS, recorded_end_at=LATER), "Expired at 2026-11-23 08:05:00.000000 UTC: it still waited when its event reached the end of the retention period; no request was made for it."),
    ("expired after attempts", D.EXPIRED, replace(tried(9, "dns_error"), recorded_end_at=LATER), "Expired at 2026-11-23 08:05:00.000000 UTC: it still waited when its event reached the end of the retention period; after 9 attempts, the last of which failed: the name of the receiver's host could not be resolved."),
    ("not subscribed", D.NOT_SUBSCRIBED, replace(FACTS, event_type="shop.open"), "At 2026-11-23 08:00:00.000000 UTC the route subscribed to order.create, not to shop.open."),
    ("a test of another route", D.NOT_SUBSCRIBED, replace(FACTS, is_test_of_another=True), "It was a test event, sent on purpose to another route only."),
    ("filtered", D.FILTERED, replace(FACTS, route=life(config=filtered("data.object.total > `9`"))), "At 2026-11-23 08:00:00.000000 UTC the route's filter “data.object.total > `9`” did not let this event pass."),
    ("disabled at the time", D.DISABLED, replace(FACTS, event_time=LATER, closed=replace(DISABLED, at=AT)), "The event happened at 2026-11-23 08:05:00.000000 UTC, while the route was disabled: it had been disabled at 2026-11-23 08:00:00.000000 UTC by cli:anna (“moving house”). It is never sent, not even after an enable."),
    ("never enabled", D.DISABLED, replace(FACTS, event_time=LATER, created=replace(CREATED, at=AT)), "The event happened at 2026-11-23 08:05:00.000000 UTC, while the route was disabled: it had been created disabled at 2026-11-23 08:00:00.000000 UTC by token:t1, and not been enabled yet. It is never sent, not even after an enable."),
    ("before the creation", D.BEFORE_CREATION, replace(FACTS, route=None, created=CREATED), "The event happened at 2026-11-23 08:00:00.000000 UTC, before the route was created at 2026-11-23 08:05:00.000000 UTC by token:t1. A route gets nothing from before its creation."),
    ("after the deletion", D.AFTER_DELETION, replace(FACTS, event_time=LATER, closed=replace(DELETED, at=AT, actor="admin", reason="unused")), "The event happened at 2026-11-23 08:05:00.000000 UTC, after the route was deleted at 2026-11-23 08:00:00.000000 UTC by admin (“unused”)."),
    ("imported", D.BACKFILL, FACTS, "The event was imported as backfill: it is kept, and never delivered by itself."),
    ("not read yet", D.NOT_YET_READ, FACTS, "The event was stored at 2026-11-23 08:00:00.000000 UTC, and has not been read yet."),
    ("not read, without a daemon", D.NOT_YET_READ, waiting(is_owned=False), "The event was stored at 2026-11-23 08:00:00.000000 UTC, and has not been read yet: no running process sends for this tenant now."),
    ("no longer kept", D.NO_LONGER_KEPT, replace(FACTS, kept_from=LATER), "Due, and accounted for; what became of it is older than the outcomes that are kept, which begin at 2026-11-23 08:05:00.000000 UTC."),
    ("of a clock that was ahead", D.DELIVERED, replace(tried(1, None), status_code=200, occurred_at=LATER), "Delivered at 2026-11-23 08:00:00.000000 UTC: the receiver answered 200 OK to attempt 1. Its publisher said that it was to happen at 2026-11-23 08:05:00.000000 UTC, which was still to come; so it counts as of 2026-11-23 08:00:00.000000 UTC."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "facts", "text"), [each[1:] for each in SENTENCES], ids=[each[0] for each in SENTENCES]
)
def test_each_situation_has_its_sentence(decision: ExplainedDecision, facts: ExplanationFacts, text: str) -> None:
    assert sentence(decision, facts) == text


def test_every_decision_is_among_the_situations() -> None:
    assert {each[1] for each in SENTENCES} == {*ExplainedDecision}


@pytest.mark.parametrize("decision", ExplainedDecision)
def test_a_sentence_does_without_facts_that_are_not_known(decision: ExplainedDecision) -> None:
    text = sentence(decision, replace(FACTS, route=None))
    assert text.endswith(".")
    assert "None" not in text
