"""Seals, their key, the growth from one to another, the proof of a delivery, and the route log for auditors."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import metamorphic_log  # type: ignore[import-untyped] # generated bindings without py.typed
import pytest
from tamperlog import merkle  # type: ignore[import-untyped] # it has annotations, and no py.typed

from daemon.core.delivery.answer import delivery_id
from daemon.core.sealing import proof, tree
from daemon.core.sealing.head import PublicSealKey, parse_head
from daemon.core.sealing.proof import ProofRefused
from daemon.web.service.auditing import delivery_proofs
from eventstore.domain_events import lost_log, ticks
from eventstore.progress.rows import RECORDED
from eventstore.sources import positions
from eventstore.sources.positions import MessageBatch
from tests.support.audit.seals import seal
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import attempt, new_event
from tests.support.web.application import App
from tests.support.web.tokens import bearer, token

OF_FORM_2 = ("retries", "replays", "tokens", "losses")
_OLD = "SET LOCAL session_replication_role = replica; ALTER TABLE hookledger.seal DROP CONSTRAINT seal_form_check"
_FAIL = "SET session_replication_role = replica; UPDATE hookledger.attempt SET duration_ms = 999"


async def published(app: App, event_id: str) -> None:
    answer = await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {}, "id": event_id})
    assert answer.status == 202, answer.text
    await ticks.make(app.database)


async def record(app: App, route: dict[str, Any], *, seq: int, event_id: str, number: int = 1) -> None:
    async with app.database.connection() as connection:
        event_time = await connection.fetchval("SELECT recorded_at FROM hookledger.domain_event WHERE seq = $1", seq)
        row = attempt(route_id=UUID(route["id"]), seq=seq, event_id=event_id, number=number)
        row = row._replace(tenant="acme", event_time=event_time)
        await connection.execute(
            f"INSERT INTO hookledger.attempt ({', '.join(RECORDED)}) "
            f"VALUES ({', '.join(f'${place}' for place in range(1, len(RECORDED) + 1))})",
            *row,
            LOG_MACS.of_outcome(row),
        )


async def taken(app: App, event_id: str) -> None:
    """Stores an event that is a message of a source."""
    await positions.begin(app.database, "shop", {("orders", 3): 41})
    ((_, position),) = (await positions.read(app.database, "shop", ["orders"])).items()
    event = new_event(tenant="acme", id=event_id, type="order.create")
    batch = MessageBatch(partition_id=position.id, begin=41, end=42, events=[event], offsets=[41])
    assert await positions.take(app.database, batch) is not None
    await ticks.make(app.database)


async def delivered(app: App, event_id: str, publish: Callable[[App, str], Awaitable[None]] = published) -> str:
    """The path of a delivery with one outcome."""
    route = await app.route()
    await publish(app, event_id)
    async with app.database.connection() as connection:
        seq = await connection.fetchval("SELECT max(seq) FROM hookledger.domain_event")
    await record(app, route, seq=seq, event_id=event_id)
    return f"/v1/tenants/acme/deliveries/{delivery_id(UUID(route['id']), event_id, datetime.now(UTC))}/proof?event={event_id}"


async def key_of(app: App) -> PublicSealKey:
    return PublicSealKey.parse((await app.ask("GET", "/v1/seals/key")).json["key"])


async def test_seals_are_listed_newest_first_and_shown_with_their_head(app: App) -> None:
    assert (await app.ask("GET", "/v1/seals")).json == {"items": [], "next": None}
    for number in range(3):
        await published(app, f"e{number}")
        await seal(app.database)
    listed = (await app.ask("GET", "/v1/seals?limit=2")).json
    rest = (await app.ask("GET", f"/v1/seals?limit=2&cursor={listed['next']}")).json
    assert [item["n"] for item in listed["items"] + rest["items"]] == [3, 2, 1]
    assert rest["next"] is None
    assert [item["events"] for item in listed["items"]] == [1, 1]
    assert [[item[name] for name in OF_FORM_2] for item in listed["items"]] == [[0] * 4] * 2
    shown = (await app.ask("GET", "/v1/seals/2")).json
    assert (shown["hash"], shown["fields"]["tick"]) == (listed["items"][1]["hash"], "2")
    verified = metamorphic_log.checkpoint_verify(shown["head"], [(await key_of(app)).text])
    assert verified.size == 2


async def test_a_seal_says_how_much_it_covers_of_what_is_few(app: App) -> None:
    await app.route()
    made = await app.ask("POST", "/v1/tokens", {"scope": "producer", "name": "shop"})
    assert made.status == 201, made.text
    await lost_log.record(app.database, timeline=2, ticks=(1, 2), positions=(1, 0), found_by="daemon")
    await seal(app.database)
    (item,) = (await app.ask("GET", "/v1/seals")).json["items"]
    assert [item[name] for name in OF_FORM_2] == [0, 0, 1, 1]
    names = "resends, replays, replay_ends, losses, tokens, token_ends"
    async with app.database.connection() as connection:
        await connection.execute(
            f"BEGIN; {_OLD}; UPDATE hookledger.seal SET ({names}) = ROW(NULL, NULL, NULL, NULL, NULL, NULL);"
            " ALTER TABLE hookledger.seal ADD CONSTRAINT seal_form_check"
            f" CHECK (num_nulls({names}) = 0) NOT VALID; COMMIT"
        )
    (item,) = (await app.ask("GET", "/v1/seals")).json["items"]
    assert [item[name] for name in OF_FORM_2] == [None] * 4


async def test_an_independent_verifier_accepts_the_growth_from_one_seal_to_another(app: App) -> None:
    for number in range(5):
        await published(app, f"e{number}")
        await seal(app.database)
    key = (await key_of(app)).text
    for first in range(1, 6):
        found = (await app.ask("GET", f"/v1/seals/5/consistency?from={first}")).json
        path = [bytes.fromhex(each) for each in found["path"]]
        older, newer = (parse_head(found[name]).head for name in ("from_head", "to_head"))
        merkle.verify_consistency(older.size, older.root, newer.size, newer.root, path)
        if first < 5:
            metamorphic_log.checkpoint_verify_consistency(found["from_head"], found["to_head"], [key], path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/seals/0", 404),
        ("/v1/seals/2", 404),
        ("/v1/seals/x", 404),
        ("/v1/seals/99999999999999999999", 404),
        ("/v1/seals/1/consistency", 422),
        ("/v1/seals/1/consistency?from=2", 404),
        ("/v1/seals/1/consistency?from=0", 404),
        ("/v1/seals?cursor=abc", 422),
        ("/v1/log?after=-1", 422),
        ("/v1/log?limit=201", 422),
    ],
)
async def test_what_does_not_exist_is_refused(app: App, path: str, status: int) -> None:
    await published(app, "e1")
    await seal(app.database)
    assert (await app.ask("GET", path)).status == status


async def test_a_newer_seal_cannot_be_continued_by_an_older_one(app: App) -> None:
    for number in range(2):
        await published(app, f"e{number}")
        await seal(app.database)
    answer = await app.ask("GET", "/v1/seals/1/consistency?from=2")
    assert (answer.status, answer.json["errors"][0]["message"]) == (422, "must not be newer than seal 1")


async def test_a_delivery_is_proven_with_its_event_and_its_outcomes(app: App) -> None:
    path = await delivered(app, "e1")
    assert (await app.ask("GET", path)).status == 409  # not sealed yet
    await published(app, "beside")
    await seal(app.database)
    document = (await app.ask("GET", path)).json
    proven = proof.verify(document, [await key_of(app)])
    assert (proven.event, proven.tenant, len(proven.attempts), proven.unsealed) == ("e1", "acme", 1, 0)
    assert [json.loads(row["entry"])[0] for row in document["rows"]] == ["domain_event", "attempt"]


async def test_one_proof_is_made_at_a_time(app: App) -> None:
    """Each takes the longer the older the installation is, and shares the interpreter with everybody."""
    where = await delivered(app, "e1")
    await seal(app.database)
    paths = (where, "/v1/seals/1", "/v1/seals/1/consistency?from=1")
    slots = app.client.app[delivery_proofs.SLOTS]
    slots._patience_seconds = 0.0
    async with slots.place("globex"):
        busy = [await app.ask("GET", path) for path in paths]
    assert [(answer.status, "Retry-After" in answer.headers) for answer in busy] == [(503, True)] * 3
    assert [(await app.ask("GET", path)).status for path in paths] == [200] * 3


async def test_which_message_an_event_was_is_proven_with_it(app: App) -> None:
    path = await delivered(app, "e1", taken)
    await published(app, "beside")
    await seal(app.database)
    document, keys = (await app.ask("GET", path)).json, [await key_of(app)]
    assert proof.verify(document, keys).message == "shop/orders/3/41"
    entry = document["rows"][0]["entry"]
    assert entry.endswith(',"shop/orders/3/41"]')
    for other in (',"shop/orders/3/42"]', "]", ',"shop/orders/3/41",null]'):
        document["rows"][0]["entry"] = entry.replace(',"shop/orders/3/41"]', other)
        with pytest.raises(ProofRefused):
            proof.verify(document, keys)


async def test_an_outcome_that_is_not_sealed_yet_is_told(app: App) -> None:
    path = await delivered(app, "e1")
    await seal(app.database)
    await record(
        app, {"id": str((await app.log())[0]["route_id"])}, seq=(await app.events())[0]["seq"], event_id="e1", number=2
    )
    assert (await app.ask("GET", path)).json["unsealed"] == 1
    await seal(app.database)
    document = (await app.ask("GET", path)).json
    assert (document["unsealed"], [each["n"] for each in document["seals"]]) == (0, [1, 2])
    assert [each.number for each in proof.verify(document, [await key_of(app)]).attempts] == [1, 2]


async def test_what_is_not_as_it_was_sealed_is_not_proven(app: App) -> None:
    path = await delivered(app, "e1")
    await seal(app.database)
    async with app.database.transaction() as connection:
        await connection.execute(_FAIL.replace("SET", "SET LOCAL", 1))
    answer = await app.ask("GET", path)
    assert (answer.status, "run hookledger audit" in answer.json["detail"]) == (409, True)


async def test_a_proof_with_anything_changed_is_refused(app: App) -> None:
    path = await delivered(app, "e1")
    for number in range(2):
        await published(app, f"beside {number}")
    await seal(app.database)
    await published(app, "later")
    await seal(app.database)
    document, keys = (await app.ask("GET", path)).json, [await key_of(app)]
    proof.verify(document, keys)
    places = [place for place in _places(document) if place[-1] != "unsealed"]
    changed = [(place, _changed(document, place)) for place in places] + [*_changed_columns(document)]
    assert len(changed) > 60
    for place, forged in changed:
        with pytest.raises(ProofRefused):
            proof.verify(forged, keys)
            pytest.fail(f"{place} was changed, and nobody noticed")


@pytest.mark.parametrize(
    ("mac", "told"), [("NULL", "has no MAC: nobody with the master key"), ("'x'", "is not as somebody")]
)
async def test_nothing_is_proven_of_an_outcome_that_nobody_of_ours_wrote(app: App, mac: str, told: str) -> None:
    """It is sealed like any other, so that a proof of it would convince everybody."""
    path = await delivered(app, "e1")
    await app.rows(f"UPDATE hookledger.attempt SET mac = {mac}")
    await seal(app.database)
    answer = await app.ask("GET", path)
    assert (answer.status, told in answer.text) == (409, True), answer.text
    assert "run hookledger audit" in answer.text


async def test_nothing_is_proven_without_the_key_of_outcomes(app: App) -> None:
    path = await delivered(app, "e1")
    await seal(app.database)
    for change, told in (
        (
            "UPDATE hookledger.meta SET value = 'x' WHERE key = 'master_key_check'",
            "cannot be opened with the configured",
        ),
        ("DELETE FROM hookledger.meta WHERE key = 'master_key_check'", "has no MAC that can be checked"),
    ):
        await app.rows(change)
        answer = await app.ask("GET", path)
        assert (answer.status, told in answer.text) == (409, True), answer.text


async def test_a_proof_that_another_key_has_signed_is_refused(app: App) -> None:
    path = await delivered(app, "e1")
    await seal(app.database)
    document, key = (await app.ask("GET", path)).json, await key_of(app)
    with pytest.raises(ProofRefused, match="signed by another key"):
        proof.verify(document, [PublicSealKey(name=key.name, key=bytes(32))])


async def test_paths_that_an_independent_library_has_made_are_accepted(app: App) -> None:
    path = await delivered(app, "e1")
    for number in range(4):
        await published(app, f"beside {number}")
        await seal(app.database)
    document, keys = (await app.ask("GET", path)).json, [await key_of(app)]
    hashes = [bytes.fromhex(item["hash"]) for item in (await app.ask("GET", "/v1/seals")).json["items"]][::-1]
    leaves = [tree.leaf_hash(each) for each in hashes]
    for each in document["seals"]:
        each["path"] = [node.hex() for node in merkle.inclusion_proof(each["n"] - 1, leaves)]
    assert proof.verify(document, keys).head.size == 4


async def test_the_key_is_for_anybody_and_the_log_for_those_who_see_all_tenants(app: App) -> None:
    await app.route()
    headers = bearer(await token(app.database, "metrics"))
    assert (await app.ask("GET", "/v1/seals/key", headers=headers)).status == 200
    assert (await app.ask("GET", "/v1/seals", headers=headers)).status == 403
    headers = bearer(await token(app.database, "tenant:acme"))
    assert (await app.ask("GET", "/v1/seals", headers=headers)).status == 200
    assert (await app.ask("GET", "/v1/log", headers=headers)).status == 403


async def test_the_route_log_is_given_whole_and_in_parts(app: App) -> None:
    for _ in range(3):
        await app.route()
    whole = (await app.ask("GET", "/v1/log")).json
    part = (await app.ask("GET", "/v1/log?limit=2")).json
    rest = (await app.ask("GET", f"/v1/log?after={part['next']}")).json
    assert (whole["next"], part["next"], rest["next"]) == (None, 2, None)
    assert part["items"] + rest["items"] == whole["items"]
    assert [item["prev_hash"] for item in whole["items"]] == ["", *(item["hash"] for item in whole["items"][:-1])]
    assert all(item["signature"] for item in whole["items"])
    assert json.loads(whole["items"][0]["body"])["enabled"] is True


def _places(value: object, place: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The place of each value in a document."""
    match value:
        case dict():
            for name, part in value.items():
                yield from _places(part, (*place, name))
        case list():
            for index, part in enumerate(value):
                yield from _places(part, (*place, index))
        case _:
            yield place


def _changed_columns(document: dict[str, Any]) -> Iterator[tuple[tuple[object, ...], dict[str, Any]]]:
    """The document with another value in one column of one row, and where that is."""
    for row, proven in enumerate(document["rows"]):
        values = json.loads(proven["entry"])
        for column in range(len(values)):
            forged = copy.deepcopy(document)
            entry = json.dumps(_changed({"entry": values}, ("entry", column))["entry"], separators=(",", ":"))
            forged["rows"][row]["entry"] = entry
            yield ("rows", row, column), forged


def _changed(document: dict[str, Any], place: tuple[object, ...]) -> dict[str, Any]:
    """The document with another value at one place: another bit of a hash, another number, another text."""
    changed = copy.deepcopy(document)
    parent: Any = changed
    for name in place[:-1]:
        parent = parent[name]
    value = parent[place[-1]]
    match value:
        case None:
            parent[place[-1]] = "1"
        case int():
            parent[place[-1]] = value + 1
        case "":
            parent[place[-1]] = "00"
        case _:
            last = value[-1]
            parent[place[-1]] = value[:-1] + ("1" if last == "0" else "0")
    return changed
