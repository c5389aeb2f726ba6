"""What an audit of seals found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from daemon.core.texts import moment

UNKNOWN_SIGNER = "without a public key of ours it was not checked who signed the seals, so anybody may have made them"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFinding:
    """Something that is not as it was sealed. `part` is a table, or `anchor`; `seal` is the number of the seal that
    tells, None if none does.
    """

    part: str
    seal: int | None
    detail: str


@dataclass(slots=True, kw_only=True)
class SealReport:
    """Counts, and the findings. `rows` of `judged` seals of the period were compared; `dropped` are days of a seal, or
    its ticks or secrets, of which retention has dropped some. `anchors` heads from elsewhere were compared.

    `is_signer_known` is False if there is no key of ours to check signatures with.

    `sealed_until` is the time of the newest seal: what came after it is not sealed yet. None if there is no seal.
    `unsealed` is from when until when things were recorded that are not sealed, if that is for longer than it may be.
    `broken_off` is the error by which the audit did not come to its end, for the operator only.
    """

    seals: int = 0
    judged: int = 0
    rows: int = 0
    dropped: int = 0
    anchors: int = 0
    is_signer_known: bool = True
    sealed_until: datetime | None = None
    unsealed: tuple[datetime, datetime] | None = None
    broken_off: str | None = None
    findings: list[SealFinding] = field(default_factory=list)

    @property
    def gaps(self) -> list[str]:
        """Why the seals prove less than they could, in sentences."""
        gaps = []
        if self.broken_off is not None:
            gaps.append("the seals were not compared to their end, because of what was found")
        if self.unsealed is not None:
            since, until = map(moment, self.unsealed)
            gaps.append(
                f"what was recorded from {since} to {until} is not sealed, so that no change of it is found: see why "
                "sealing stands still"
            )
        if not self.is_signer_known and self.seals:
            gaps.append(UNKNOWN_SIGNER)
        return gaps

    def add(self, part: str, detail: str, *, seal: int | None = None) -> None:
        """Adds a finding."""
        self.findings.append(SealFinding(part=part, seal=seal, detail=detail))
