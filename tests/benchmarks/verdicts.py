"""The small table that a benchmark ends with: what was measured, and what it must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`limit` None: nothing is demanded of the figure."""

    name: str
    figure: float
    unit: str = ""
    must_be: Literal["at least", "at most"] = "at most"
    limit: float | None = None

    @property
    def is_met(self) -> bool:
        if self.limit is None:
            return True
        return self.figure >= self.limit if self.must_be == "at least" else self.figure <= self.limit

    @property
    def demand(self) -> str:
        if self.limit is None:
            return ""
        return f"{'>=' if self.must_be == 'at least' else '<='} {self.limit:g} {'ok' if self.is_met else 'MISSED'}"


def table(title: str, verdicts: list[Verdict]) -> None:
    """Prints the verdicts; the benchmark ends with 1 if one of them is not met."""
    print(f"\n{title}")
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        figure = f"{verdict.figure:,.2f}" if abs(verdict.figure) < 100 else f"{verdict.figure:,.0f}"
        print(f"  {verdict.name:<{width}}  {figure:>10} {verdict.unit:<5} {verdict.demand}".rstrip())
    if not all(verdict.is_met for verdict in verdicts):
        raise SystemExit(1)


def percentile(values: list[float], part: float) -> float:
    """The value that `part` of them do not exceed."""
    return sorted(values)[max(0, int(len(values) * part) - 1)]
