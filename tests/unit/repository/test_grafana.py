"""The Grafana dashboard of deploy/: it asks for metrics that exist, by labels that they have, of the chosen source."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import prometheus

BOARD = json.loads((Path(__file__).parents[3] / "deploy" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES: list[dict[str, Any]] = BOARD["templating"]["list"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID_WIDTH = 24

# What Grafana puts in for its own variables.
_FILLED_IN = {"$__rate_interval": "5m"}


def query_of(target: dict[str, Any]) -> str:
    """A panel's query as Prometheus gets it, but for the variables in quotes."""
    query: str = target["expr"]
    for variable, value in _FILLED_IN.items():
        query = query.replace(variable, value)
    return query


QUERIES = [
    pytest.param(target, id=f"{panel['title']}, {target['refId']}") for panel in PANELS for target in panel["targets"]
]


@pytest.mark.parametrize("target", QUERIES)
def test_a_query_names_metrics_that_exist_with_labels_that_they_have(target: dict[str, Any]) -> None:
    assert prometheus.queried(query_of(target))
    assert prometheus.wrong(query_of(target)) == []


@pytest.mark.parametrize("target", QUERIES)
def test_a_legend_uses_labels_that_the_query_keeps(target: dict[str, Any]) -> None:
    kept = prometheus.result_labels(query_of(target))
    if kept is None:
        kept = prometheus.exposed()[prometheus.queried(query_of(target))[0].metric]
    assert set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])) <= kept


@pytest.mark.parametrize("target", QUERIES)
def test_a_query_is_about_the_chosen_job(target: dict[str, Any]) -> None:
    for each in prometheus.queried(query_of(target)):
        assert "job" in each.labels


def test_a_metric_that_a_variable_lists_the_labels_of_exists() -> None:
    for variable in VARIABLES:
        for query, label in re.findall(r"label_values\((.*), (\w+)\)", str(variable.get("definition", ""))):
            assert prometheus.wrong(query) == []
            assert label in prometheus.exposed()[prometheus.queried(query)[0].metric]


def test_every_metric_is_somewhere_on_the_dashboard() -> None:
    shown = json.dumps(BOARD)
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in prometheus.exposed()} - {"up"}
    assert [family for family in families if family not in shown] == []


def test_the_source_of_all_is_a_variable() -> None:
    (source,) = [variable for variable in VARIABLES if variable["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    others = [variable for variable in VARIABLES if variable is not source]
    targets = [target for panel in PANELS for target in panel["targets"]]
    assert [each for each in [*PANELS, *targets, *others] if each["datasource"] != SOURCE] == []


def test_a_variable_that_is_used_is_declared() -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD["panels"]))) - {"__rate_interval"}
    assert used <= {variable["name"] for variable in VARIABLES}


def test_panels_have_ids_titles_and_places_of_their_own() -> None:
    every = BOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in combinations([panel["gridPos"] for panel in every], 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert is_beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= GRID_WIDTH for panel in every)
