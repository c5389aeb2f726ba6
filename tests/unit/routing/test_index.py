"""The index must find every route that ever had a matching pattern; it may find more, but never fewer."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.routing import index as index_module
from daemon.core.routing.index import RouteIndex, patterns_of, wider_patterns
from daemon.core.routing.route import BrokenHistory, LifecycleEventType, RouteStatus, evolve, may
from daemon.core.routing.timeline import Timeline
from tests.support.values.lifecycles import NOON, TICK, after, config, created, life

PATTERNS = ("order.create", "order.*", "*", "cart.item.add", "cart.*", "cart.item.*", "cart.add.*")


def test_the_routes_of_a_tenant_are_found_by_when_they_were_created() -> None:
    index = RouteIndex()
    for number in range(6):
        tenant = f"tenant_{number % 2}"
        index.apply(created(route_id=UUID(int=number), tenant=tenant, pos=number + 1, at=NOON + number * TICK))

    def created_after(number: int) -> list[int]:
        return [t.current.id.int for t in index.created_after("tenant_0", NOON + number * TICK)]

    assert [timeline.current.id.int for timeline in index.timelines("tenant_0")] == [0, 2, 4]
    assert (created_after(-1), created_after(0), created_after(1), created_after(4)) == ([0, 2, 4], [2, 4], [2, 4], [])
    assert list(index.created_after("nobody", NOON)) == []
    assert index.tenants() == ["tenant_0", "tenant_1"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3), st.booleans()),
        max_size=20,
    )
)
def test_the_candidates_are_those_of_a_scan_over_all_routes_and_all_their_states(
    steps: list[tuple[int, list[str], bool]],
) -> None:
    index = RouteIndex()
    ever: dict[UUID, set[str]] = {}
    for pos, (number, patterns, is_queried) in enumerate(steps, start=1):
        route_id, tenant, at = UUID(int=number), f"tenant_{number % 2}", NOON + pos * TICK
        timeline = index.timeline(route_id)
        if timeline is None:
            event = created(route_id=route_id, tenant=tenant, pos=pos, at=at, config=config(*patterns))
        else:
            event = after(timeline.current, LifecycleEventType.EDITED, pos=pos, at=at, config=config(*patterns))
        index.apply(event)
        ever.setdefault(route_id, set()).update(patterns)
        if is_queried:  # between the steps too, so that a stale cache would show
            for kind in ("order.create", "cart.item.add"):
                of_each = [each.current.id for tenant in index.tenants() for each in index.candidates(tenant, kind)]
                assert sorted(each.current.id for each in index.candidates_everywhere(kind)) == sorted(of_each)
            for tenant_id, kind in (
                (t, k) for t in ("tenant_0", "tenant_1") for k in ("order.create", "cart.item.add")
            ):
                found = [timeline.current.id for timeline in index.candidates(tenant_id, kind)]
                prefixes = {each for each in PATTERNS if each.endswith(".*") and kind.startswith(each[:-1])}
                scanned = {
                    each for each, carried in ever.items()
                    if f"tenant_{each.int % 2}" == tenant_id and carried & {kind, "*", *prefixes}
                }  # fmt: skip
                assert set(found) == scanned
                assert len(found) == len(scanned)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(LifecycleEventType)), max_size=40))
def test_the_statuses_are_those_of_the_routes(steps: list[tuple[int, LifecycleEventType]]) -> None:
    index = RouteIndex()
    for pos, (number, kind) in enumerate(steps, start=1):
        route_id, at = UUID(int=number), NOON + pos * TICK
        route = index.route(route_id)
        if route is None:
            index.apply(created(route_id=route_id, tenant=f"tenant_{number % 2}", pos=pos, at=at, enabled=pos % 2 == 0))
        elif may(route, kind) is None:
            index.apply(after(route, kind, pos=pos, at=at))
    for tenant in (None, "tenant_0", "tenant_1", "nobody"):
        counted = Counter(route.status for route in index.routes(tenant))
        assert {status: index.statuses(tenant)[status] for status in RouteStatus} == {
            status: counted[status] for status in RouteStatus
        }


def test_the_patterns_of_a_type_are_itself_one_for_each_of_its_prefixes_and_all() -> None:
    assert patterns_of("order.create") == ("order.create", "order.*", "*")
    assert patterns_of("order.item.added") == ("order.item.added", "order.*", "order.item.*", "*")


def test_the_wider_patterns_cover_all_that_a_pattern_matches() -> None:
    assert wider_patterns("order.item.added") == ("order.*", "order.item.*")
    assert wider_patterns("order.item.*") == ("order.*",)
    assert wider_patterns("order.*") == wider_patterns("*") == ()


def test_a_route_is_found_as_it_is_now_also_once_it_is_deleted() -> None:
    index = RouteIndex()
    route = index.apply(created())
    assert index.route(route.id) == route
    deleted = index.apply(after(route, LifecycleEventType.DELETED))
    assert deleted.status is RouteStatus.DELETED
    assert index.route(route.id) == deleted
    assert index.route(UUID(int=99)) is None


def test_another_tenants_routes_are_no_candidates() -> None:
    index = RouteIndex()
    index.apply(created(tenant="acme", config=config("*")))
    assert index.candidates("globex", "order.create") == ()
    assert len(index.candidates("acme", "order.create")) == 1


def test_a_producer_who_invents_types_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MEMO_ENTRIES", 100)
    index = RouteIndex()
    index.apply(created(config=config("*")))
    for number in range(1000):
        assert len(index.candidates("acme", f"order.n{number}")) == 1
    assert len(index._candidates) <= 100


def test_a_broken_history_leaves_the_index_as_it_was() -> None:
    index = RouteIndex()
    index.apply(created())
    with pytest.raises(BrokenHistory):
        index.apply(after(life(), LifecycleEventType.ENABLED))
    with pytest.raises(BrokenHistory):
        index.apply(after(life(), LifecycleEventType.EDITED, config=config("cart.create"), version=9))
    assert index.position == 1
    assert [route.version for route in index.routes()] == [1]
    assert index.candidates("acme", "cart.create") == ()


def test_the_position_is_that_of_the_last_event_applied() -> None:
    index = RouteIndex()
    assert index.position == 0
    route = index.apply(created(pos=4))
    assert index.position == 4
    index.apply(after(route, LifecycleEventType.DISABLED, pos=9))
    assert index.position == 9


def test_deleted_routes_stay_in_the_timelines() -> None:
    index = RouteIndex()
    route = index.apply(created())
    index.apply(after(route, LifecycleEventType.DELETED))
    index.apply(created(route_id=UUID(int=2), tenant="globex", pos=3))
    assert [each.status for each in index.routes()] == [RouteStatus.DELETED, RouteStatus.ENABLED]
    assert [each.current.tenant for each in index.timelines("globex")] == ["globex"]
    assert index.timeline(UUID(int=99)) is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(-3, 45))
def test_a_timeline_gives_the_last_state_that_had_begun(gaps: list[int], ticks: int) -> None:
    route = evolve(None, created())
    timeline, states = Timeline(route), [route]
    for gap in gaps:
        route = evolve(route, after(route, LifecycleEventType.EDITED, at=route.updated_at + gap * TICK))
        timeline.extend(route)
        states.append(route)
    at = NOON + ticks * TICK
    begun = [state for state in states if state.updated_at <= at]
    assert timeline.as_of(at) == (begun[-1] if begun else None)
    assert timeline.current is states[-1]
    assert timeline.as_of(NOON + timedelta(days=1)) is timeline.current


def test_it_says_what_the_configurations_of_a_tenant_take_and_have_taken() -> None:
    index = RouteIndex()
    assert index.config_bytes("acme") == 0
    usual, large = config(), config(*(f"type.t{number}" for number in range(100)))
    route = index.apply(created(config=usual))
    taken = [index.config_bytes("acme")]
    for kind, edited in (
        (LifecycleEventType.EDITED, large),
        (LifecycleEventType.DISABLED, None),
        (LifecycleEventType.EDITED, usual),
    ):
        route = index.apply(after(route, kind, config=edited))
        taken.append(index.config_bytes("acme"))
    first, second, third, fourth = taken
    assert first > 512
    assert second - first > 100 * 64
    assert third == second
    assert 512 < fourth - third < first, "name and target are the same texts as before"
    assert index.config_bytes("globex") == 0
