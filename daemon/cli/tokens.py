"""`hookledger token` and `login-link`: API tokens, and links into the dashboard.

Both need the database and no daemon. What they make has a MAC: write access to the database and the master key are the
authorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

import daemon.credentials.tokens
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.store import (
    actor,
    checked_vault,
    config_option,
    daemon_listen_option,
    known_macs,
    now,
    settings,
    with_store,
)
from daemon.commands import Invalid
from daemon.config import Config
from daemon.core.drafts import login_link_draft
from daemon.core.drafts.login_link_draft import DEFAULT_SECONDS, DashboardRole, LoginLinkDraft
from daemon.core.drafts.token_draft import TokenDraft, check
from daemon.core.events.event import FieldProblem, tenant_problem
from daemon.web.access import sessions
from daemon.web.access.sessions import LoginLink
from daemon.web.api.operator.tokens import of_token
from daemon.web.http import shapes
from eventstore.access import tokens
from eventstore.access.tokens import Token
from eventstore.postgres.connect import Database

_PAGE_TOKENS = 1000


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
@click.option("--tenant", metavar="T", help="The tenant of the scope, if the scope does not name it.")
@click.option("--name", default="", metavar="N", help="A name to recognise it by.")
@click.option("--expires", metavar="D", help="A duration like 30d, or a time [never].")
@config_option
@output.json_option
def create(
    scope: str, tenant: str | None, name: str, expires: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Make a token.

    Prints it, this once: only its hash is stored.
    """
    draft = check(scope=scope, tenant=tenant, name=name, expires=expires, now=now())
    if not isinstance(draft, TokenDraft):
        raise Invalid(draft)
    config = settings(config_file)

    async def work(database: Database) -> tuple[Token, str]:
        vault = await checked_vault(config, database)
        return await daemon.credentials.tokens.create(database, draft, created_by=actor(), macs=vault.macs)

    created, text = with_store(config, work)
    if as_json:
        output.document({**of_token(created), "token": text})
        return
    _print_one(created, text)
    output.note("keep it: it is not shown again")


@token.command("list")
@config_option
@output.json_option
def list_tokens(config_file: Path | None, as_json: bool) -> None:
    """List all tokens, newest first, without their text."""
    config = settings(config_file)
    all_tokens = with_store(config, lambda database: _all(config, database))
    documents = [of_token(each) for each in all_tokens]
    if as_json:
        output.document(documents)
        return
    rows = [
        (each["id"], each["scope"], each["name"], each["status"], it.created_at, it.expires_at, it.last_used_at)
        for each, it in zip(documents, all_tokens, strict=True)
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
    token_id = daemon.credentials.tokens.id_of(token_id) or token_id
    config = settings(config_file)

    async def work(database: Database) -> Token | None:
        return await tokens.revoke(database, token_id, macs=await known_macs(config, database))

    revoked = with_store(config, work)
    if revoked is None:
        raise CliError(f"there is no token {token_id}", hint="hookledger token list")
    if as_json:
        output.document(of_token(revoked))
        return
    _print_one(revoked)


@click.command("login-link")
@click.option("--tenant", metavar="T", help="As this tenant [the administrator].")
@click.option("--actor", "name", metavar="A", help="Who stands in the history for what is done there [dashboard].")
@click.option("--role", default=DashboardRole.MANAGE.value, metavar="R", help="manage or view [manage].")
@daemon_listen_option
@config_option
@output.json_option
def login_link(
    tenant: str | None, name: str | None, role: str, listen: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Make a one-time link into the dashboard.

    It is valid for 60 seconds, and for one browser: opening it shows a page whose button signs in.
    """
    config = settings(config_file, listen=listen)
    problem = None if tenant is None else tenant_problem(tenant)
    draft = login_link_draft.check(tenant, actor=name, role=role)
    if problem is not None:
        raise Invalid((FieldProblem(field="tenant", message=problem),))
    if not isinstance(draft, LoginLinkDraft):
        raise Invalid(draft)
    if config.server.public_url is None and config.server.listen.port == 0:
        raise CliError(
            "the configuration does not say where the daemon listens", hint="set server.public_url, or pass --listen"
        )

    async def work(database: Database) -> LoginLink:
        vault = await checked_vault(config, database)
        return await sessions.new_link(
            database, config.server, draft, tenant=tenant, created_by=actor(), macs=vault.macs
        )

    link = with_store(config, work)
    if as_json:
        document = {"url": link.url, "tenant": tenant, "role": draft.role, "expires_at": shapes.moment(link.expires_at)}
        output.document(document)
        return
    click.echo(link.url)
    output.note(f"open it within {DEFAULT_SECONDS} s, and press the button there; it works once")


async def _all(config: Config, database: Database) -> Sequence[Token]:
    macs = await known_macs(config, database)
    all_tokens: list[Token] = []
    while True:
        before = (all_tokens[-1].created_at, all_tokens[-1].id) if all_tokens else None
        page = await tokens.newest(database, _PAGE_TOKENS, macs=macs, before=before)
        all_tokens += page
        if len(page) < _PAGE_TOKENS:
            return all_tokens


def _print_one(token: Token, text: str | None = None) -> None:
    document = of_token(token)
    pairs: list[tuple[str, object]] = [(name, document[name]) for name in ("id", "scope", "name", "status")]
    pairs.append(("expires", token.expires_at))
    output.fields(pairs if text is None else [*pairs, ("token", text)])
