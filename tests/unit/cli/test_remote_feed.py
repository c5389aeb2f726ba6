"""What answers the question for a feed may be anything: it is read as far as a daemon's answer could go."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from daemon.cli.console.failures import CliError
from daemon.cli.listen import remote
from daemon.cli.listen.remote import RemoteFeed


async def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_ANSWER_BYTES", 1 << 20)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 << 20:  # more than all buffers on the way take
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    application = web.Application()
    application.router.add_get("/v1/tenants/acme/feed", endless)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        async with RemoteFeed(url, "acme", token=None, tell=pytest.fail) as feed:
            with pytest.raises(CliError, match=f"{url} answers with more than 1 MiB"):
                await feed.begin()
    assert sent < 64 << 20
