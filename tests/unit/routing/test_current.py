"""The present states are those of the index, without what the index keeps of the past."""

import tracemalloc
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.routing.current import CurrentRoutes
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, may
from tests.support.values.lifecycles import NOON, TICK, after, config, created

EDITS = 5_000


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(LifecycleEventType)), max_size=40))
def test_the_states_are_the_present_ones_of_the_index(steps: list[tuple[int, LifecycleEventType]]) -> None:
    index, current = RouteIndex(), CurrentRoutes()
    for number, kind in steps:
        event = _event(index, number, kind)
        if event is not None:
            assert index.apply(event) == current.apply(event)
    assert current.position == index.position
    for tenant in (None, "tenant_0", "tenant_1", "nobody"):
        assert list(current.routes(tenant)) == list(index.routes(tenant))


def test_a_long_history_takes_no_memory() -> None:
    current = CurrentRoutes()
    route = current.apply(created())
    tracemalloc.start()
    try:
        for pos in range(2, EDITS):
            edited = config(f"order.t{pos}", headers_id=f"headers_{pos}")
            event = after(route, LifecycleEventType.EDITED, pos=pos, at=NOON + pos * TICK, config=edited)
            route = current.apply(event)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(current.routes()) == [route]
    assert grown < 100_000  # an index takes 1.5 MB


def _event(index: RouteIndex, number: int, kind: LifecycleEventType) -> LifecycleEvent | None:
    """The next event of a route, None if it may not follow."""
    route_id, pos = UUID(int=number), index.position + 1
    route, at = index.route(route_id), NOON + pos * TICK
    if route is None:
        return created(route_id=route_id, tenant=f"tenant_{number % 2}", pos=pos, at=at)
    return None if may(route, kind) else after(route, kind, pos=pos, at=at)
