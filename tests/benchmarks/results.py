"""The tables of a benchmark: the measured values and their limits, on the machine that it describes."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson


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


# What `table` has printed in this run: each title, and its results.
_printed: list[tuple[str, list[BenchmarkResult]]] = []


def machine() -> dict[str, str]:
    """What the results depend on."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory) // 1024 // 1024} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "load average": f"{os.getloadavg()[0]:.1f}",
    }


def write_json(path: Path) -> None:
    """Writes the machine and everything that was printed so far."""
    tables = [
        {"title": title, "results": [asdict(result) | {"is_met": result.is_met} for result in results]}
        for title, results in _printed
    ]
    path.write_bytes(orjson.dumps({"machine": machine(), "tables": tables}, option=orjson.OPT_INDENT_2))


def table(title: str, results: list[BenchmarkResult]) -> None:
    """Prints the results. Raises SystemExit(1) if one is not within its limit."""
    _printed.append((title, results))
    print(f"\n{title}")
    width = max(len(result.name) for result in results)
    for result in results:
        figure = f"{result.value:,.2f}" if abs(result.value) < 100 else f"{result.value:,.0f}"
        print(f"  {result.name:<{width}}  {figure:>10} {result.unit:<5} {result.demand}".rstrip())
    if not all(result.is_met for result in results):
        raise SystemExit(1)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def percentile(values: list[float], part: float) -> float:
    """The value that a `part` of the values (0 to 1) does not exceed."""
    return sorted(values)[max(0, int(len(values) * part) - 1)]
