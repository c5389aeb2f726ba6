"""The delivery check finds each kind of fault, in logs made by hand."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid5

from tests.support.faults.delivery_check import CheckedRoute, check_deliveries, most_within
from tests.support.faults.producer import Publication, PublicationStatus
from tests.support.receivers.recording_receiver import Arrival

ROUTE = UUID("11111111-2222-3333-4444-555555555555")


def route(*, windows: tuple[tuple[float, float], ...] = ((0.0, math.inf),), is_ordered: bool = False) -> CheckedRoute:
    return CheckedRoute(
        id=ROUTE, tenant="acme", path="/a", types=("order.*",), windows=windows, is_ordered=is_ordered
    )  # fmt: skip


def event(
    id: str = "e1", *, status: PublicationStatus = PublicationStatus.ACKNOWLEDGED, asked_at: float = 1.0, tenant: str = "acme", type: str = "order.create"
) -> Publication:  # fmt: skip
    answered_at = None if status is PublicationStatus.UNKNOWN else asked_at + 0.1
    return Publication(id=id, tenant=tenant, type=type, status=status, asked_at=asked_at, answered_at=answered_at)


def arrival(
    id: str = "e1", *, at: float = 2.0, path: str = "/a", is_accepted: bool = True, is_signed: bool = True
) -> Arrival:
    return Arrival(path, id, str(uuid5(ROUTE, f"{id}\n{datetime.now(UTC).date()}")), at, is_signed, is_accepted)


def test_all_is_well_when_each_event_arrived_once() -> None:
    found = check_deliveries([event("e1"), event("e2")], [route()], [arrival("e1"), arrival("e2")])
    assert (found.owed, found.violations, found.duplicates) == (2, {}, 0)


def test_an_acknowledged_event_that_never_arrived_is_lost() -> None:
    found = check_deliveries([event("e1"), event("e2")], [route()], [arrival("e1")])
    assert found.lost == {("/a", "e2")}
    assert found.violations == {"lost": [("/a", "e2")]}


def test_a_refused_request_is_no_arrival() -> None:
    assert check_deliveries([event()], [route()], [arrival(is_accepted=False)]).lost == {("/a", "e1")}


def test_what_can_be_seen_to_wait_is_not_lost() -> None:
    assert not check_deliveries([event()], [route()], [], visible=[("/a", "e1")]).lost


def test_of_an_event_without_an_answer_nothing_is_owed_and_nothing_is_wrong() -> None:
    for arrivals in ([], [arrival()]):
        found = check_deliveries([event(status=PublicationStatus.UNKNOWN)], [route()], arrivals)
        assert (found.owed, found.violations) == (0, {})


def test_a_second_arrival_is_a_duplicate_and_one_after_a_failure_is_not() -> None:
    found = check_deliveries([event()], [route()], [arrival(at=2), arrival(at=3), arrival(at=4)])
    assert found.repeated == Counter({("/a", "e1"): 2})
    assert not check_deliveries([event()], [route()], [arrival(is_accepted=False), arrival(at=3)]).duplicates


def test_what_was_refused_or_never_published_is_unexpected() -> None:
    found = check_deliveries(
        [event("e1", status=PublicationStatus.REFUSED)],
        [route()],
        [arrival("e1"), arrival("e2"), arrival("e1", path="/b")],
    )
    assert found.unexpected == {("/a", "e1"), ("/a", "e2"), ("/b", "e1")}


def test_another_tenants_or_types_event_is_unexpected() -> None:
    events = [event("e1", tenant="other"), event("e2", type="customer.create")]
    found = check_deliveries(events, [route()], [arrival("e1"), arrival("e2")])
    assert found.unexpected == {("/a", "e1"), ("/a", "e2")}
    assert found.owed == 0


def test_only_what_surely_fell_into_a_window_is_owed() -> None:
    it = route(windows=((0.0, 10.0), (20.0, math.inf)))
    inside, across, outside = event("in", asked_at=5), event("across", asked_at=9.95), event("out", asked_at=15)
    found = check_deliveries([inside, across, outside], [it], [])
    assert found.lost == {("/a", "in")}
    found = check_deliveries([inside, across, outside], [it], [arrival("in"), arrival("across"), arrival("out")])
    assert found.unexpected == {("/a", "out")}


def test_a_request_under_a_false_name_or_signature_is_seen() -> None:
    found = check_deliveries([event()], [route()], [arrival()._replace(webhook_id="x"), arrival(is_signed=False)])
    assert found.misnamed == found.unsigned == {("/a", "e1")}


def test_an_ordered_route_must_not_get_what_was_published_later_first() -> None:
    events = [event("e1", asked_at=1), event("e2", asked_at=2), event("e3", asked_at=3)]
    arrivals = [arrival("e1", at=5), arrival("e3", at=6), arrival("e2", at=7)]
    assert check_deliveries(events, [route(is_ordered=True)], arrivals).overtaken == {("/a", "e2")}
    assert not check_deliveries(events, [route()], arrivals).overtaken
    again = [arrival("e1", at=5), arrival("e2", at=6), arrival("e3", at=7), arrival("e1", at=8)]
    assert not check_deliveries(events, [route(is_ordered=True)], again).overtaken


def test_events_published_at_the_same_time_have_no_order() -> None:
    events = [event("e1", asked_at=1), event("e2", asked_at=1.05)]
    assert not check_deliveries(events, [route(is_ordered=True)], [arrival("e2", at=5), arrival("e1", at=6)]).overtaken


def test_the_densest_interval_is_half_open() -> None:
    assert most_within([0, 0.5, 1.0, 1.2, 1.4], 1.0) == 4
    assert most_within([0, 1, 2], 1.0) == 1
    assert most_within([], 1.0) == 0
