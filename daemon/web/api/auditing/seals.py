"""Seals for everybody, and the proof of one delivery for its tenant: what there is to check without our database."""

from __future__ import annotations

import base64
from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem
from daemon.core.sealing.head import PublicSealKey, log_name
from daemon.core.sealing.proof import DeliveryProof
from daemon.core.sealing.seal import SealedDays
from daemon.sealing import proofs
from daemon.sealing.rows import content_of
from daemon.web.access.queries import query_database
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Moment, moment
from daemon.web.service.auditing.delivery_proofs import making, proof_of
from daemon.web.service.lookup import EVENT_HINT
from eventstore.seals import stored, turns
from eventstore.seals.stored import SealRow

_AFTER_ALL = 2**63 - 1
_NUMBER_DIGITS = 19

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["9f86d081884c7d65" * 4])]
Count = Annotated[int, Field(ge=0, examples=[120])]
SealNumber = Annotated[int, Field(ge=1, examples=[42])]
Head = Annotated[
    str,
    Field(
        description="A signed note with a checkpoint in it (C2SP): origin, number of seals, root, signature.",
        examples=["hookledger/5b0f/7712\n42\nn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n\n— hookledger/5b0f Zm9v\n"],
    ),
]


class SealShape(TypedDict):
    """A seal. `events`, `attempts`, manual `retries`, beginnings and ends of `replays`, `tokens` made and revoked, and
    `losses` of a promoted standby are how many it covers that the seal before did not: a replay that began and ended
    since counts twice. `hash` continues the chain. `retries`, `replays`, `tokens` and `losses` are null in a seal of an
    older version, which does not cover them.
    """

    n: SealNumber
    at: Moment
    tick: Count
    route_pos: Count
    events: Count
    attempts: Count
    retries: Count | None
    replays: Count | None
    tokens: Count | None
    losses: Count | None
    hash: Hash


class SealDetailShape(TypedDict):
    """A seal with all that its hash covers, as texts, and the head that was signed with it."""

    n: SealNumber
    at: Moment
    fields: Annotated[dict[str, str | None], Field(examples=[{"n": "42", "tick": "1042"}])]
    prev_hash: Annotated[str, Field(pattern="^([0-9a-f]{64})?$", examples=["9f86d081884c7d65" * 4])]
    hash: Hash
    head: Head


class SealKeyShape(TypedDict):
    """The public key of seals. `key` is what `hookledger verify --key` takes, and tools for signed notes: name, id and
    key. `public_key` is the Ed25519 key alone, in base64. `former` are keys that earlier seals were signed with.
    """

    key: Annotated[str, Field(examples=["hookledger/5b0f+0b1c2d3e+AQ=="])]
    algorithm: Annotated[str, Field(examples=["Ed25519"])]
    public_key: Annotated[str, Field(examples=["n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="])]
    origin: Annotated[str, Field(examples=["hookledger/5b0f/7712"])]
    former: list[str]


HeadPathShape = TypedDict(
    "HeadPathShape",
    {
        "from": SealNumber,
        "to": SealNumber,
        "from_head": Head,
        "to_head": Head,
        "path": list[Hash],
    },
)


@endpoint(Access.CATALOGUE, *paging.QUERY, answers={200: paging.Page[SealShape]})
async def list_seals(request: web.Request) -> web.Response:
    """The seals, newest first."""
    cursor = paging.cursor(request)
    before = _AFTER_ALL if cursor is None else _number(cursor)
    if before is None:
        raise paging.unknown_cursor()
    rows = await stored.older(query_database(request), before, limit=paging.limit(request) + 1)
    items, after = paging.first(request, rows, key=lambda row: str(row.n))
    page: paging.Page[SealShape] = {"items": [_of_row(row) for row in items], "next": after}
    return shapes.answer(page)


@endpoint(Access.CATALOGUE, answers={200: SealDetailShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """A seal, with all that its hash covers, and its signed head."""
    row = await _seal(request, request.match_info["seal"])
    async with making(request):
        head = await proofs.head(query_database(request), row)
    body: SealDetailShape = {
        "n": row.n,
        "at": moment(row.at),
        "fields": content_of(row).texts(),
        "prev_hash": row.prev_hash.hex(),
        "hash": row.hash.hex(),
        "head": head.note,
    }
    return shapes.answer(body)


@endpoint(
    Access.CATALOGUE,
    Query(
        name="from",
        description="the number of an older seal, whose head you have",
        schema={"type": "integer", "minimum": 1},
        is_required=True,
    ),
    answers={200: HeadPathShape},
    refuses=(404,),
)
async def consistency(request: web.Request) -> web.Response:
    """The proof that the seals up to this one continue those up to an older one (RFC 9162, 2.1.4)."""
    newer = await _seal(request, request.match_info["seal"])
    if "from" not in request.query:
        raise Invalid((FieldProblem(field="from", message="is missing: name the older seal"),))
    older = await _seal(request, request.query["from"])
    if older.n > newer.n:
        raise Invalid((FieldProblem(field="from", message=f"must not be newer than seal {newer.n}"),))
    async with making(request):
        found = await proofs.consistency(query_database(request), older, newer)
    body: HeadPathShape = {
        "from": older.n,
        "to": newer.n,
        "from_head": found.older.note,
        "to_head": found.newer.note,
        "path": [each.hex() for each in found.path],
    }
    return shapes.answer(body)


@endpoint(Access.ANYBODY, answers={200: SealKeyShape})
async def key(request: web.Request) -> web.Response:
    """The public key by which seals, heads and proofs are checked. Keep it where our database is not."""
    services = request.app[SERVICES]
    origin = await turns.origin(query_database(request))
    public = PublicSealKey(name=log_name(origin), key=services.keychain.seal_keys[0].public)
    older = [PublicSealKey(name=public.name, key=each.public) for each in services.keychain.seal_keys[1:]]
    body: SealKeyShape = {
        "key": public.text,
        "algorithm": "Ed25519",
        "public_key": base64.b64encode(public.key).decode(),
        "origin": origin,
        "former": [*(each.text for each in older), *services.config.seal.former_keys],
    }
    return shapes.answer(body)


@endpoint(Access.READ, EVENT_HINT, answers={200: DeliveryProof}, refuses=(404, 409, 429))
async def proof(request: web.Request) -> web.Response:
    """The proof of a delivery: its event, its outcomes and who had it sent again by hand, each with its path to a
    signed head. Check it offline with `hookledger verify`. 409 if its event is not sealed yet.
    """
    return shapes.answer(await proof_of(request))


async def _seal(request: web.Request, text: str) -> SealRow:
    """The seal with that number. Raises NotFound."""
    number = _number(text)
    rows = {} if number is None else await stored.of_numbers(query_database(request), [number])
    if number not in rows:
        raise NotFound("there is no such seal")
    return rows[number]


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS
    return int(text) if is_number and int(text) <= _AFTER_ALL else None


def _of_row(row: SealRow) -> SealShape:
    content = content_of(row)
    return {
        "n": row.n,
        "at": moment(row.at),
        "tick": row.tick,
        "route_pos": row.route_pos,
        "events": sum(row.event_rows),
        "attempts": sum(row.attempt_rows),
        "retries": _rows_of(content.resends),
        "replays": _rows_of(content.replays, content.replay_ends),
        "tokens": _rows_of(content.tokens, content.token_ends),
        "losses": _rows_of(content.losses),
        "hash": row.hash.hex(),
    }


def _rows_of(*parts: SealedDays) -> int | None:
    return None if None in parts else sum(day.rows for days in parts for day in days or ())
