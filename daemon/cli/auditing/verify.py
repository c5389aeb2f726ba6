"""`hookledger verify`: the proof of a delivery, checked without a database, a daemon or a network."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.auditing import seal_audit
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.store import config_option, settings
from daemon.core.sealing import proof
from daemon.core.sealing.head import MalformedHead, PublicSealKey, log_name, parse_head
from daemon.core.sealing.proof import ProofRefused, ProvenDelivery, ProvenResend
from daemon.core.texts import moment
from daemon.web.http import shapes

# Ours have some kilobytes for each outcome.
PROOF_BYTES = 16 << 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@seal_audit.key_option
@config_option
@output.json_option
def verify(file: Path, key_file: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Check the proof of a delivery, offline.

    FILE is what GET /v1/tenants/…/deliveries/…/proof answers. Exits with 1 unless its rows are in seals, its seals in
    the tree of a head, and the head signed by that key. That there are no other outcomes it cannot prove: an audit can.
    """
    try:
        document = proof.parse(seal_audit.read(file, PROOF_BYTES))
        keys = [seal_audit.public_key_in(key_file)] if key_file is not None else _own_keys(document, config_file)
        proven = proof.verify(document, keys)
    except ProofRefused as error:
        raise CliError(
            f"the proof in {file} does not hold: {error}",
            hint="get the proof again, and the public key from a copy of your own",
        ) from error
    if as_json:
        output.document(_as_json(proven))
    else:
        _show(proven)


def _own_keys(document: object, config_file: Path | None) -> list[PublicSealKey]:
    """The keys that this machine knows to be ours, under the name of the log in the proof. Raises CliError if there are
    none.
    """
    known = seal_audit.known_keys(settings(config_file), None)
    if not known:
        raise CliError("this machine has no key of the log", hint="name the public key with --key")
    head = document.get("head") if isinstance(document, dict) else None
    try:
        name = log_name(parse_head(head).head.origin) if isinstance(head, str) else ""
    except MalformedHead:
        name = ""  # `verify` says what is wrong with it
    return [PublicSealKey(name=name, key=key) for key in known]


def _as_json(proven: ProvenDelivery) -> dict[str, object]:
    return {
        "delivery": proven.delivery,
        "tenant": proven.tenant,
        "event": proven.event,
        "type": proven.event_type,
        "event_time": shapes.moment(proven.event_time),
        **({} if proven.message is None else {"message": proven.message}),
        "route": proven.route,
        "sealed_at": shapes.moment(proven.sealed_at),
        "attempts": [
            {
                "number": attempt.number,
                "outcome": attempt.outcome,
                "at": shapes.moment(attempt.started_at),
                "status_code": attempt.status_code,
                "error": attempt.error,
            }
            for attempt in proven.attempts
        ],
        "sent_again": [
            {"at": shapes.moment(each.at), "actor": each.actor, "reason": each.reason} for each in proven.resends
        ],
        "unsealed": proven.unsealed,
        "head": {"origin": proven.head.origin, "seals": proven.head.size, "root": proven.head.root.hex()},
        "key": proven.key.text,
    }


def _sentence(resend: ProvenResend) -> str:
    because = "" if resend.reason is None else f": {resend.reason}"
    return f"by {resend.actor} at {moment(resend.at)}{because}"


def _show(proven: ProvenDelivery) -> None:
    click.echo("the proof holds: signed by this key, and nothing was changed since it was sealed")
    columns = ("attempt", "started", "outcome", "answer", "sealed")
    rows = [
        (each.number or None, each.started_at, each.outcome, each.error or each.status_code, each.sealed_at)
        for each in proven.attempts
    ]
    output.table(columns, rows, empty="the event is proven; no outcome of this delivery was sealed")
    output.fields(
        [
            ("delivery", proven.delivery),
            ("event", f"{proven.event} ({proven.event_type}) of {proven.tenant}"),
            ("event time", proven.event_time),
            *(() if proven.message is None else (("message", proven.message),)),
            ("route", proven.route),
            *(("sent again", _sentence(each)) for each in proven.resends),
            ("sealed until", proven.sealed_at),
            ("not sealed", f"{proven.unsealed or 'no'} outcomes, by what the document says"),
            ("signed head", f"{proven.head.size:,} seals of {proven.head.origin}"),
            ("key", proven.key.text),
        ]
    )
