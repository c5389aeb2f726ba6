"""`hookledger token` and `login-link`: who may ask the daemon for what.

Both need the database and no daemon: whoever may write there may let others in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

import daemon.tokens
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.store import actor, config_option, now, settings, with_store
from daemon.commands import Invalid
from daemon.core.drafts.token_draft import TokenDraft, check
from daemon.core.events.event import FieldProblem, tenant_problem
from daemon.web.access import sessions
from daemon.web.access.sessions import LINK_LIFE, LoginLink
from daemon.web.api.tokens import of_token
from daemon.web.http import shapes
from eventstore.access import tokens
from eventstore.access.tokens import Token
from eventstore.postgres.connect import Database

_PAGE = 1000


@click.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command("create")
@click.option(
    "--scope",
    required=True,
    metavar="S",
    help="admin, producer[:tenant], tenant:<id>, auditor[:tenant] or metrics.",
)
@click.option("--tenant", metavar="T", help="The scope's tenant, if it is not named there.")
@click.option("--name", default="", metavar="N", help="What people know it by.")
@click.option("--expires", metavar="D", help="A span like 30d, or a time [never].")
@config_option
@output.json_option
def create(
    scope: str, tenant: str | None, name: str, expires: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Make a token.

    Prints it, this once: only its hash is kept.
    """
    draft = check(scope=scope, tenant=tenant, name=name, expires=expires, now=now())
    if not isinstance(draft, TokenDraft):
        raise Invalid(draft)
    made, text = with_store(
        settings(config_file), lambda database: daemon.tokens.create(database, draft, created_by=actor())
    )
    if as_json:
        output.document({**of_token(made), "token": text})
        return
    _print_one(made, text)
    output.note("keep it: it is not shown again")


@token.command("list")
@config_option
@output.json_option
def list_tokens(config_file: Path | None, as_json: bool) -> None:
    """List all tokens, newest first; never the tokens themselves."""
    found = with_store(settings(config_file), _all)
    shown = [of_token(each) for each in found]
    if as_json:
        output.document(shown)
        return
    rows = [
        (each["id"], each["scope"], each["name"], each["status"], it.created_at, it.expires_at, it.last_used_at)
        for each, it in zip(shown, found, strict=True)
    ]
    columns = ("id", "scope", "name", "status", "created", "expires", "last used")
    output.table(columns, rows, empty="there are no tokens: hookledger token create makes one")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@config_option
@output.json_option
def revoke(token_id: str, config_file: Path | None, as_json: bool) -> None:
    """End a token for good.

    Every daemon refuses it within 2 seconds.
    """
    token_id = daemon.tokens.id_of(token_id) or token_id
    revoked = with_store(settings(config_file), lambda database: tokens.revoke(database, token_id))
    if revoked is None:
        raise CliError(f"there is no token {token_id}", hint="hookledger token list")
    if as_json:
        output.document(of_token(revoked))
        return
    _print_one(revoked)


@click.command("login-link")
@click.option("--tenant", metavar="T", help="As this tenant [the administrator].")
@config_option
@output.json_option
def login_link(tenant: str | None, config_file: Path | None, as_json: bool) -> None:
    """Make a one-time link into the dashboard.

    It is good for 60 seconds, and for one browser.
    """
    config = settings(config_file)
    problem = None if tenant is None else tenant_problem(tenant)
    if problem is not None:
        raise Invalid((FieldProblem(field="tenant", message=problem),))
    if config.server.public_url is None and config.server.listen.port == 0:
        raise CliError("the configuration does not say where the daemon listens", hint="set server.public_url")

    async def work(database: Database) -> LoginLink:
        return await sessions.new_link(database, config.server, tenant=tenant, created_by=actor())

    link = with_store(config, work)
    if as_json:
        output.document({"url": link.url, "tenant": tenant, "expires_at": shapes.moment(link.expires_at)})
        return
    click.echo(link.url)
    output.note(f"open it within {LINK_LIFE.seconds} s; it works once")


async def _all(database: Database) -> Sequence[Token]:
    found: list[Token] = []
    while True:
        before = (found[-1].created_at, found[-1].id) if found else None
        page = await tokens.newest(database, _PAGE, before=before)
        found += page
        if len(page) < _PAGE:
            return found


def _print_one(it: Token, text: str | None = None) -> None:
    shown = of_token(it)
    pairs: list[tuple[str, object]] = [(name, shown[name]) for name in ("id", "scope", "name", "status")]
    pairs.append(("expires", it.expires_at))
    output.fields(pairs if text is None else [*pairs, ("token", text)])
