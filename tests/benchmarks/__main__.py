"""`python -m tests.benchmarks NAME`: measures, and prints ratios to a ceiling that it measures in the same run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.benchmarks import (
    backlog,
    export,
    fanout,
    guard,
    idle,
    ingest,
    isolation,
    latency,
    lists,
    metrics,
    pages,
    parked,
    payload,
    rebuild,
    results,
    routes,
    seals,
    single,
    soak,
    sources,
    takeover,
    throughput,
)

BENCHMARKS = {
    "throughput": throughput.main,
    "ingest": ingest.main,
    "latency": latency.main,
    "single": single.main,
    "sources": sources.main,
    "fanout": fanout.main,
    "payload": payload.main,
    "backlog": backlog.main,
    "routes": routes.main,
    "rebuild": rebuild.main,
    "audit": rebuild.audit_main,
    "seals": seals.main,
    "isolation": isolation.main,
    "guard": guard.main,
    "parked": parked.main,
    "idle": idle.main,
    "soak": soak.main,
    "takeover": takeover.main,
    "metrics": metrics.main,
    "lists": lists.main,
    "export": export.main,
    "pages": pages.main,
}

QUIET_LOAD = 0.5

USAGE = f"""\
usage: python -m tests.benchmarks NAME [--quick] [--json FILE]
  NAME     {"  ".join(BENCHMARKS)}
  --quick  less of everything: to see that it runs, not what it costs
  --json   write the results to a file too"""


def main(name: str, arguments: list[str]) -> None:
    """Runs a benchmark. Raises SystemExit if a result is not within its limit."""
    if name not in BENCHMARKS:
        raise SystemExit(USAGE)
    if (load := os.getloadavg()[0]) > QUIET_LOAD:
        print(f"load average {load:.1f}: other work on this machine changes every result", file=sys.stderr)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--json", type=Path)
    options, rest = parser.parse_known_args(arguments)
    print("  ".join(f"{key}: {value}" for key, value in results.machine().items()), flush=True)
    try:
        BENCHMARKS[name](rest)
    finally:
        if options.json is not None:
            results.write_json(options.json)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
