"""The working set without other stages, compared with a list of what was put in."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.working_set import WorkingSet
from tests.support.values.deliveries import delivery

ROUTES = [UUID(int=n) for n in range(3)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "discard", "read", "drop"]), st.integers(0, 2), st.integers(0, 5)), max_size=60
)


def has(it: WorkingSet, wanted: Delivery) -> bool:
    """True if this very delivery is in the set."""
    return it._deliveries.get(wanted.route_id, {}).get(wanted.event.seq) is wanted


@given(STEPS)
def test_it_holds_what_was_added_last_until_that_is_discarded(steps: list[tuple[str, int, int]]) -> None:
    it, made = WorkingSet(), list[Delivery]()
    held: dict[tuple[UUID, int], Delivery] = {}
    read: dict[UUID, set[int]] = {}
    for step, number, seq in steps:
        route = ROUTES[number]
        match step:
            case "add":
                made.append(delivery(seq, route_id=route, shard=number))
                it.add(made[-1])
                held[made[-1].pair] = made[-1]
            case "discard" if made:
                gone = made[(seq * 7 + number) % len(made)]
                it.discard(gone)
                if held.get(gone.pair) is gone:
                    del held[gone.pair]
            case "read":
                read[route] = set(range(seq))
                it.read(route, range(seq))
            case "drop":
                it.drop(number)
                held = {pair: each for pair, each in held.items() if each.shard != number}
            case _:
                pass
        for each in ROUTES:
            assert it.seqs(each) == read.get(each, set()) | {s for of, s in held if of == each}
        assert [each for each in made if has(it, each)] == [each for each in made if held.get(each.pair) is each]


def test_a_pair_that_was_taken_up_again_stays_when_the_older_delivery_ends() -> None:
    it = WorkingSet()
    older, newer = delivery(1, route_id=ROUTES[0]), delivery(1, route_id=ROUTES[0])
    it.add(older)
    it.add(newer)
    it.discard(older)
    assert (has(it, older), has(it, newer)) == (False, True)
    assert it.seqs(ROUTES[0]) == {1}
    it.discard(newer)
    it.discard(newer)
    assert it.seqs(ROUTES[0]) == set()


def test_what_is_read_replaces_what_was_read_before() -> None:
    it = WorkingSet()
    it.read(ROUTES[0], [1, 2])
    it.read(ROUTES[0], [2, 3])
    it.read(ROUTES[1], [9])
    assert it.seqs(ROUTES[0]) == {2, 3}
    it.read(ROUTES[0], [])
    assert (it.seqs(ROUTES[0]), it.seqs(ROUTES[1])) == (set(), {9})


def test_only_deliveries_that_have_or_had_a_row_in_retry_are_named_as_such() -> None:
    it = WorkingSet()
    first, second = delivery(1), delivery(2)
    second.had_retry_row = True
    for each in (first, second):
        it.add(each)
    assert list(it.with_retry_row()) == [second]


def test_nothing_is_kept_for_a_route_without_deliveries() -> None:
    it = WorkingSet()
    for n in range(100):
        each = delivery(n)
        it.add(each)
        it.discard(each)
        it.read(each.route_id, [n])
        it.read(each.route_id, [])
    assert not it._deliveries
    assert not it._read
