"""Says which alert rules of deploy/ fire on what a daemon really exposes while something is wrong, and afterwards.

Rules look at minutes and hours. So a phase of a few seconds is scraped twice and drawn out: counters and ages go on as
fast as they went between the two scrapes, and other gauges stay. `promtool` evaluates the rules on that.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support import prometheus

RULES = Path(__file__).parents[2] / "deploy" / "alerts.yaml"
_RULES = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule["alert"] for rule in _RULES]
_ASKED = {asked.metric for rule in _RULES for asked in prometheus.asked(rule["expr"])}
# Longer than any rule waits, and than any of them looks back.
WRONG_MINUTES, AFTERWARDS_MINUTES = 20, 75
_AGES = frozenset({"hookledger_seal_age_seconds"})
_GROWING = re.compile(r"_(total|bucket|count|sum)$")

Samples = dict[str, float]


@dataclass(kw_only=True)
class Timelapse:
    """The series of one daemon, a value for each minute; None where it did not answer."""

    minutes: int = 0
    _series: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, minutes: int, first: Samples, last: Samples, *, seconds: float) -> None:
        """Draws out what happened between two scrapes."""
        for name, value in last.items():
            family = name.partition("{")[0]
            grows = family in _AGES or _GROWING.search(family) is not None
            per_minute = (value - first.get(name, 0.0)) / seconds * 60 if grows else 0.0
            self._append(name, [value + per_minute * minute for minute in range(minutes)])
        self._append(_named("up", {}), [1.0] * minutes)
        self.minutes += minutes

    def add_silence(self, minutes: int) -> None:
        """Minutes in which nobody answered the scrapes."""
        self._append(_named("up", {}), [0.0] * minutes)
        self.minutes += minutes

    def _append(self, name: str, values: list[float]) -> None:
        known = self._series.setdefault(name, [])
        known += [None] * (self.minutes - len(known))
        known += values

    def problems(self, alert: str, *, at: int) -> str:
        """What promtool says against this: the alert fires in that minute, and at the end none does. Else empty."""
        expected = [(alert, at, 1), *((each, self.minutes - 1, 0) for each in ALERTS)]
        tests = [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for name, minute, count in expected
        ]
        series = [
            {"series": name, "values": " ".join("_" if value is None else f"{value:.6f}" for value in values)}
            for name, values in self._series.items()
            if name.partition("{")[0] in _ASKED
        ]
        test = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
        document = {"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": [test]}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(document, file)
            file.flush()
            command = ["promtool", "test", "rules", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return "" if done.returncode == 0 else done.stdout + done.stderr


def samples(exposition: str) -> Samples:
    """The samples of an exposition, as a Prometheus stores them that scrapes it."""
    return {
        _named(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def _named(name: str, labels: dict[str, str]) -> str:
    own = labels | {"job": "hookledger", "instance": "a:8080"}
    inner = ",".join(f'{key}="{value}"' for key, value in own.items())
    return f"{name}{{{inner}}}"
