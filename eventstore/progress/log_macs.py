"""The MACs of outcomes, manual retries and replays, by a key that the database has only sealed under the master key.

An outcome is sealed a minute after it was written. Until then somebody with the database could put another one in its
place, or one where there was none: a delivery that waits would look like one that was made. Or they could say that
somebody had a delivery sent again. A row that they write has no MAC that fits.

The MAC of an outcome covers what a process says of it, all but the tick, which a restore changes. The database adds
when it was written; seals cover that, and audits compare it with the times that a MAC covers. The MAC of a manual retry
or a replay covers its id, its time, and what was asked for by whom.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import orjson

from eventstore.progress.rows import AttemptRow

KEY_BYTES = 32
_MAC_BYTES = 16


class RequestTable(StrEnum):
    """The tables of what people ask for."""

    RESEND = "resend"
    REPLAY = "replay"


# What the MAC of a row covers, in this order: what never changes.
COVERED: Mapping[RequestTable, tuple[str, ...]] = MappingProxyType(
    {
        RequestTable.RESEND: (
            "id", "at", "route_id", "seq", "actor", "origin", "reason", "request_id", "causation_id",
        ),
        RequestTable.REPLAY: (
            "id", "created_at", "route_id", "tenant", "wanted", "since", "until", "sendable_from", "actor", "origin",
            "reason", "request_id", "causation_id", "total",
        ),
    }
)  # fmt: skip


class LogKey(NamedTuple):
    """What makes the MACs of a log, and the number of the first seal of which every row has one: those of a database
    that came from an older schema may have none before.
    """

    first_seal: int
    macs: LogMacs


class LogMacs:
    """Makes the MACs of a log: 16 bytes of keyed BLAKE2b. The key belongs to the log, and stays when master keys are
    exchanged.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key for MACs has {KEY_BYTES} bytes")
        self._keyed = hashlib.blake2b(key=key, digest_size=_MAC_BYTES)

    def of_outcome(self, row: AttemptRow) -> bytes:
        """The MAC of an outcome. It is made of a JSON array of the fields in their order, without the tick, which is
        the second. The body, the last but one, is a text with a character for each byte.
        """
        body = row[-2]
        text = None if body is None else body.decode("latin-1")
        return self._of((row[0], *row[2:-2], text, row[-1]))

    def of_request(self, table: RequestTable, values: Sequence[object]) -> bytes:
        """The MAC of a manual retry or a replay, of the values of its COVERED columns."""
        return self._of((table.value, *values))

    def records(self, rows: Iterable[AttemptRow]) -> list[tuple[object, ...]]:
        """Outcomes as elements of a `hookledger.attempt[]`; what the database fills in is null there. To put the values
        of each row into another order than its own took twice as long.
        """
        return [(None, *row, None, None, None, self.of_outcome(row)) for row in rows]

    def _of(self, values: tuple[object, ...]) -> bytes:
        # To begin with a copy takes a third less than with the key.
        mac = self._keyed.copy()
        mac.update(orjson.dumps(values, default=str, option=orjson.OPT_UTC_Z))
        return mac.digest()


def is_right(mac: bytes, made: bytes) -> bool:
    """True if a row has the MAC that was made of it."""
    return hmac.compare_digest(mac, made)
