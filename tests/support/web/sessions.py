"""Sessions of the dashboard for tests, begun with a sign-in link as a user begins one."""

from __future__ import annotations

from urllib.parse import urlsplit

from daemon.core.drafts.login_link_draft import LoginLinkDraft
from daemon.web.access import sessions
from tests.support.web.application import App
from tests.support.web.pages import BROWSER


async def browser(app: App, tenant: str | None, draft: LoginLinkDraft | None = None) -> dict[str, str]:
    """The headers of a browser with a session of that tenant, or of an operator if it is None."""
    draft = draft or LoginLinkDraft()
    made = await sessions.new_link(
        app.database,
        app.services.config.server,
        draft,
        tenant=tenant,
        created_by="test",
        macs=app.services.keychain.macs,
    )
    return await opened(app, made.url)


async def opened(app: App, url: str) -> dict[str, str]:
    """The headers of a browser in which the button of this sign-in link was pressed."""
    path = urlsplit(url).path
    answer = await app.ask("POST", path[path.index("/login/") :], headers=BROWSER, allow_redirects=False)
    assert answer.status == 303, answer.text
    app.client.session.cookie_jar.clear()  # a request without these headers has no session
    cookie = answer.headers["Set-Cookie"].partition(";")[0]  # the first of two
    return {**BROWSER, "Cookie": cookie}
