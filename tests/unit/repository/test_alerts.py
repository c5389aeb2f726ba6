"""The alert rules of deploy/: each fires for what it is about, asks for metrics that exist, and says what to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.faults import prometheus

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
TESTS = yaml.safe_load((DEPLOY / "alerts_test.yaml").read_text())["tests"]


def test_prometheus_takes_the_rules_and_they_fire_as_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: the alert rules were not run")
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=DEPLOY, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_for_what_is_wrong_and_for_what_is_not() -> None:
    expected = {rule["alert"]: {True, False} for rule in RULES}
    found: dict[str, set[bool]] = {}
    for test in TESTS:
        for each in test["alert_rule_test"]:
            found.setdefault(each["alertname"], set()).add(bool(each["exp_alerts"]))
    assert found == expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_and_labels_that_exist(rule: dict[str, str]) -> None:
    assert prometheus.queried(rule["expr"])
    assert prometheus.wrong(rule["expr"]) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_leads_to_a_paragraph_that_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    _, _, runbook = (DEPLOY / "README.md").read_text().partition("## What to do when")
    assert f"- **{rule['annotations']['runbook']}:** " in runbook
