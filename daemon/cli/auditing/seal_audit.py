"""The part of `hookledger audit` that is about seals: which keys are ours, where heads were kept, what was found."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from daemon.cli import peer
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.config import Config
from daemon.core.sealing.head import MalformedHead, PublicSealKey
from daemon.sealing.anchoring.anchors import Anchor, BadAnchors, parse_anchors
from daemon.sealing.report import UNKNOWN_SIGNER, SealReport
from daemon.store import seal_keys_of
from daemon.web.http import shapes

# A year of heads, one each minute.
ANCHOR_BYTES = 256 << 20
_KEY_BYTES = 64 << 10

anchors_option = click.option(
    "--anchors",
    metavar="FILE|URL",
    help="Signed heads that were kept elsewhere: all of them must be heads of these seals.",
)
key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The public key, as GET /v1/seals/key shows it [the configured master key's].",
)


def anchors_in(place: str | None) -> list[Anchor]:
    """The heads in a file or an answer, none without one. Raises CliError."""
    if place is None:
        return []
    try:
        if place.startswith(("http://", "https://")):
            raw = peer.get(place, most_bytes=ANCHOR_BYTES, follows=True)
        else:
            raw = read(Path(place), ANCHOR_BYTES)
        return parse_anchors(raw.decode())
    except OSError as error:
        raise CliError(
            f"{place} cannot be read: {error.strerror}", hint="give a file of anchors, or its URL"
        ) from error
    except UnicodeDecodeError as error:
        raise CliError(f"{place} is no text", hint="give a file that seal.anchor_file has filled") from error
    except BadAnchors as error:
        raise CliError(f"{place}: {error}", hint="compare it with another copy of the heads") from error


def read(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file, which may also be a device without an end. Raises CliError if there are more."""
    with path.open("rb") as file:
        raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise CliError(f"{path} has more than {most_bytes:,} bytes", hint="see whether it is the right file")
    return raw


def public_key_in(path: Path) -> PublicSealKey:
    """The public key in a file: a line of text, or the JSON of GET /v1/seals/key. Raises CliError."""
    try:
        return PublicSealKey.parse(_key_text(read(path, _KEY_BYTES).decode()))
    except (MalformedHead, UnicodeDecodeError) as error:
        hint = "save what GET /v1/seals/key answers, or the text of its key alone"
        raise CliError(f"{path}: {error}", hint=hint) from error


def _key_text(text: str) -> str:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return str(answer["key"]) if isinstance(answer, dict) and "key" in answer else text


def known_keys(config: Config, key_file: Path | None) -> list[bytes]:
    """The public keys that are ours: the one in a file if it is given, those of our master keys, and former ones."""
    given = [] if key_file is None else [public_key_in(key_file).key]
    return [*given, *(key.public for key in seal_keys_of(config)), *config.seal.former_public_keys]


def document(report: SealReport) -> dict[str, object]:
    """The report as JSON."""
    return {
        "seals": report.seals,
        "sealed_until": shapes.moment(report.sealed_until),
        "judged": report.judged,
        "rows": report.rows,
        "dropped": report.dropped,
        "anchors": report.anchors,
        "signer_known": report.is_signer_known,
        "gaps": report.gaps,
        "findings": [{"part": f.part, "seal": f.seal, "detail": f.detail} for f in report.findings],
    }


def show(report: SealReport) -> None:
    """The report on a terminal."""
    if report.dropped:
        output.note(f"{report.dropped:,} parts of seals are no longer kept, and were not compared")
    for gap in report.gaps:
        output.note(f"{gap}: give --key, as GET /v1/seals/key shows it" if gap == UNKNOWN_SIGNER else gap)
    if report.broken_off is not None:
        output.note(f"the comparison broke off with: {output.plain(report.broken_off)}")
    rows = [(f.part, f.seal, f.detail) for f in report.findings]
    output.table(("part", "seal", "finding"), rows, empty=_without_findings(report))
    output.fields(
        [
            ("seals", f"{report.seals:,}"),
            ("sealed until", "never" if report.sealed_until is None else output.cell(report.sealed_until)),
            ("rows compared", f"{report.rows:,} of {report.judged:,} seals"),
            ("anchors", f"{report.anchors:,}"),
        ]
    )


def _without_findings(report: SealReport) -> str:
    if report.seals == 0:
        return "nothing is sealed yet"
    if report.judged == 0:
        return "the seals are whole; none of them is of this period, so no rows were compared"
    return "the seals are whole, and so are the rows that they cover"
