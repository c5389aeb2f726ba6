"""What a fault has cost, in figures beside what is promised: a row of the table that a run of tests/faults ends with.

The one thing to know: a promise about time holds on a machine that has time. The quick version runs on whatever CI
gives it, beside whatever else runs there, so it forgives a machine what it would not forgive the daemon; `--long` does
not. Counts are forgiven nowhere.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

import pytest

from tests.support.reckoning import Pair, Reckoning

# The property of a test's report that carries its lines to wherever the table is printed.
FIGURES = "figures"
# Handed on to the processes that a run may be divided among.
_SEED = "HOOKLEDGER_TEST_SEED"


def seed_of(config: pytest.Config) -> int:
    """What all chance of this run comes from: --seed, or one that is drawn once."""
    given: int | None = config.getoption("--seed")
    drawn = os.environ.setdefault(_SEED, str(secrets.randbelow(1_000_000)))
    return int(drawn) if given is None else given


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`at_most` and `at_least` are the promise; `forgiven` is what passes for it here."""

    name: str
    value: float
    unit: str
    at_most: float | None
    at_least: float | None
    forgiven: float

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
        return self.value <= self.forgiven if self.at_most is not None else self.value >= self.forgiven

    @property
    def verdict(self) -> str:
        if not self.demand:
            return ""
        return "ok" if self.is_kept else f"forgiven up to {self.forgiven:g}" if self.holds else "MISSED"

    def __str__(self) -> str:
        return f"{self.name}: {self.value:g} {self.unit} {self.demand} {self.verdict}"


@dataclass(kw_only=True)
class Figures:
    """The figures of one row; a figure without a promise is only told."""

    row: str
    is_strict: bool
    said: list[Figure] = field(default_factory=list)
    faults: dict[str, list[Pair]] = field(default_factory=dict)

    def say(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        forgiven: float | None = None,
    ) -> None:
        promise = at_most if at_most is not None else at_least if at_least is not None else 0.0
        self.said.append(
            Figure(
                name=name,
                value=value,
                unit=unit,
                at_most=at_most,
                at_least=at_least,
                forgiven=promise if forgiven is None or self.is_strict else forgiven,
            )
        )

    def time(self, name: str, seconds: float, *, within: float) -> None:
        """A promise about time: twice that and some is forgiven."""
        self.say(name, seconds, "s", at_most=within, forgiven=within * 2 + 3)

    def reckon(self, found: Reckoning, *, duplicates_at_most: float | None = None) -> None:
        """What must never be, whatever happened; and how often something was delivered again."""
        self.say("deliveries owed", found.owed, at_least=1)
        self.say("lost", len(found.lost), at_most=0)
        self.say("duplicates", found.duplicates, at_most=duplicates_at_most)
        self.faults |= found.faults

    def hold(self) -> None:
        """Fails unless all figures are as promised."""
        missed = [str(each) for each in self.said if not each.holds]
        assert not self.faults, (self.faults, missed)
        assert not missed, missed

    def lines(self) -> list[str]:
        """One line for each figure, the promise beside it."""
        shown = []
        for place, each in enumerate(self.said):
            value = f"{each.value:,.0f}" if each.value == int(each.value) else f"{each.value:,.2f}"
            name = self.row if place == 0 else ""
            shown.append(f"{name:<50} {each.name:<42} {value:>8} {each.unit:<3} {each.demand:<8} {each.verdict}")
        return [line.rstrip() for line in shown]
