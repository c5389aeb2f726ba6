"""The MAC of each outcome, by a key that the database has only sealed under the master key.

An outcome is sealed a minute after it was written. Until then somebody with the database could put another one in its
place, or one where there was none: a delivery that waits would look like one that was made. A row that they write has
no MAC that fits.

A MAC covers what a process says of an outcome, all but its tick, which a restore changes. The database adds when it was
written; seals cover that, and audits compare it with the times that a MAC covers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

import orjson

from eventstore.progress.rows import AttemptRow

KEY_BYTES = 32
_MAC_BYTES = 16


class OutcomeKey(NamedTuple):
    """What makes the MACs of a log, and the number of the first seal of which every outcome has one: those of a
    database that came from an older schema may have none before.
    """

    first_seal: int
    macs: OutcomeMacs


class OutcomeMacs:
    """Makes and checks the MACs of a log. The key belongs to the log, and stays when master keys are exchanged."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key for outcomes has {KEY_BYTES} bytes")
        self._keyed = hashlib.blake2b(key=key, digest_size=_MAC_BYTES)

    def of(self, row: AttemptRow) -> bytes:
        """The MAC of an outcome: 16 bytes of BLAKE2b. To begin with a copy takes a third less than with the key."""
        mac = self._keyed.copy()
        mac.update(_text(row))
        return mac.digest()

    def records(self, rows: Iterable[AttemptRow]) -> list[tuple[object, ...]]:
        """Outcomes as elements of a `hookledger.attempt[]`; what the database fills in is null there. To put the values
        of each row into another order than its own took twice as long.
        """
        return [(None, *row, None, None, None, self.of(row)) for row in rows]

    def is_right(self, row: AttemptRow, mac: bytes) -> bool:
        """True if that is the MAC of the outcome."""
        return hmac.compare_digest(self.of(row), mac)


def _text(row: AttemptRow) -> bytes:
    """A JSON array of the fields of a row in their order, without the tick, which is the second. The body, the last but
    one, is a text with a character for each byte.
    """
    body = row[-2]
    text = None if body is None else body.decode("latin-1")
    return orjson.dumps((row[0], *row[2:-2], text, row[-1]), default=str, option=orjson.OPT_UTC_Z)
