"""The table of a route's transitions, and the state after each lifecycle event."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.routing.route import (
    TRANSITIONS,
    BrokenHistory,
    LifecycleEventType,
    PayloadOptions,
    Route,
    RouteConfig,
    RouteStatus,
    config_from_body,
    config_to_body,
    evolve,
    may,
    snapshot_selection,
)
from daemon.core.routing.windows import Window
from tests.support.values.lifecycles import NOON, TICK, after, config, created, life

# A literal copy, so that a row missing in the code is noticed.
TABLE = {
    ("created", None): True, ("created", "enabled"): False, ("created", "disabled"): False, ("created", "deleted"): False,
    ("edited", None): False, ("edited", "enabled"): True, ("edited", "disabled"): True, ("edited", "deleted"): False,
    ("disabled", None): False, ("disabled", "enabled"): True, ("disabled", "disabled"): False, ("disabled", "deleted"): False,
    ("enabled", None): False, ("enabled", "enabled"): False, ("enabled", "disabled"): True, ("enabled", "deleted"): False,
    ("deleted", None): False, ("deleted", "enabled"): True, ("deleted", "disabled"): True, ("deleted", "deleted"): False,
    ("key_rotated", None): False, ("key_rotated", "enabled"): True, ("key_rotated", "disabled"): True, ("key_rotated", "deleted"): False,
    ("key_revoked", None): False, ("key_revoked", "enabled"): True, ("key_revoked", "disabled"): True, ("key_revoked", "deleted"): False,
}  # fmt: skip

BODY = config_to_body(config())

STATUSES: tuple[Route | None, ...] = (None, life(), life(LifecycleEventType.DISABLED), life(LifecycleEventType.DELETED))


def status_name(route: Route | None) -> str | None:
    return None if route is None else route.status.value


def test_the_table_is_complete_and_is_the_one_of_the_code() -> None:
    assert set(TABLE) == set(
        product([each.value for each in LifecycleEventType], [None, *[each.value for each in RouteStatus]])
    )
    allowed = {
        (lifecycle_type.value, status.value) for lifecycle_type, statuses in TRANSITIONS.items() for status in statuses
    }
    assert allowed == {pair for pair, is_allowed in TABLE.items() if is_allowed and pair[1] is not None}


@pytest.mark.parametrize("route", STATUSES, ids=status_name)
@pytest.mark.parametrize("lifecycle_type", LifecycleEventType)
def test_a_command_may_exactly_what_the_log_can_take(route: Route | None, lifecycle_type: LifecycleEventType) -> None:
    is_allowed = TABLE[lifecycle_type.value, status_name(route)]
    assert (may(route, lifecycle_type) is None) is is_allowed
    event = after(route or life(), lifecycle_type)
    if route is None:
        event = event._replace(version=1)
    if is_allowed:
        assert evolve(route, event).version == event.version
    else:
        with pytest.raises(BrokenHistory, match=f"position {event.pos}: {lifecycle_type}"):
            evolve(route, event)


@pytest.mark.parametrize(
    ("route", "lifecycle_type", "words"),
    [
        (None, LifecycleEventType.EDITED, "no such route"),
        (life(), LifecycleEventType.CREATED, "exists already"),
        (life(), LifecycleEventType.ENABLED, "enabled already"),
        (life(LifecycleEventType.DISABLED), LifecycleEventType.DISABLED, "disabled already"),
        (life(LifecycleEventType.DELETED), LifecycleEventType.ENABLED, "deleting is final"),
        (life(LifecycleEventType.DELETED), LifecycleEventType.DELETED, "deleting is final"),
    ],
)
def test_a_refusal_says_why(route: Route | None, lifecycle_type: LifecycleEventType, words: str) -> None:
    refusal = may(route, lifecycle_type)
    assert refusal is not None
    assert words in refusal.reason


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"pos": 1},
        {"pos": 0},
        {"tenant": "other"},
        {"route_id": UUID(int=7)},
        {"effective_at": NOON},
        {"effective_at": NOON - TICK},
    ],
    ids=str,
)
def test_an_event_that_does_not_follow_breaks_the_history(change: dict[str, Any]) -> None:
    route = life()
    event = after(route, LifecycleEventType.EDITED)
    assert evolve(route, event).version == 2
    with pytest.raises(BrokenHistory, match="does not follow"):
        evolve(route, event._replace(**change))


@pytest.mark.parametrize(
    ("lifecycle_type", "body"),
    [
        (LifecycleEventType.EDITED, {}),
        (LifecycleEventType.EDITED, []),
        (LifecycleEventType.EDITED, {"config": None}),
        (LifecycleEventType.EDITED, {"config": BODY | {"event_types": None}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"event_types": [["order.*"]]}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"target_url": 1}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"header_names": [None]}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"headers_id": 1}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"ordered": None}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"rate_limit_per_second": "10"}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"rate_limit_per_second": True}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"payload": BODY["payload"] | {"snapshot": []}}}),
        (LifecycleEventType.EDITED, {"config": BODY | {"payload": BODY["payload"] | {"filter": 1}}}),
        (LifecycleEventType.KEY_ROTATED, {"grace_seconds": 1}),
        (LifecycleEventType.KEY_ROTATED, {"grace_seconds": 1e300, "key": {"id": "k", "fingerprint": "f"}}),
        (LifecycleEventType.KEY_ROTATED, {"grace_seconds": 1, "key": {"id": 1, "fingerprint": "f"}}),
    ],
    ids=str,
)
def test_a_body_that_no_command_can_have_written_breaks_the_history(
    lifecycle_type: LifecycleEventType, body: Any
) -> None:
    with pytest.raises(BrokenHistory, match="has no such body"):
        evolve(life(), after(life(), lifecycle_type)._replace(body=body))


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_route_begins_with_version_one(version: int) -> None:
    with pytest.raises(BrokenHistory):
        evolve(None, created()._replace(version=version))


def test_a_broken_history_does_not_repeat_the_target_which_may_hold_a_secret() -> None:
    with pytest.raises(BrokenHistory) as raised:
        evolve(life(), after(life(), LifecycleEventType.ENABLED))
    assert "hooks.example" not in str(raised.value)


def test_a_route_created_enabled_is_open_from_its_first_microsecond() -> None:
    route = evolve(None, created())
    assert route.is_enabled
    assert route.windows == (Window(NOON),)
    assert route.created_at == route.updated_at == NOON


def test_a_route_created_disabled_has_no_window_until_it_is_enabled() -> None:
    route = life(enabled=False)
    assert (route.status, route.windows) == (RouteStatus.DISABLED, ())
    enabled = evolve(route, after(route, LifecycleEventType.ENABLED))
    assert enabled.windows == (Window(NOON + timedelta(seconds=1)),)


def test_each_lifecycle_event_changes_only_its_own_fields() -> None:
    route = life()
    second = NOON + timedelta(seconds=1)
    same = replace(route, version=2, pos=2, updated_at=second)
    edited = evolve(route, after(route, LifecycleEventType.EDITED, config=config("*")))
    assert edited == replace(same, config=config("*"))
    disabled = evolve(route, after(route, LifecycleEventType.DISABLED))
    assert disabled == replace(same, status=RouteStatus.DISABLED, windows=(Window(NOON, second),))
    deleted = evolve(route, after(route, LifecycleEventType.DELETED))
    assert deleted == replace(same, status=RouteStatus.DELETED, windows=(Window(NOON, second),))
    assert life(LifecycleEventType.DISABLED, LifecycleEventType.DELETED).windows == (Window(NOON, second),)
    assert life(LifecycleEventType.DISABLED, LifecycleEventType.ENABLED).windows == (
        Window(NOON, second),
        Window(NOON + timedelta(seconds=2)),
    )


def test_after_a_rotation_both_keys_sign_until_the_grace_ends() -> None:
    route = life()
    rotated = evolve(route, after(route, LifecycleEventType.KEY_ROTATED, grace_seconds=60))
    until = rotated.updated_at + timedelta(seconds=60)
    assert [key.id for key in rotated.keys_at(until - TICK)] == ["key_2", "key_1"]
    assert [key.id for key in rotated.keys_at(until)] == ["key_2"]
    assert [key.id for key in route.keys_at(until)] == ["key_1"]
    assert [each.old_key_at(at) for each, at in ((rotated, until - TICK), (rotated, until), (route, until))] == [
        rotated.keys[1],
        None,
        None,
    ]


def test_a_second_rotation_leaves_out_the_oldest_key() -> None:
    route = life(LifecycleEventType.KEY_ROTATED, LifecycleEventType.KEY_ROTATED)
    assert [key.id for key in route.keys] == ["key_3", "key_2"]
    assert route.keys[0].valid_until is None


def test_revoking_leaves_the_newest_key_alone() -> None:
    assert [key.id for key in life(LifecycleEventType.KEY_ROTATED, LifecycleEventType.KEY_REVOKED).keys] == ["key_2"]
    assert [key.id for key in life(LifecycleEventType.KEY_REVOKED).keys] == ["key_1"]


names = st.text(max_size=10)
selections = st.none() | st.dictionaries(names, st.none() | st.lists(names, max_size=3).map(tuple), max_size=3).map(
    lambda chosen: tuple(sorted(chosen.items()))
)
configs = st.builds(
    RouteConfig,
    name=names,
    target_url=names,
    event_types=st.lists(names, max_size=3).map(tuple),
    payload=st.builds(PayloadOptions, snapshot=selections, filter=st.none() | names, transform=st.none() | names),
    header_names=st.lists(names, max_size=3).map(tuple),
    headers_id=st.none() | names,
    ordered=st.booleans(),
    rate_limit_per_second=st.none() | st.floats(allow_nan=False),
)


@given(configs)
def test_a_configuration_comes_back_from_the_log_as_it_went_in(given_config: RouteConfig) -> None:
    assert config_from_body(config_to_body(given_config)) == given_config


def test_a_snapshot_selection_is_ordered_and_leaves_out_what_is_set_to_false() -> None:
    assert snapshot_selection(None) is None
    assert snapshot_selection({}) == ()
    chosen = snapshot_selection({"orders": ["total", "id"], "customer": True, "shop": False, "cart": []})
    assert chosen == (("cart", ()), ("customer", None), ("orders", ("total", "id")))
