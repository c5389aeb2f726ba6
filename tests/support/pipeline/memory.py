"""What a process of the pipeline has in memory: whether its parts agree, and whether nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.supervisor import Pipeline


def assert_memory_agrees(pipeline: Pipeline) -> None:
    """Lanes, pools, ledger and working set agree, and nothing is held that nobody works on."""
    lanes, ledger, recorder = pipeline._lanes, pipeline._ledger, pipeline._recorder
    in_flight = Counter(delivery.route_id for delivery in lanes.in_flight)
    assert {lane.route_id: lane.in_flight for lane in lanes if lane.in_flight} == in_flight
    places = Counter(delivery.is_slow for delivery in lanes.in_flight if delivery.has_place)
    assert (lanes._slow.in_flight, lanes._fast.in_flight) == (places[True], places[False])
    assert all(delivery.is_slow for delivery in lanes.in_flight if not delivery.has_place)
    slow = Counter(delivery.slow_host for delivery in lanes.in_flight if delivery.slow_host)
    assert {host: slow.count for host, slow in lanes._hosts._slow.items()} == slow
    waiting = [lane for hanging in lanes._hosts.held.values() for lane in hanging.lanes]
    assert all(lane.is_in_ready_queue for lane in waiting)
    assert len(waiting) == len(set(waiting))
    shards = ledger._shards.values()
    assert ledger.pairs == len(ledger._unaccounted) == sum(sum(shard.open.values()) for shard in shards)
    assert ledger.pairs == sum(share.pairs for shard in shards for share in shard.shares())
    assert ledger._bytes == sum(delivery.event.size_bytes for delivery in ledger._unaccounted)
    assert ledger._bytes == sum(share.bytes for shard in shards for share in shard.shares())
    worked_on = {*lanes.in_flight, *recorder._buffer.ended, *recorder._writing.ended, *queued(pipeline)}
    held = set(held_by(pipeline))
    assert held <= worked_on, f"held, and nobody works on it: {[d.pair for d in held - worked_on]}"
    unheld = {d for d in (*queued(pipeline), *lanes.in_flight) if not d.is_withdrawn and not d.is_ended} - held
    assert not unheld, f"worked on, and not held: {[d.pair for d in unheld]}"
    # The ledger is the last to forget a shard that parts: until then it has what was withdrawn.
    unheld = {delivery for delivery in ledger._unaccounted if not delivery.is_withdrawn} - held
    assert not unheld, f"unaccounted, and not held: {[d.pair for d in unheld]}"
    pairs = Counter(delivery.pair for delivery in (*queued(pipeline), *lanes.in_flight) if not delivery.is_withdrawn)
    assert not pairs or max(pairs.values()) == 1, f"a pair is in memory twice: {pairs.most_common(1)}"


def is_empty(pipeline: Pipeline) -> bool:
    """Nothing is in memory, and no lane waits for anything in the tables."""
    return (
        not any(held_by(pipeline))
        and not pipeline._ledger.pairs
        and not pipeline._lanes.in_flight
        and not pipeline._lanes.queued
        and not pipeline._recorder.backlog
        and all(not lane.is_parking and not lane.load and not lane.parked_pairs for lane in pipeline._lanes)
    )


def queued(pipeline: Pipeline) -> Iterator[Delivery]:
    for lane in pipeline._lanes:
        yield from (delivery for delivery in (*lane.queue, *lane.due) if not delivery.is_withdrawn)


def held_by(pipeline: Pipeline) -> Iterator[Delivery]:
    for of_route in pipeline._working_set._deliveries.values():
        yield from of_route.values()
