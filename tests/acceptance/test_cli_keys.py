"""`hookledger keys rewrap`: a master key exchanged beside a running daemon."""

from __future__ import annotations

import base64
import json
import urllib.request

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running
from tests.support.until import until

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
MASTER_KEY = "HOOKLEDGER_SIGNING__MASTER_KEY"


def has_process(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/v1/status", timeout=10) as answer:
        return bool(json.load(answer)["processes"])


def actor(url: str, token: str) -> str:
    """Who the daemon says that the holder of a token is."""
    request = urllib.request.Request(f"{url}/v1/session", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["actor"])


async def test_a_master_key_is_exchanged_step_by_step(hookledger: CommandLine) -> None:
    hookledger.environment[MASTER_KEY] = OLD
    key = hookledger.create_route("--header", "X-Shop: acme")["verification_key"]
    token = hookledger("token", "create", "--scope", "auditor", "--json").json
    async with running(hookledger) as daemon:
        assert actor(daemon.url, token["token"]) == f"token:{token['id']}"
        await until(lambda: has_process(daemon.url))
        hookledger.environment[MASTER_KEY] = f"{NEW},{OLD}"
        refused = hookledger("keys", "rewrap", code=1)
        assert str(daemon.process.pid) in refused.err
        assert "put the new key first" in refused.err
        assert await daemon.stop() == 0
    async with running(hookledger) as daemon:
        assert actor(daemon.url, token["token"]) == f"token:{token['id']}"
        assert hookledger("keys", "rewrap", "--json").json == {"resealed": 2, "current": 0}
        assert "2 were sealed under the first key already" in hookledger("keys", "rewrap").out
    hookledger.environment[MASTER_KEY] = NEW
    async with running(hookledger) as daemon:
        assert actor(daemon.url, token["token"]) == f"token:{token['id']}"
    (route,) = hookledger("routes", "list", "--json").json
    rotated = hookledger("routes", "rotate-key", route["id"], "--json").json
    assert rotated["verification_key"] != key
    hookledger.environment[MASTER_KEY] = OLD
    assert "master key" in hookledger("routes", "rotate-key", route["id"], "--force", code=78).err


def test_secrets_that_no_key_opens_are_a_matter_of_configuration(hookledger: CommandLine) -> None:
    hookledger.environment[MASTER_KEY] = OLD
    hookledger.create_route()
    hookledger.environment[MASTER_KEY] = NEW
    assert "master key" in hookledger("keys", "rewrap", code=78).err
