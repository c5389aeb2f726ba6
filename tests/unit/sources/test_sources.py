"""Sources without the client of Kafka, and the reasons for which a message is refused."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest

from daemon.cli.console import failures
from daemon.core.events.event import FieldProblem
from daemon.sources.kafka import client
from daemon.sources.kafka.client import ExtraMissing
from daemon.sources.rules import reason_of
from tests.support.kafka.sources import config_of

PROBLEMS = (FieldProblem(field="type", message="is missing"), FieldProblem(field="", message="is too long"))


def test_without_the_extra_a_source_is_a_mistake_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(client, "find_spec", none)
    with pytest.raises(ExtraMissing) as missing:
        client.require()
    report = failures.describe(missing.value)
    assert report.code == failures.EXIT_CONFIG
    assert report.messages == ("sources of events need the client of Kafka, which is not installed",)
    assert report.hint.startswith("pip install 'hookledger[kafka]'")


def test_a_reason_names_the_expression_that_is_to_blame() -> None:
    plain = config_of("k:1", "t").sources["shop"]
    assert reason_of("shop", plain, PROBLEMS) == "type: is missing; is too long"
    mapped = config_of("k:1", "t", format="mapped", tenant="key", type="key", data="value").sources["shop"]
    assert reason_of("shop", mapped, PROBLEMS) == "sources.shop.type: is missing; is too long"
