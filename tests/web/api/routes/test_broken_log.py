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
