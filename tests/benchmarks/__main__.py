"""`python -m tests.benchmarks NAME`: measures, and prints ratios against a ceiling that was measured in the same run."""

from __future__ import annotations

import sys

from tests.benchmarks import latency, throughput

BENCHMARKS = {"throughput": throughput.main, "latency": latency.main}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"usage: python -m tests.benchmarks {{{'|'.join(BENCHMARKS)}}}")
    BENCHMARKS[name](sys.argv[2:])
