"""A proof of a delivery that is anything else than what was made is refused, in a sentence, and quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from daemon.core.sealing import proof, tree
from daemon.core.sealing.canonical import SealedTable, leaf, row_entry
from daemon.core.sealing.head import PublicSealKey, SealKey, SignedHead, TreeHead
from daemon.core.sealing.proof import FORMAT, ProofRefused
from daemon.core.sealing.seal import SealContent, SealedDay
from daemon.core.sealing.tree import inclusion_path, leaf_hash

KEY = SealKey(b"k" * 32)
PUBLIC = PublicSealKey(name="hookledger/log", key=KEY.public)
ORIGIN = "hookledger/log/1"
ROUTE = UUID("7d0e7d1c-3a0b-4f5e-9b8e-2d1a5c6b7e8f")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = date(2026, 11, 23)
DELIVERY = delivery_id(ROUTE, "evt_1", NOON)


def _event(seq: int) -> tuple[Any, ...]:
    return (seq, NOON, "acme", f"evt_{seq}", "order.create", None, "d" * 64, None, None, False, None, None, 1, NOON)


def _attempt(seq: int, number: int) -> tuple[Any, ...]:
    at = NOON.replace(second=number)
    outcome = ("retrying", 500, "http_500") if number == 1 else ("delivered", 204, None)
    return (
        *(seq, str(ROUTE), number, at, 1, NOON, at, 3, outcome[1], 5, 1, False, outcome[0], outcome[2], "acme"),
        *(f"evt_{seq}", "order.create", "key_1", None, None, 7),
    )


def _resend(id: int, seq: int) -> tuple[Any, ...]:
    return (id, NOON.replace(minute=id), str(ROUTE), seq, "anna", "api", "they asked for it", None, None)


RESENDS = [_resend(number, seq) for number, seq in enumerate((3, 1, 1, 2), 1)]


def _seal(number: int, events: list[bytes], attempts: list[bytes]) -> SealContent:
    """The first one is of form 1, made by an older version, the others are of form 2."""
    names = ("resends", "replays", "replay_ends", "losses", "tokens", "token_ends")
    later: dict[str, tuple[SealedDay, ...]] = {} if number == 1 else dict.fromkeys(names, ())
    if later:
        resends = [leaf(SealedTable.RESEND, row) for row in RESENDS]
        later["resends"] = (SealedDay(day=DAY, rows=len(resends), root=tree.root_of(resends)),)
    return SealContent(
        n=number, at=NOON, origin=ORIGIN, snap="1:9:", tick=1, tick_snap="1:5:", route_pos=1, route_hash=b"r" * 32,
        events=(SealedDay(day=DAY, rows=len(events), root=tree.root_of(events)),),
        attempts=(SealedDay(day=DAY, rows=len(attempts), root=tree.root_of(attempts)),),
        ticks=1, ticks_root=b"t" * 32, keys=0, keys_root=tree.EMPTY_ROOT, signatures=1, checkpoints=(1,) * 16,
        events_kept_from=None, attempts_kept_from=None, public_key=KEY.public, **later,
    )  # fmt: skip


def _document() -> dict[str, Any]:
    """The proof of a delivery with two outcomes, made of two of three seals."""
    event_rows = [_event(seq) for seq in range(5)]
    attempt_rows = [_attempt(seq, number) for seq in range(3) for number in (1, 2)]
    events = [leaf(SealedTable.EVENT, row) for row in event_rows]
    attempts = [leaf(SealedTable.ATTEMPT, row) for row in attempt_rows]
    prev, hashes, seals = b"", [], []
    for content in (_seal(1, events, attempts), _seal(2, events, attempts), _seal(3, events, attempts)):
        seals.append((content, prev))
        hashes.append(prev := content.hash(prev))
    leaves = [leaf_hash(each) for each in hashes]
    head = TreeHead(origin=ORIGIN, size=3, root=tree.root_of(leaves))
    resends = [leaf(SealedTable.RESEND, row) for row in RESENDS]
    rows = [
        (SealedTable.RESEND, 2, RESENDS, resends),
        (SealedTable.EVENT, 1, event_rows, events),
        *[(SealedTable.ATTEMPT, n, attempt_rows, attempts) for n in (2, 3)],
    ]
    return {
        "format": FORMAT,
        "delivery": DELIVERY,
        "tenant": "acme",
        "event": "evt_1",
        "route": str(ROUTE),
        "head": SignedHead(head=head, signatures=((PUBLIC.name, PUBLIC.id, KEY.sign(head.text)),)).note,
        "seals": [
            {
                "n": content.n,
                "fields": content.texts(),
                "prev_hash": prev.hex(),
                "path": [each.hex() for each in inclusion_path(leaves, content.n - 1)],
            }
            for content, prev in seals[:2]
        ],
        "rows": [
            {
                "entry": row_entry(table, all_rows[index]).decode(),
                "seal": seal,
                "index": index,
                "path": [each.hex() for each in inclusion_path(hashed, index)],
            }
            for (table, _, all_rows, hashed), seal, index in zip((rows[1], rows[2], rows[2], rows[0], rows[0]), (1, 2, 2, 2, 2), (1, 2, 3, 1, 2), strict=True)
        ],
        "unsealed": 0,
    }  # fmt: skip


def verified(document: object) -> proof.ProvenDelivery:
    return proof.verify(proof.parse(json.dumps(document).encode()), [PUBLIC])


def test_the_proof_as_it_was_made_holds() -> None:
    proven = verified(_document())
    assert (proven.delivery, [each.outcome for each in proven.attempts]) == (DELIVERY, ["retrying", "delivered"])
    assert [(each.at.minute, each.actor, each.reason) for each in proven.resends] == [
        (2, "anna", "they asked for it"),
        (3, "anna", "they asked for it"),
    ]


def _with_resend(index: int) -> dict[str, Any]:
    """The document with another manual retry that is in the seal as well."""
    document, resends = _document(), [leaf(SealedTable.RESEND, row) for row in RESENDS]
    path = [each.hex() for each in inclusion_path(resends, index)]
    row = {"entry": row_entry(SealedTable.RESEND, RESENDS[index]).decode(), "seal": 2, "index": index, "path": path}
    return document | {"rows": [*document["rows"], row]}


@pytest.mark.parametrize("index", [0, 3])
def test_a_manual_retry_of_another_delivery_is_refused(index: int) -> None:
    with pytest.raises(ProofRefused, match="a manual retry in the proof is of another event or another route"):
        verified(_with_resend(index))


def _changed(path: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """The document with one part, given as a path, changed."""
    document = _document()
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    holder: Any = document
    for step in way:
        holder = holder[step]
    holder[last] = change(holder[last])
    return document


NUMBERS = ("seals.0.n", "rows.0.seal", "rows.0.index", "unsealed")
OTHER_TYPES: tuple[Callable[[Any], Any], ...] = (
    float, bool, str, lambda _: None, lambda value: [value], lambda value: {"n": value}, lambda value: -value - 1,
    lambda _: 10**30, lambda _: 1.5, lambda _: "９",
)  # fmt: skip
TEXTS = (
    "format",
    "delivery",
    "tenant",
    "event",
    "route",
    "head",
    "rows.0.entry",
    "rows.0.path.0",
    "seals.1.prev_hash",
    "seals.0.path.0",
)
OTHER_TEXTS: tuple[Callable[[Any], Any], ...] = (
    str.upper, lambda text: text + " ", lambda text: " " + text, lambda text: text + "\u0000", lambda text: "\ufeff" + text,
    lambda text: text[:-1], lambda text: text.replace("e", "ｅ", 1).replace("0", "０", 1), lambda text: text + "\n",
    lambda _: None, lambda _: 1, lambda text: [text], lambda text: text + text, lambda text: "{" + text + "}", lambda _: "",
)  # fmt: skip


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_that_is_another_or_none_is_refused(path: str) -> None:
    for change in OTHER_TYPES:
        document = _changed(path, change)
        if document != _document() or json.dumps(document) != json.dumps(_document()):
            with pytest.raises(ProofRefused):
                verified(document)


@pytest.mark.parametrize("path", TEXTS)
def test_a_text_that_is_another_or_none_is_refused(path: str) -> None:
    for change in OTHER_TEXTS:
        document = _changed(path, change)
        if document != _document():
            with pytest.raises(ProofRefused):
                verified(document)


DOCUMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a member more": lambda it: it | {"note": "checked"},
    "a member of a seal more": lambda it: it | {"seals": [it["seals"][0] | {"ok": True}, it["seals"][1]]},
    "a member of a row more": lambda it: it | {"rows": [it["rows"][0] | {"type": "x"}, *it["rows"][1:]]},
    "an outcome twice": lambda it: it | {"rows": [*it["rows"], it["rows"][1]]},
    "an event twice": lambda it: it | {"rows": [*it["rows"], it["rows"][0]]},
    "no event": lambda it: it | {"rows": it["rows"][1:]},
    "a seal twice": lambda it: it | {"seals": [*it["seals"], it["seals"][1]]},
    "a seal that no row is in": lambda it: it | {"rows": it["rows"][:1]},
    "a seal of form 2 as one of form 1": lambda it: it | {"seals": [it["seals"][0], it["seals"][1] | {
        "fields": {name: text for name, text in it["seals"][1]["fields"].items() if name in it["seals"][0]["fields"]}}]},
    "a seal of form 1 as one of form 2": lambda it: it | {"seals": [it["seals"][0] | {
        "fields": {name: it["seals"][0]["fields"].get(name, "") for name in it["seals"][1]["fields"]}}, it["seals"][1]]},
    "a seal of no form": lambda it: it | {"seals": [it["seals"][0], it["seals"][1] | {
        "fields": {name: text for name, text in it["seals"][1]["fields"].items() if name != "losses"}}]},
    "no seals": lambda it: it | {"seals": []},
    "a seal of the size": lambda it: it | {"seals": [it["seals"][0] | {"n": 4}, it["seals"][1]]},
    "rows as an object": lambda it: it | {"rows": dict(enumerate(it["rows"]))},
    "paths that are long": lambda it: it | {"rows": [row | {"path": row["path"] * 1000} for row in it["rows"]]},
    "a path of one text": lambda it: it | {"rows": [row | {"path": "".join(row["path"])} for row in it["rows"]]},
    "a path with longer hashes": lambda it: it | {"rows": [row | {"path": [each + each for each in row["path"]]} for row in it["rows"]]},
    "deep nesting": lambda it: it | {"rows": json.loads("[" * 200 + "]" * 200)},
    "a list": lambda it: [it],
    "a text": json.dumps,
    "null": lambda _: None,
    "another delivery": lambda it: it | {"delivery": delivery_id(ROUTE, "evt_2", NOON)},
    "another tenant": lambda it: it | {"tenant": "globex"},
}  # fmt: skip


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_that_is_another_is_refused(kind: str) -> None:
    with pytest.raises(ProofRefused) as refused:
        verified(DOCUMENTS[kind](_document()))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "key", ["delivery", "rows", "seals", "n", "fields", "entry", "path", "checkpoints", "unsealed"]
)
def test_a_member_that_is_there_twice_is_refused(key: str) -> None:
    text = json.dumps(_document())
    doubled = text.replace(f'"{key}":', f'"{key}": "another", "{key}":', 1)
    assert json.loads(doubled) == json.loads(text) != doubled
    with pytest.raises(ProofRefused, match=f"'{key}' is there twice"):
        proof.parse(doubled.encode())


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"1" * 100_000, b"NaN", b'{"a": 1} x'])  # fmt: skip
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ProofRefused):
        proof.verify(proof.parse(raw), [PUBLIC])


def test_a_proof_that_is_cut_off_anywhere_is_refused() -> None:
    raw = json.dumps(_document()).encode()
    for end in range(0, len(raw), 7):
        with pytest.raises(ProofRefused):
            proof.verify(proof.parse(raw[:end]), [PUBLIC])


def test_a_proof_with_any_bit_changed_is_refused_or_says_the_same() -> None:
    """Only blanks, what JSON writes in two ways, and the number that is not proven do not count."""
    raw, proven = json.dumps(_document()).encode(), verified(_document())
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 7
        try:
            found = proof.verify(proof.parse(bytes(changed)), [PUBLIC])
        except ProofRefused:
            continue
        assert replace(found, unsealed=0) == proven
        assert json.loads(bytes(changed)) | {"unsealed": 0} == json.loads(raw), place


@pytest.mark.parametrize("count", [1000, 100_000])
def test_many_signatures_of_a_head_are_not_all_tried(count: int) -> None:
    document = _document()
    text, signature = document["head"].split("\n\n")
    forged = SignedHead(
        head=TreeHead(origin=ORIGIN, size=3, root=bytes(32)), signatures=((PUBLIC.name, PUBLIC.id, bytes(64)),)
    )
    document["head"] = text + "\n\n" + forged.note.split("\n\n")[1] * count + signature
    begin = time.process_time()
    with pytest.raises(ProofRefused, match="signatures"):
        verified(document)
    assert time.process_time() - begin < 2


def test_outcomes_are_told_in_the_order_in_which_they_were_recorded() -> None:
    document = deepcopy(_document())
    document["rows"].reverse()
    assert verified(document) == verified(_document())
