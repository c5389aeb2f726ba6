"""The table at the end of a benchmark: the measured values and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """A measured value. `limit` None means that it has none."""

    name: str
    value: float
    unit: str = ""
    must_be: Literal["at least", "at most"] = "at most"
    limit: float | None = None

    @property
    def is_met(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.must_be == "at least" else self.value <= self.limit

    @property
    def demand(self) -> str:
        if self.limit is None:
            return ""
        return f"{'>=' if self.must_be == 'at least' else '<='} {self.limit:g} {'ok' if self.is_met else 'MISSED'}"


def table(title: str, results: list[BenchmarkResult]) -> None:
    """Prints the results. Raises SystemExit(1) if one is not within its limit."""
    print(f"\n{title}")
    width = max(len(result.name) for result in results)
    for result in results:
        figure = f"{result.value:,.2f}" if abs(result.value) < 100 else f"{result.value:,.0f}"
        print(f"  {result.name:<{width}}  {figure:>10} {result.unit:<5} {result.demand}".rstrip())
    if not all(result.is_met for result in results):
        raise SystemExit(1)


def percentile(values: list[float], part: float) -> float:
    """The value that a `part` of the values (0 to 1) does not exceed."""
    return sorted(values)[max(0, int(len(values) * part) - 1)]
