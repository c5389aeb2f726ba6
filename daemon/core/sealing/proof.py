"""The proof of one delivery: its event, its outcomes and its manual retries, each as a leaf with a path to a root in a
seal, and each seal with a path to a root that is signed. To check it takes the public key and nothing else.

    format      FORMAT
    delivery    its id; with tenant, event and route
    head        the signed head, a note (head.py)
    seals       by number: the fields of the seal as texts, the hash of the one before, the path in the tree of the head
    rows        the text that is hashed (canonical.py), seal, and index and path in the tree of that table and day
    unsealed    how many outcomes there were, when it was made, that no seal covers yet

Hashes are hex. `verify` trusts none of it: it computes every hash anew, and compares the rows with each other. What it
proves is that these rows were recorded by then, not that there are no others: that is what an audit tells. Nor does it
prove `unsealed`. A document that says anything more, or the same otherwise, is refused: somebody has changed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from typing_extensions import TypedDict

from daemon.core.delivery.answer import delivery_id
from daemon.core.events import raw_json
from daemon.core.events.event import instant
from daemon.core.sealing import seal as sealing
from daemon.core.sealing.canonical import MESSAGE, SealedTable, columns_of
from daemon.core.sealing.head import ForeignSignature, MalformedHead, PublicSealKey, SignedHead, TreeHead, parse_head
from daemon.core.sealing.tree import is_included, leaf_hash

FORMAT = "hookledger-delivery-proof-1"

_DIGEST = re.compile(r"[0-9a-f]{64}")

Texts = Mapping[str, str | None]


class ProvenRow(TypedDict):
    """A row with its place in the tree of its table and day. `entry` is what is hashed, a JSON array."""

    entry: str
    seal: int
    index: int
    path: list[str]


class ProvenSeal(TypedDict):
    """A seal with its place in the tree of seals, which is its number less one."""

    n: int
    fields: dict[str, str | None]
    prev_hash: str
    path: list[str]


class DeliveryProof(TypedDict):
    """The document; see the head of this module."""

    format: str
    delivery: str
    tenant: str
    event: str
    route: str
    head: str
    seals: list[ProvenSeal]
    rows: list[ProvenRow]
    unsealed: int


class ProofRefused(ValueError):
    """A document that is no proof, or proves something else. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenAttempt:
    """An outcome that was proven, and when it was sealed."""

    number: int
    outcome: str
    started_at: datetime
    status_code: int | None
    error: str | None
    sealed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenResend:
    """A manual retry that was proven: who asked for it when, why if they said so, and when that was sealed."""

    at: datetime
    actor: str
    reason: str | None
    sealed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenDelivery:
    """What a proof proves. `event_time` is the moment at which routes were judged, `message` which message of a source
    the event was, as `source/topic/partition/offset`, None if it was none. `sealed_at` is when the last of the event
    and the outcomes was sealed.
    """

    delivery: str
    tenant: str
    event: str
    event_type: str
    event_time: datetime
    message: str | None
    route: str
    sealed_at: datetime
    attempts: tuple[ProvenAttempt, ...]
    resends: tuple[ProvenResend, ...]
    unsealed: int
    head: TreeHead
    key: PublicSealKey


def parse(raw: bytes) -> object:
    """The document in JSON, in which no member is there twice: another reader might take the other one. Raises
    ProofRefused.
    """
    try:
        orjson.loads(raw)  # stricter than the other one
        return json.loads(raw, object_pairs_hook=_members)
    except orjson.JSONDecodeError as error:
        raise ProofRefused(f"it is no JSON: {raw_json.reason(raw, error)}; was it cut off?") from error
    except RecursionError as error:
        raise ProofRefused("it is no proof: its JSON is too deep") from error


def verify(document: object, keys: Sequence[PublicSealKey]) -> ProvenDelivery:
    """What the document proves, if one of `keys` has signed its head. Raises ProofRefused."""
    try:
        proof = _checked(document)
        signed, key = _signed(proof, keys)
        seals = _seals(proof, signed.head)
        return _delivery(proof, signed.head, key, _rows(proof, seals))
    except ProofRefused:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ProofRefused(f"this is no proof of a delivery: {type(error).__name__} at {str(error)[:100]}") from error


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ProofRefused(f"{doubled[:100]!r} is there twice: somebody has changed it")
    return members


def _checked(document: object) -> DeliveryProof:
    """The document, in which everything has the type and the form in which we write it."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ProofRefused(f"this is no proof of a delivery: its format is not {FORMAT}")
    _require_members("a proof", document, DeliveryProof.__annotations__)
    _require("a text", str, *(document[name] for name in ("delivery", "tenant", "event", "route", "head")))
    _require("a list", list, document["seals"], document["rows"])
    _require_number(document["unsealed"])
    for seal in document["seals"]:
        _require_members("a seal", seal, ProvenSeal.__annotations__)
        _require_number(seal["n"])
        _require("the fields of a seal", dict, seal["fields"])
        _require("a text", str, *(text for text in seal["fields"].values() if text is not None), seal["prev_hash"])
        _require_path(seal["path"])
    for row in document["rows"]:
        _require_members("a row", row, ProvenRow.__annotations__)
        _require("a text", str, row["entry"])
        _require_number(row["seal"])
        _require_number(row["index"])
        _require_path(row["path"])
    proof: DeliveryProof = document  # type: ignore[assignment] # that is what was checked
    return proof


def _require_members(what: str, value: object, names: Collection[str]) -> None:
    if not isinstance(value, dict) or set(value) != set(names):
        raise ProofRefused(f"this is no proof of a delivery: {what} has the members {', '.join(names)} and no others")


def _require(what: str, kind: type, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise ProofRefused(f"this is no proof of a delivery: {str(value)[:40]!r} is not {what}")


def _require_number(value: object) -> None:
    if type(value) is not int or not 0 <= value < 1 << 63:  # a bool is an int
        raise ProofRefused(f"this is no proof of a delivery: {str(value)[:40]!r} is no number of seals or rows")


def _require_path(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in value):
        raise ProofRefused("this is no proof of a delivery: a path is a list of hashes in 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class _Seal:
    at: datetime
    days: dict[tuple[SealedTable, str], sealing.SealedDay]


@dataclass(frozen=True, slots=True)
class _Row:
    columns: Mapping[str, Any]
    recorded_at: datetime
    sealed_at: datetime


def _signed(proof: DeliveryProof, keys: Sequence[PublicSealKey]) -> tuple[SignedHead, PublicSealKey]:
    try:
        signed = parse_head(proof["head"])
        return signed, signed.signer(list(keys))
    except (MalformedHead, ForeignSignature) as error:
        raise ProofRefused(str(error)) from error


def _seals(proof: DeliveryProof, head: TreeHead) -> dict[int, _Seal]:
    found: dict[int, _Seal] = {}
    for each in proof["seals"]:
        number, fields = each["n"], each["fields"]
        if fields.get("n") != str(number) or set(fields) not in map(set, sealing.FORMS.values()):
            raise ProofRefused(f"seal {number} has other fields than a seal")
        if number in found:
            raise ProofRefused(f"seal {number} is there twice")
        if each["prev_hash"] and not _DIGEST.fullmatch(each["prev_hash"]):
            raise ProofRefused(f"what seal {number} continues is no hash in 64 lower-case hex digits")
        entry = sealing.hash_of_texts(_digest(each["prev_hash"]), fields)
        if not is_included(leaf_hash(entry), number - 1, head.size, _path(each["path"]), head.root):
            raise ProofRefused(f"seal {number} is not in the tree of the signed head: it, or its path, was changed")
        found[number] = _Seal(_moment(fields["at"]), _days(fields))
    return found


def _days(fields: Texts) -> dict[tuple[SealedTable, str], sealing.SealedDay]:
    days = {}
    names = {SealedTable.EVENT: "events", SealedTable.ATTEMPT: "attempts", SealedTable.RESEND: "resends"}
    for table, name in names.items():
        for day in sealing.days_of_text(fields.get(name) or ""):
            days[table, day.day.isoformat()] = day
    return days


def _rows(proof: DeliveryProof, seals: Mapping[int, _Seal]) -> dict[SealedTable, list[_Row]]:
    """The event, the outcomes and the manual retries, each of which is in its seal."""
    found: dict[SealedTable, list[_Row]] = {SealedTable.EVENT: [], SealedTable.ATTEMPT: [], SealedTable.RESEND: []}
    places: set[tuple[object, ...]] = set()
    for each in proof["rows"]:
        entry, seal = each["entry"], seals.get(each["seal"])
        name, *values = orjson.loads(entry)
        table = SealedTable(name)
        columns = dict(zip(columns_of(table, len(values)), values, strict=True))
        if seal is None or table not in found:
            raise ProofRefused(f"a row of {table} does not belong into a proof, or its seal is missing")
        recorded_at = instant(columns["recorded_at" if table is SealedTable.EVENT else "at"])
        day = seal.days.get((table, recorded_at.date().isoformat()))
        leaf = leaf_hash(entry.encode())
        if day is None or not is_included(leaf, each["index"], day.rows, _path(each["path"]), day.root):
            raise ProofRefused(f"a row of {table} is not in seal {each['seal']}: it, or its path, was changed")
        place = (table, each["seal"], day.day, each["index"])
        if place in places:
            raise ProofRefused(f"a row of {table} is there twice: row {each['index']} of seal {each['seal']}")
        places.add(place)
        found[table].append(_Row(columns, recorded_at, seal.at))
    if len(found[SealedTable.EVENT]) != 1:
        raise ProofRefused("a proof has one event")
    if unused := set(seals) - {each["seal"] for each in proof["rows"]}:
        raise ProofRefused(f"no row of it is in seal {min(unused)}")
    found[SealedTable.ATTEMPT].sort(key=lambda row: (row.recorded_at, row.columns["number"]))
    found[SealedTable.RESEND].sort(key=lambda row: (row.recorded_at, row.columns["id"]))
    return found


def _delivery(
    proof: DeliveryProof, head: TreeHead, key: PublicSealKey, rows: Mapping[SealedTable, Sequence[_Row]]
) -> ProvenDelivery:
    (event,), attempts, resends = rows[SealedTable.EVENT], rows[SealedTable.ATTEMPT], rows[SealedTable.RESEND]
    columns = event.columns
    moments = [instant(text) for name in ("occurred_at", "recorded_at", "closed_upto") if (text := columns[name])]
    event_time = min(moments)
    claimed = (proof["tenant"], proof["event"])
    if claimed != (columns["tenant"], columns["id"]):
        raise ProofRefused("the proof names another event than the one that it proves")
    if proof["route"] != str(UUID(proof["route"])) or proof["delivery"] != delivery_id(
        UUID(proof["route"]), proof["event"], event_time
    ):
        raise ProofRefused("the id of the delivery is not that of this event and this route")
    same = {"seq": columns["seq"], "tenant": columns["tenant"], "event_id": columns["id"], "route_id": proof["route"]}
    for attempt in attempts:
        if any(attempt.columns[name] != value for name, value in same.items()):
            raise ProofRefused("an outcome in the proof is of another event or another route")
    for resend in resends:
        if any(resend.columns[name] != same[name] for name in ("seq", "route_id")):
            raise ProofRefused("a manual retry in the proof is of another event or another route")
    return ProvenDelivery(
        delivery=proof["delivery"],
        tenant=proof["tenant"],
        event=proof["event"],
        event_type=str(columns["type"]),
        event_time=event_time,
        message=columns.get(MESSAGE),
        route=proof["route"],
        sealed_at=max(row.sealed_at for row in (event, *attempts)),
        attempts=tuple(_attempt(row) for row in attempts),
        resends=tuple(_resend(row) for row in resends),
        unsealed=proof["unsealed"],
        head=head,
        key=key,
    )


def _attempt(row: _Row) -> ProvenAttempt:
    columns = row.columns
    status_code = columns["status_code"]
    return ProvenAttempt(
        number=int(columns["number"] or 0),
        outcome=str(columns["outcome"]),
        started_at=instant(columns["started_at"]),
        status_code=None if status_code is None else int(status_code),
        error=columns["error"],
        sealed_at=row.sealed_at,
    )


def _resend(row: _Row) -> ProvenResend:
    reason = row.columns["reason"]
    return ProvenResend(
        at=row.recorded_at,
        actor=str(row.columns["actor"]),
        reason=None if reason is None else str(reason),
        sealed_at=row.sealed_at,
    )


def _moment(microseconds: str | None) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds or ""))


def _digest(text: str) -> bytes:
    return bytes.fromhex(text)


def _path(path: Sequence[str]) -> list[bytes]:
    return [_digest(each) for each in path]
