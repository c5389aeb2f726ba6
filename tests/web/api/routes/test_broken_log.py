"""A route log that no command can have written: a command is refused, and says whose part it is to mend it."""

from __future__ import annotations

import pytest

from tests.support.web.application import App, path

# A seventh version, after the first one.
_FORGE = """
SELECT hookledger.append_route_event($1::uuid, 'acme', 7, 'disabled', 'admin', 'api', NULL, NULL, NULL, NULL, '{}')
       IS NOT NULL AS is_appended
"""


@pytest.mark.parametrize("command", ["disable", "rotate-key"])
async def test_a_command_on_a_route_whose_log_is_broken_is_503(app: App, command: str) -> None:
    route = await app.route()
    await app.rows(_FORGE, route["id"])
    answer = await app.ask("POST", path(route, f"/{command}"), {})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert "the operator must look at it" in answer.json["detail"]
    assert len(await app.log()) == 2


# In the place of the column: what a function of somebody else appends.
OTHERS = {
    "tenant": "'globex'",
    "type": "'deleted'",
    "actor": "'boss'",
    "origin": "'cli'",
    "reason": "'as agreed'",
    "request_id": "'r'",
    "correlation_id": "'c'",
    "causation_id": "'c'",
    "body": "'{\"x\": 1}'",
}
_FUNCTION = "hookledger.append_route_event"


@pytest.mark.parametrize("column", [*OTHERS, "hash"])
async def test_what_the_database_appends_in_the_place_of_a_command_is_not_signed(app: App, column: str) -> None:
    """Somebody with the database may exchange its function for a moment, and have his own event signed by us."""
    route = await app.route()
    (function,) = await app.rows(f"SELECT pg_get_functiondef('{_FUNCTION}'::regproc) AS text")
    ours = function["text"]
    begin, row, end = ours.partition("added := ROW(")
    if column == "hash":
        forged = ours.replace("added.hash := sha256(", "added.hash := sha384(")
    else:
        forged = begin + row + end.replace(f"append_route_event.{column}", OTHERS[column], 1)
    assert forged != ours
    await app.rows(forged)
    try:
        answer = await app.ask("POST", path(route, "/disable"), {})
    finally:  # other tests have the same database
        await app.rows(ours)
    assert answer.status == 503, answer.text
    assert len(await app.log()) == 1
    assert (await app.ask("POST", path(route, "/disable"), {})).status == 200
