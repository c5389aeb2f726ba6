"""What a fault cost, as measurements beside their limits: one row of the table at the end of a run of tests/faults.

The one thing to know: limits on time hold on a machine that is not overloaded. The quick version runs on CI beside
other work, so it tolerates slower times; `--long` does not. Counts have no tolerance.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

import pytest

from tests.support.faults.delivery_check import DeliveryCheck, PathAndEvent

# The pytest property that carries a row's lines to the process that prints the table.
FAULT_REPORT = "fault_report"
# Inherited by the worker processes of a run.
_SEED = "HOOKLEDGER_TEST_SEED"


def seed_of(config: pytest.Config) -> int:
    """The seed of this run: --seed, or one that is drawn once."""
    given: int | None = config.getoption("--seed")
    drawn = os.environ.setdefault(_SEED, str(secrets.randbelow(1_000_000)))
    return int(drawn) if given is None else given


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """`at_most` or `at_least` is the limit; `tolerated` is the limit that this run applies."""

    name: str
    value: float
    unit: str
    at_most: float | None
    at_least: float | None
    tolerated: float

    @property
    def demand(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def is_kept(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def holds(self) -> bool:
        if self.is_kept:
            return True
        return self.value <= self.tolerated if self.at_most is not None else self.value >= self.tolerated

    @property
    def verdict(self) -> str:
        if not self.demand:
            return ""
        return "ok" if self.is_kept else f"tolerated up to {self.tolerated:g}" if self.holds else "MISSED"

    def __str__(self) -> str:
        return f"{self.name}: {self.value:g} {self.unit} {self.demand} {self.verdict}"


@dataclass(kw_only=True)
class FaultReport:
    """The measurements of one row. One without a limit is only printed."""

    row: str
    is_strict: bool
    measurements: list[Measurement] = field(default_factory=list)
    violations: dict[str, list[PathAndEvent]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        tolerated: float | None = None,
    ) -> None:
        limit = at_most if at_most is not None else at_least if at_least is not None else 0.0
        self.measurements.append(
            Measurement(
                name=name,
                value=value,
                unit=unit,
                at_most=at_most,
                at_least=at_least,
                tolerated=limit if tolerated is None or self.is_strict else tolerated,
            )
        )

    def add_duration(self, name: str, seconds: float, *, within: float) -> None:
        """A time with a limit. The quick version tolerates four times the limit and 20 s: it runs beside other work."""
        self.add(name, seconds, "s", at_most=within, tolerated=within * 4 + 20)

    def add_check(self, found: DeliveryCheck, *, duplicates_at_most: float | None = None) -> None:
        """The result of a check: what must never happen, and the number of duplicates."""
        self.add("deliveries owed", found.owed, at_least=1)
        self.add("lost", len(found.lost), at_most=0)
        self.add("duplicates", found.duplicates, at_most=duplicates_at_most)
        self.violations |= found.violations

    def verify(self) -> None:
        """Raises AssertionError unless every measurement is within its limit."""
        missed = [str(each) for each in self.measurements if not each.holds]
        assert not self.violations, (self.violations, missed)
        assert not missed, missed

    def lines(self) -> list[str]:
        """One line for each measurement, with its limit."""
        shown = []
        for place, each in enumerate(self.measurements):
            value = f"{each.value:,.0f}" if each.value == int(each.value) else f"{each.value:,.2f}"
            name = self.row if place == 0 else ""
            shown.append(f"{name:<50} {each.name:<42} {value:>8} {each.unit:<3} {each.demand:<8} {each.verdict}")
        return [line.rstrip() for line in shown]
