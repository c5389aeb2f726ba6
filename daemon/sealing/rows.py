"""Turns a row of the table of seals into the seal that it says, and back; and into the head that was signed for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from daemon.core.sealing.head import PublicSealKey, SignedHead, TreeHead, log_name
from daemon.core.sealing.seal import SealContent, SealedDay, SealedDays, days_of_text
from eventstore.seals.stored import SealRow

_NO_DAY = SealedDay(day=date.min, rows=-1, root=b"")


def content_of(row: SealRow) -> SealContent:
    """What a stored seal says."""
    return SealContent(
        n=row.n,
        at=row.at,
        origin=row.origin,
        snap=row.snap,
        tick=row.tick,
        tick_snap=row.tick_snap,
        route_pos=row.route_pos,
        route_hash=row.route_hash,
        events=_days(row.event_days, row.event_rows, row.event_roots),
        attempts=_days(row.attempt_days, row.attempt_rows, row.attempt_roots),
        ticks=row.ticks,
        ticks_root=row.ticks_root,
        keys=row.keys,
        keys_root=row.keys_root,
        signatures=row.signatures,
        checkpoints=tuple(row.checkpoints),
        events_kept_from=row.events_kept_from,
        attempts_kept_from=row.attempts_kept_from,
        public_key=row.public_key,
        resends=_days_of_text(row.resends),
        replays=_days_of_text(row.replays),
        replay_ends=_days_of_text(row.replay_ends),
        losses=_days_of_text(row.losses),
        tokens=_days_of_text(row.tokens),
        token_ends=_days_of_text(row.token_ends),
    )


def row_of(content: SealContent, *, prev_hash: bytes, signature: bytes) -> SealRow:
    """The row to store of a seal."""
    texts = content.texts()
    return SealRow(
        n=content.n,
        at=content.at,
        origin=content.origin,
        snap=content.snap,
        tick=content.tick,
        tick_snap=content.tick_snap,
        route_pos=content.route_pos,
        route_hash=content.route_hash,
        event_days=[day.day for day in content.events],
        event_rows=[day.rows for day in content.events],
        event_roots=[day.root for day in content.events],
        attempt_days=[day.day for day in content.attempts],
        attempt_rows=[day.rows for day in content.attempts],
        attempt_roots=[day.root for day in content.attempts],
        ticks=content.ticks,
        ticks_root=content.ticks_root,
        keys=content.keys,
        keys_root=content.keys_root,
        signatures=content.signatures,
        checkpoints=list(content.checkpoints),
        events_kept_from=content.events_kept_from,
        attempts_kept_from=content.attempts_kept_from,
        public_key=content.public_key,
        prev_hash=prev_hash,
        hash=content.hash(prev_hash),
        signature=signature,
        resends=texts.get("resends"),
        replays=texts.get("replays"),
        replay_ends=texts.get("replay_ends"),
        losses=texts.get("losses"),
        tokens=texts.get("tokens"),
        token_ends=texts.get("token_ends"),
    )


def public_key_of(row: SealRow) -> PublicSealKey:
    """The public key that a seal names. Whether it is ours is another question."""
    return PublicSealKey(name=log_name(row.origin), key=row.public_key)


def head_of(row: SealRow, root: bytes) -> SignedHead:
    """The signed head of the seals up to this one, whose tree has that root."""
    key = public_key_of(row)
    head = TreeHead(origin=row.origin, size=row.n, root=root)
    return SignedHead(head=head, signatures=((key.name, key.id, row.signature),))


def _days_of_text(text: str | None) -> SealedDays:
    """A text that we never write makes another seal, too."""
    if text is None:
        return None
    try:
        days = tuple(days_of_text(text))
    except ValueError:
        return (_NO_DAY,)
    return days if ",".join(day.text for day in days) == text else (_NO_DAY,)


def _days(days: Sequence[date], rows: Sequence[int], roots: Sequence[bytes]) -> tuple[SealedDay, ...]:
    """Arrays of different lengths, or with nulls, which we never write, make another seal, too: what is missing is
    nothing.
    """
    length = max(len(days), len(rows), len(roots))
    return tuple(
        SealedDay(
            day=(days[place] if place < len(days) else None) or date.min,
            rows=rows[place] if place < len(rows) else -1,
            root=(roots[place] if place < len(roots) else None) or b"",
        )
        for place in range(length)
    )
