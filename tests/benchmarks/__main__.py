"""`python -m tests.benchmarks NAME`: measures, and prints ratios to a ceiling that it measures in the same run."""

from __future__ import annotations

import os
import sys

from tests.benchmarks import (
    guard,
    idle,
    ingest,
    isolation,
    latency,
    lists,
    metrics,
    pages,
    parked,
    single,
    takeover,
    throughput,
)

BENCHMARKS = {
    "throughput": throughput.main,
    "ingest": ingest.main,
    "latency": latency.main,
    "single": single.main,
    "isolation": isolation.main,
    "guard": guard.main,
    "parked": parked.main,
    "idle": idle.main,
    "takeover": takeover.main,
    "metrics": metrics.main,
    "lists": lists.main,
    "pages": pages.main,
}

QUIET_LOAD = 0.5

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"usage: python -m tests.benchmarks {{{'|'.join(BENCHMARKS)}}}")
    if (load := os.getloadavg()[0]) > QUIET_LOAD:
        print(f"load average {load:.1f}: other work on this machine changes every result", file=sys.stderr)
    BENCHMARKS[name](sys.argv[2:])
