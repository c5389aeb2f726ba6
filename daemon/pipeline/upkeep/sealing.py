"""Has the logs sealed from time to time, by one process for all, and publishes each signed head.

A head goes to the log stream, and to `seal.anchor_file` if that is set. One that could not be written there is written
with the next: the newest vouches for all before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from daemon.core.sealing.head import SignedHead
from daemon.core.sealing.seal import SealContent
from daemon.sealing.anchoring import anchor_file
from daemon.sealing.sealer import Sealed, Sealer, SealRefused
from daemon.telemetry.metrics import Metrics

log = structlog.get_logger()

_SECOND = timedelta(seconds=1)

# Is told each seal that this process makes, with its signed head.
OnSealed = Callable[[SealContent, SignedHead], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealSettings:
    """How often a seal is made, where heads are kept, and public keys that earlier seals were signed with."""

    every: timedelta = timedelta(seconds=60)
    anchor_file: Path | None = None
    former_keys: tuple[bytes, ...] = ()


class Sealing:
    """`run_once` takes a turn if there is one to take, then waits. `clock` returns monotonic seconds."""

    def __init__(
        self,
        sealer: Sealer,
        settings: SealSettings,
        metrics: Metrics,
        *,
        on_sealed: OnSealed | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sealer = sealer
        self._settings = settings
        self._metrics = metrics
        self._on_sealed = on_sealed
        self._clock = clock
        self._current_at = clock()
        self._unwritten: bytes | None = None
        self._refused: str | None = None
        self._not_anchored: str | None = None

    @property
    def age_seconds(self) -> float:
        """The age of the newest seal, or the time since all was sealed when this process last looked."""
        return self._clock() - self._current_at

    @property
    def fault(self) -> str | None:
        """What kept this process from sealing, or from writing the newest head to the file, as a sentence."""
        if self._refused is not None:
            return f"nothing is sealed: {self._refused}"
        if self._not_anchored is not None:
            return f"signed heads are not written to seal.anchor_file: {self._not_anchored}"
        return None

    async def run_once(self) -> None:
        every, sealed = self._settings.every, None
        try:
            sealed = await self._sealer.seal(every=every)
            if sealed is not None:
                self._refused = None
                await self._take(sealed)
        except SealRefused as error:
            self._refused = str(error)
            log.error("seal.refused", cause=self._refused)  # noqa: TRY400 - its message says all
        finally:
            if self._metrics.sets_shared_gauges:
                self._metrics.seal_age.set(self.age_seconds)
        if sealed is None or not sealed.is_behind:
            await asyncio.sleep(_pause(sealed, every) / _SECOND)

    async def _take(self, sealed: Sealed) -> None:
        if sealed.lost is not None:
            log.error(
                "seal.went_back",
                known=sealed.lost,
                newest=None if sealed.seal is None else sealed.seal.n,
                cause="seals that this process has made or seen are gone, or others: unless a standby was promoted, an "
                "older state was put back, or somebody rewrites the log: run hookledger audit --anchors",
            )
        if sealed.is_current:
            self._current_at = self._clock()
        elif sealed.seal is not None:
            self._current_at = self._clock() - max(timedelta(0), sealed.now - sealed.seal.at) / _SECOND
        if sealed.head is not None and sealed.seal is not None:
            log.info("seal.made", seal=sealed.seal.n, rows=sealed.seal.rows, head=sealed.head.note)
            if self._on_sealed is not None:
                self._on_sealed(sealed.seal, sealed.head)
            self._unwritten = anchor_file.line_of(sealed.head, sealed.seal.at)
        if self._unwritten is not None and self._settings.anchor_file is not None:
            try:
                await asyncio.to_thread(anchor_file.append, self._settings.anchor_file, self._unwritten)
            except OSError as error:
                self._not_anchored = f"{error.filename}: {error.strerror}"
                log.error("seal.not_anchored", cause=self._not_anchored)  # noqa: TRY400 - the system's says all
            else:
                self._unwritten = self._not_anchored = None


def _pause(sealed: Sealed | None, every: timedelta) -> timedelta:
    """Until the newest seal is old enough; somebody else may have made it."""
    if sealed is None or sealed.seal is None or sealed.is_current:
        return every
    return min(every, max(_SECOND, every - (sealed.now - sealed.seal.at)))
