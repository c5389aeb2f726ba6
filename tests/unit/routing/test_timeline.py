"""A timeline answers for every moment as if it had kept every state, and takes a few bytes for each."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from daemon import route_state
from daemon.core.routing import index as index_module
from daemon.core.routing.decision import Decision, eligible
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, PayloadOptions, Route, evolve, may
from daemon.core.routing.timeline import Timeline
from tests.support.values.lifecycles import NOON, ROUTE, TICK, after, config, created

TOGGLES = 20_000
MEBIBYTE = 1024 * 1024

configs = st.builds(
    lambda name, types, kept, rate: replace(
        config(*types, payload=PayloadOptions(filter=kept)), name=name, rate_limit_per_second=rate
    ),
    st.sampled_from(("one", "two")),
    st.lists(st.sampled_from(("order.create", "order.*", "*")), min_size=1, max_size=2, unique=True),
    st.sampled_from((None, "data.ok", "data.total > `1`")),
    st.sampled_from((None, 1, 1.0, 2.5)),
)
steps = st.lists(
    st.tuples(st.sampled_from(list(LifecycleEventType)[1:]), st.integers(1, 3), configs), min_size=0, max_size=20
)


@st.composite
def lives(draw: st.DrawFn) -> tuple[Timeline, list[Route]]:
    """A timeline, and beside it a list of every state, each folded from the first event on."""
    events = [created(enabled=draw(st.booleans()), config=draw(configs))]
    route = evolve(None, events[0])
    timeline, states = Timeline(route), [_folded(events)]
    for lifecycle_type, gap, new_config in draw(steps):
        if may(route, lifecycle_type) is None:
            at = route.updated_at + gap * TICK
            events.append(after(route, lifecycle_type, pos=route.pos + gap, at=at, config=new_config))
            route = evolve(route, events[-1])
            timeline.extend(route)
            states.append(_folded(events))
    return timeline, states


def _folded(events: list[LifecycleEvent]) -> Route:
    route = None
    for event in events:
        route = evolve(route, event)
    assert route is not None
    return route


@given(lives())
def test_every_moment_and_every_version_has_the_state_that_was_the_present_one_then(
    life: tuple[Timeline, list[Route]],
) -> None:
    timeline, states = life
    end = states[-1].updated_at + 2 * TICK
    at = NOON - 2 * TICK
    while at <= end:
        begun = [state for state in states if state.updated_at <= at]
        expected = begun[-1] if begun else None
        found, outline = timeline.as_of(at), timeline.outline(at)
        assert found == expected
        assert (found and route_state.digest([found])) == (expected and route_state.digest([expected]))
        assert (outline and (outline.status, outline.config)) == (expected and (expected.status, expected.config))
        at += TICK
    versions = [timeline.of_version(version) for version in range(len(states) + 2)]
    assert versions == [None, *states, None]
    assert timeline.as_of(end) is timeline.current
    assert timeline.of_version(len(states)) is timeline.current


def test_twenty_thousand_toggles_of_a_route_take_less_than_20_mebibytes() -> None:
    index, held = _measured(lambda route, _: _toggled(route))
    timeline = index.timeline(ROUTE)
    assert timeline is not None
    assert timeline.current.version == TOGGLES + 1
    assert len(timeline.current.windows) == TOGGLES // 2 + 1
    assert held < 20 * MEBIBYTE


def test_an_edit_takes_memory_for_what_it_changes_alone() -> None:
    types = tuple(f"order.type_{number:03}" for number in range(200))
    first = config(*types, payload=PayloadOptions(filter="data.total > `1`" * 50))
    whole, held = _measured(
        lambda route, n: after(route, LifecycleEventType.EDITED, config=replace(first, name=f"route {n}")), edits=2000
    )
    timeline = whole.timeline(ROUTE)
    assert timeline is not None
    assert [timeline.of_version(version).config.name for version in (2, 1000)] == ["route 0", "route 998"]  # type: ignore[union-attr] # they exist
    assert held / 2000 < 1024


def test_edits_to_ever_other_types_do_not_fill_the_memory_of_the_index() -> None:
    index, rounds = RouteIndex(), index_module.PATTERNS_PER_ROUTE // 200 + 50
    route = index.apply(created(config=config("order.create")))
    for number in range(rounds):
        types = tuple(f"n{number}.t{each}" for each in range(200))
        route = index.apply(after(route, LifecycleEventType.EDITED, config=config(*types)))
    assert sum(len(routes) for routes in index._by_pattern["acme"].values()) == 1
    for event_type in ("order.create", "n0.t0", f"n{rounds - 1}.t199"):
        assert [timeline.current.id for timeline in index.candidates("acme", event_type)] == [ROUTE]


def test_a_decision_about_a_past_moment_does_not_copy_the_windows() -> None:
    index, _ = _measured(lambda route, _: _toggled(route), edits=2000)

    def decide(at: datetime) -> list[Route]:
        return eligible(
            index,
            tenant="acme",
            event_type="order.create",
            at=at,
            backfill=False,
            passes=lambda _: True,
            on_skip=skipped.append,
        )

    skipped: list[Decision] = []
    tracemalloc.start()
    try:
        for number in range(2000):
            decide(NOON + timedelta(seconds=number))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(skipped) == 1000
    assert peak < 100 * 1024


def _toggled(route: Route) -> LifecycleEvent:
    return after(route, LifecycleEventType.DISABLED if route.is_enabled else LifecycleEventType.ENABLED)


def _measured(change: Callable[[Route, int], LifecycleEvent], *, edits: int = TOGGLES) -> tuple[RouteIndex, int]:
    """An index with one route after so many changes, and how many bytes these take."""
    index = RouteIndex()
    route = index.apply(created(route_id=UUID(int=ROUTE.int)))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(edits):
            route = index.apply(change(route, number))
        return index, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
