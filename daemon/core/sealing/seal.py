"""A seal: how many rows each table had got since the seal before, the roots of their trees, and the state of the rest.

hash = SHA-256(hash of the seal before ‖ canonical seal). The canonical seal has the fields of `SealContent` in their
order (canonical.py). The hashes of all seals are the entries of the tree whose root is signed.
Rows are grouped by the UTC day of their partition, so that what retention leaves of a seal can still be checked.

A seal of form 1 lacks the last fields: it was made by a version that did not seal who had deliveries sent again, nor
what was lost, nor tokens. Its hash is that of the fields that it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from daemon.core.sealing.canonical import encode, text_of


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SealedDay:
    """The rows of one table and one UTC day that a seal covers: their number, and the root of their tree."""

    day: date
    rows: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.day.isoformat()} {self.rows} {self.root.hex()}"


# Those of a table, None in a seal that does not cover it.
SealedDays = tuple[SealedDay, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContent:
    """What a seal says. `origin` names the log and its lineage.

    `snap` is the snapshot up to which attempts are covered, `tick` the tick up to which events and ticks are, with its
    own snapshot `tick_snap`. `route_pos` and `route_hash` are the end of the route log, `signatures` how many of its
    events up to there are signed. `keys` are the secrets that it names since the seal before. `checkpoints` are in the
    order of the shards. What was recorded before `events_kept_from` and `attempts_kept_from` retention had dropped.
    `public_key` is that of the signature. `resends`, `replays`, `replay_ends` and `losses` are what `snap` shows of
    manual retries, replays that began, replays that ended, by the days on which they began, what promoted standbys had
    lost, and API tokens that were made and revoked. They are None in a seal of form 1.
    """

    n: int
    at: datetime
    origin: str
    snap: str
    tick: int
    tick_snap: str
    route_pos: int
    route_hash: bytes
    events: tuple[SealedDay, ...]
    attempts: tuple[SealedDay, ...]
    ticks: int
    ticks_root: bytes
    keys: int
    keys_root: bytes
    signatures: int
    checkpoints: tuple[int, ...]
    events_kept_from: datetime | None
    attempts_kept_from: datetime | None
    public_key: bytes
    resends: SealedDays = None
    replays: SealedDays = None
    replay_ends: SealedDays = None
    losses: SealedDays = None
    tokens: SealedDays = None
    token_ends: SealedDays = None

    @property
    def form(self) -> int:
        """1 if none of the last fields is there, else 2."""
        return 1 if all(getattr(self, name) is None for name in _OF_FORM_2) else 2

    @property
    def rows(self) -> int:
        """How many events and attempts it covers."""
        return sum(day.rows for day in (*self.events, *self.attempts))

    def texts(self) -> dict[str, str | None]:
        """Each field as it is hashed."""
        return {name: _text(getattr(self, name)) for name in FORMS[self.form]}

    def hash(self, prev_hash: bytes) -> bytes:
        """The hash of the seal, given that of the one before, which is empty for the first."""
        return hash_of_texts(prev_hash, self.texts())


_OF_FORM_2 = ("resends", "replays", "replay_ends", "losses", "tokens", "token_ends")
_FIELDS = tuple(field.name for field in fields(SealContent))
# The fields of each form, in their order.
FORMS = {1: tuple(name for name in _FIELDS if name not in _OF_FORM_2), 2: _FIELDS}


def hash_of_texts(prev_hash: bytes, texts: Mapping[str, str | None]) -> bytes:
    """The hash of a seal whose fields are given as texts: those of a form. Raises KeyError if one is missing."""
    form = 1 if texts.keys().isdisjoint(_OF_FORM_2) else 2
    return hashlib.sha256(prev_hash + encode(("seal", *(texts[name] for name in FORMS[form])))).digest()


def _text(value: object) -> str | None:
    if isinstance(value, tuple):
        return ",".join(each.text if isinstance(each, SealedDay) else str(each) for each in value)
    return text_of(value)  # type: ignore[arg-type] # the other fields are values of a column


def days_of_text(text: str) -> Sequence[SealedDay]:
    """The inverse of the days of a table in `texts`. Raises ValueError."""
    return [_day_of_text(part) for part in text.split(",")] if text else []


def _day_of_text(text: str) -> SealedDay:
    day, rows, root = text.split(" ")
    return SealedDay(day=date.fromisoformat(day), rows=int(rows), root=bytes.fromhex(root))
