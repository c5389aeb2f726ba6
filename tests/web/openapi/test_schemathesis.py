"""Schemathesis, an independent reader of OpenAPI documents, tests the daemon: it sends what our document allows and what
it forbids, and must find no difference from the document.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.web.access.limits import TenantLimits
from daemon.web.service.auditing import audit_jobs
from tests.support.web.application import TARGET, App, app

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
TOKEN = "hl_admin_0123456789abcdef0123456789abcdef"
MOST_SECONDS = 110  # less than a test may take at all (pyproject.toml, faulthandler_timeout)


@pytest.mark.parametrize("operations", ["include", "exclude"])
async def test_schemathesis_finds_nothing(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: str
) -> None:
    """Once in the operations of a tenant, and once in all others."""
    monkeypatch.setattr(TenantLimits, "take", lambda *_: None)  # it makes more requests than a tenant may
    monkeypatch.setattr(audit_jobs, "MAX_JOBS", 1_000_000)  # and begins more audits at once
    async with app(empty_url, server__admin_token=TOKEN) as opened:
        lasting, doomed = [await made(opened) for _ in range(2)]
        url = str(opened.client.make_url("/openapi.json"))
        # A subprocess, because it has threads and an HTTP client of its own.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", url, "--no-color"),
            *("--header", f"Authorization: Bearer {TOKEN}", f"--{operations}-path-regex", "^/v1/tenants/"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,  # where it writes its cache
            env=os.environ
            | {"SCHEMATHESIS_HOOKS_FILE": str(HOOKS), "ROUTE": lasting["id"], "DOOMED_ROUTE": doomed["id"]},
        )
        async with asyncio.timeout(MOST_SECONDS):
            output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()


async def made(app: App) -> dict[str, Any]:
    body = {"name": "a route", "target_url": TARGET, "event_types": ["*"]}
    answer = await app.ask("POST", "/v1/tenants/acme/routes", body, headers={"Authorization": f"Bearer {TOKEN}"})
    route: dict[str, Any] = answer.json
    return route
