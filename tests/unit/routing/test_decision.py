"""The decision against an independent model, which replays the whole history for every question."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.routing import windows
from daemon.core.routing.decision import Decision, Judgement, eligible, judge
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, RouteConfig, RouteStatus, evolve
from daemon.core.routing.timeline import Timeline
from daemon.core.routing.windows import Window
from tests.support.values.lifecycles import NOON, ROUTE, TICK, after, config, created, filtered, life

# A literal copy of the API's values.
DECISIONS = {
    "DELIVER": "deliver",
    "NOT_SUBSCRIBED": "not_subscribed",
    "FILTERED": "filtered",
    "DISABLED": "disabled_at_event_time",
    "BEFORE_CREATION": "before_creation",
    "AFTER_DELETION": "after_deletion",
    "BACKFILL": "backfill",
}

TYPES = ("order.create", "order.item.added", "orders.create", "subscription.create", "order_2.create")
PATTERNS = (*TYPES, "order.*", "order.item.*", "orders.*", "subscription.*", "order_2.*", "*")
TENANTS = ("acme", "globex")


def passes(expression: str) -> bool:
    """The filters of these tests are their own results."""
    return expression == "yes"


def test_the_decisions_are_those_of_the_api() -> None:
    assert {each.name: each.value for each in Decision} == DECISIONS


@dataclass
class Log:
    """A random history of some routes: the log in order, and the routes' ids with their tenants."""

    events: list[LifecycleEvent] = field(default_factory=list)
    index: RouteIndex = field(default_factory=RouteIndex)
    tenants: dict[UUID, str] = field(default_factory=dict)


configs = st.builds(
    lambda patterns, expression: filtered(expression, *patterns),
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    st.sampled_from([None, None, "yes", "no"]),
)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    log = Log()
    at = NOON
    for pos in range(1, draw(st.integers(1, 16)) + 1):
        at += draw(st.integers(1, 3)) * TICK
        number = draw(st.integers(0, 3))
        route_id = UUID(int=number)
        timeline = log.index.timeline(route_id)
        if timeline is None:
            tenant = TENANTS[number % 2]
            log.tenants[route_id] = tenant
            enabled, first = draw(st.booleans()), draw(configs)
            event = created(route_id=route_id, pos=pos, at=at, tenant=tenant, enabled=enabled, config=first)
        elif timeline.current.status is RouteStatus.DELETED:
            continue
        else:
            switch = LifecycleEventType.DISABLED if timeline.current.is_enabled else LifecycleEventType.ENABLED
            lifecycle_type = draw(st.sampled_from([switch, switch, switch, LifecycleEventType.EDITED, LifecycleEventType.EDITED,
                                              LifecycleEventType.DELETED, LifecycleEventType.KEY_ROTATED]))  # fmt: skip
            event = after(timeline.current, lifecycle_type, pos=pos, at=at, config=draw(configs))
        log.events.append(event)
        log.index.apply(event)
    return log


@st.composite
def questions(draw: st.DrawFn) -> tuple[Log, datetime, str]:
    """A log, a moment (mostly the microsecond of an event of the log, or a neighbouring one) and an event type."""
    log = draw(logs())
    hit = draw(st.sampled_from(log.events)).effective_at + draw(st.sampled_from([-1, 0, 0, 1])) * TICK
    at = draw(st.sampled_from([hit, hit, hit, NOON, NOON + timedelta(days=1)]))
    return log, at, draw(st.sampled_from(TYPES))


def expected(log: Log, route_id: UUID, at: datetime, event_type: str) -> str:
    """The model: the rules of routing, applied to the log from its beginning."""
    exists = enabled = deleted = False
    patterns: list[str] = []
    expression = None
    for event in log.events:
        if event.route_id != route_id or event.effective_at > at:
            continue
        if event.type == "created":
            exists, enabled = True, event.body["enabled"]
        if "config" in event.body:
            patterns, expression = event.body["config"]["event_types"], event.body["config"]["payload"]["filter"]
        enabled = {"enabled": True, "disabled": False, "deleted": False}.get(event.type, enabled)
        deleted = deleted or event.type == "deleted"
    if not exists:
        return "before_creation"
    if deleted:
        return "after_deletion"
    if not enabled:
        return "disabled_at_event_time"
    if not any(p in ("*", event_type) or (p.endswith(".*") and event_type.startswith(p[:-1])) for p in patterns):
        return "not_subscribed"
    return "deliver" if expression in (None, "yes") else "filtered"


def judgement_of(timeline: Timeline, event_type: str, at: datetime, *, backfill: bool = False) -> Judgement:
    return judge(timeline, event_type=event_type, at=at, backfill=backfill, passes=passes)


@settings(max_examples=200)
@given(questions())
def test_live_and_afterwards_the_decision_is_the_one_of_a_replay(question: tuple[Log, datetime, str]) -> None:
    log, at, event_type = question
    model = {route_id: expected(log, route_id, at, event_type) for route_id in log.tenants}
    for tenant in TENANTS:
        skipped: list[Decision] = []
        chosen = eligible(
            log.index,
            tenant=tenant,
            event_type=event_type,
            at=at,
            backfill=False,
            passes=passes,
            on_skip=skipped.append,
        )
        others = [word for route_id, word in model.items() if word != "deliver" and log.tenants[route_id] == tenant]
        assert Counter(each for each in skipped if each is not Decision.NOT_SUBSCRIBED) <= Counter(others)
        assert skipped.count(Decision.FILTERED) == others.count("filtered")
        due = {route_id for route_id, word in model.items() if word == "deliver" and log.tenants[route_id] == tenant}
        assert {route.id for route in chosen} == due
        assert len(chosen) == len(due)
        for route in chosen:
            timeline = log.index.timeline(route.id)
            assert timeline is not None
            assert route is timeline.current
        backfilled: list[Decision] = []
        assert not eligible(
            log.index,
            tenant=tenant,
            event_type=event_type,
            at=at,
            backfill=True,
            passes=passes,
            on_skip=backfilled.append,
        )
        assert backfilled == [Decision.BACKFILL] * (len(chosen) + len(skipped))
    for timeline in log.index.timelines():
        judgement = judgement_of(timeline, event_type, at)
        assert judgement.decision == model[timeline.current.id]
        assert judgement_of(timeline, event_type, at, backfill=True).decision is Decision.BACKFILL
        in_window = judgement.decision in {Decision.DELIVER, Decision.FILTERED, Decision.NOT_SUBSCRIBED}
        assert (judgement.window is not None) is in_window
        assert judgement.window is None or judgement.window.contains(at)


@settings(max_examples=80)
@given(questions())
def test_a_decision_never_changes_by_what_happens_later(question: tuple[Log, datetime, str]) -> None:
    log, at, event_type = question
    live = RouteIndex()
    for event in log.events:
        if event.effective_at > at:
            break
        live.apply(event)
    for timeline in live.timelines():
        later = log.index.timeline(timeline.current.id)
        assert later is not None
        assert judgement_of(timeline, event_type, at).decision is judgement_of(later, event_type, at).decision
        assert judgement_of(timeline, event_type, at).route == judgement_of(later, event_type, at).route


@settings(max_examples=80)
@given(questions())
def test_what_is_sendable_was_due_or_is_of_the_open_window(question: tuple[Log, datetime, str]) -> None:
    log, at, event_type = question
    for timeline in log.index.timelines():
        route = timeline.current
        if windows.is_sendable(route.windows, at):
            assert route.status is RouteStatus.ENABLED
            assert expected(log, route.id, at, event_type) in {"deliver", "not_subscribed", "filtered"}


def decisions(*events: LifecycleEvent, event_type: str = "order.create") -> dict[int, Decision]:
    """Microseconds after noon → decision, around the events."""
    index = RouteIndex()
    for event in events:
        index.apply(event)
    timeline = index.timeline(ROUTE)
    assert timeline is not None
    return {count: judgement_of(timeline, event_type, NOON + count * TICK).decision for count in range(-1, 8)}


def test_each_change_counts_from_its_own_microsecond_on() -> None:
    first = created()
    route = evolve(None, first)
    off = after(route, LifecycleEventType.DISABLED, at=NOON + 2 * TICK)
    route = evolve(route, off)
    on = after(route, LifecycleEventType.ENABLED, at=NOON + 4 * TICK)
    route = evolve(route, on)
    gone = after(route, LifecycleEventType.DELETED, at=NOON + 6 * TICK)
    assert decisions(first, off, on, gone) == {
        -1: Decision.BEFORE_CREATION,
        0: Decision.DELIVER,
        1: Decision.DELIVER,
        2: Decision.DISABLED,
        3: Decision.DISABLED,
        4: Decision.DELIVER,
        5: Decision.DELIVER,
        6: Decision.AFTER_DELETION,
        7: Decision.AFTER_DELETION,
    }


def test_an_edit_counts_from_its_own_microsecond_on_and_not_before() -> None:
    first = created(config=config("order.create"))
    route = evolve(None, first)
    edit = after(route, LifecycleEventType.EDITED, at=NOON + 3 * TICK, config=config("cart.create"))
    found = decisions(first, edit)
    assert [found[2], found[3]] == [Decision.DELIVER, Decision.NOT_SUBSCRIBED]
    found = decisions(first, edit, event_type="cart.create")
    assert [found[2], found[3]] == [Decision.NOT_SUBSCRIBED, Decision.DELIVER]


@pytest.mark.parametrize(
    ("pattern", "event_type", "is_subscribed"),
    [
        ("order.create", "order.create", True),
        ("order.create", "order.create.again", False),
        ("order.create", "order.creates", False),
        ("order.*", "order.create", True),
        ("order.*", "order.item.added", True),
        ("order.*", "orders.create", False),
        ("order.*", "order_2.create", False),
        ("item.*", "order.item", False),
        ("customer.subscription.*", "customer.subscription.created", True),
        ("customer.subscription.*", "customer.subscription.item.added", True),
        ("customer.subscription.*", "customer.subscription", False),
        ("customer.subscription.*", "customer.subscriptions.created", False),
        ("customer.subscription.*", "customer.created", False),
        ("customer.*", "customer.subscription.created", True),
        ("*", "order.create", True),
        ("*", "a.b.c.d", True),
    ],
)
def test_a_pattern_is_a_type_or_all_below_a_prefix_or_everything(
    pattern: str, event_type: str, is_subscribed: bool
) -> None:
    route_config: RouteConfig = config(pattern)
    found = decisions(created(config=route_config), event_type=event_type)[0]
    assert found is (Decision.DELIVER if is_subscribed else Decision.NOT_SUBSCRIBED)


def test_the_grounds_name_the_state_of_then_and_the_window_with_its_later_end() -> None:
    index = RouteIndex()
    first = created(config=config("order.create"))
    route = index.apply(first)
    route = index.apply(after(route, LifecycleEventType.EDITED, at=NOON + 2 * TICK, config=config("*")))
    route = index.apply(after(route, LifecycleEventType.DISABLED, at=NOON + 4 * TICK))
    index.apply(after(route, LifecycleEventType.ENABLED, at=NOON + 6 * TICK))
    timeline = index.timeline(ROUTE)
    assert timeline is not None
    judgement = judgement_of(timeline, "order.create", NOON + TICK)
    assert judgement.route is not None
    assert judgement.route.version == 1
    assert judgement.route.config.event_types == ("order.create",)
    assert judgement.window == Window(NOON, NOON + 4 * TICK)
    assert judgement_of(timeline, "order.create", NOON + 4 * TICK).window is None
    assert judgement_of(timeline, "order.create", NOON + 6 * TICK).window == Window(NOON + 6 * TICK)
    assert judgement_of(timeline, "order.create", NOON - TICK) == Judgement(
        decision=Decision.BEFORE_CREATION, route=None, window=None
    )


@settings(max_examples=100)
@given(questions())
def test_a_test_is_for_one_route_only_and_no_filter_holds_it_back(question: tuple[Log, datetime, str]) -> None:
    log, at, event_type = question
    for tested, tenant in log.tenants.items():
        word = expected(log, tested, at, event_type)
        is_due = word in {"deliver", "filtered"}
        chosen = eligible(
            log.index, tenant=tenant, event_type=event_type, at=at, backfill=False, passes=passes, test_route=tested,
            on_skip=lambda _: None,
        )  # fmt: skip
        assert [route.id for route in chosen] == ([tested] if is_due else [])
        for timeline in log.index.timelines():
            judgement = judge(timeline, event_type=event_type, at=at, backfill=False, passes=passes, test_route=tested)
            if timeline.current.id == tested:
                assert judgement.decision == ("deliver" if is_due else word)
            else:
                assert judgement.decision is Decision.NOT_SUBSCRIBED


def test_a_filter_is_not_evaluated_where_the_decision_does_not_depend_on_it() -> None:
    def never(_expression: str) -> bool:
        raise AssertionError

    index = RouteIndex()
    route = index.apply(created(config=filtered("x", "order.create"), enabled=False))
    timeline = index.timeline(route.id)
    assert timeline is not None
    for event_type in ("order.create", "cart.create"):
        judge(timeline, event_type=event_type, at=NOON, backfill=False, passes=never)
        skipped: list[Decision] = []
        assert not eligible(
            index, tenant="acme", event_type=event_type, at=NOON, backfill=False, passes=never, on_skip=skipped.append
        )
        assert skipped == ([Decision.DISABLED] if event_type == "order.create" else [])
    assert life(enabled=False).status is RouteStatus.DISABLED
