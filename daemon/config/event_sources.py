"""`[sources.NAME]`: topics of Kafka whose messages become events.

The one thing to know: a name stands for the positions in the log of that source (eventstore/sources), so a source that
is renamed begins anew.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from daemon.config.values import (
    Brokers,
    Expression,
    FilePath,
    GroupName,
    SecretText,
    Section,
    SourceUser,
    Topics,
)

SECTION: Final = "sources"
# How their sections begin, also as parts of the names of variables.
PREFIX: Final = f"{SECTION}."
# Part of a variable's name, where two underscores separate.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
MAX_NAME_CHARACTERS: Final = 64
NAME_RULE: Final = "a name has a-z, 0-9 and single underscores, begins with a letter, and has at most 64 characters"


class SourceFormat(StrEnum):
    """What the messages of a source are."""

    HOOKLEDGER = "hookledger"
    CLOUDEVENTS = "cloudevents"
    MAPPED = "mapped"


class SourceBegin(StrEnum):
    """Where a source begins in a partition that it has no position in."""

    EARLIEST = "earliest"
    LATEST = "latest"


class SaslMechanism(StrEnum):
    PLAIN = "plain"
    SCRAM_SHA_256 = "scram-sha-256"
    SCRAM_SHA_512 = "scram-sha-512"


class SourceSection(Section):
    """One source. The expressions make an event of a message whose format is `mapped`."""

    brokers: Brokers
    topics: Topics
    group: GroupName | None = None
    begin: SourceBegin = SourceBegin.EARLIEST
    format: SourceFormat = SourceFormat.HOOKLEDGER
    filter: Expression | None = None
    tenant: Expression | None = None
    type: Expression | None = None
    id: Expression | None = None
    occurred_at: Expression | None = None
    data: Expression | None = None
    context: Expression | None = None
    snapshot: Expression | None = None
    tls: bool = False
    ca_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: FilePath | None = None
    sasl: SaslMechanism | None = None
    username: SourceUser | None = None
    password: SecretText | None = None

    @property
    def expressions(self) -> dict[str, str]:
        """The expressions that are given, by the field of the event that each makes."""
        return {name: text for name in EXPRESSIONS if (text := getattr(self, name)) is not None}


# The expressions for fields of an event. `filter` is none of them.
EXPRESSIONS: Final = ("tenant", "type", "id", "occurred_at", "data", "context", "snapshot")
REQUIRED_EXPRESSIONS: Final = ("tenant", "type", "data")


def group_of(name: str, section: SourceSection) -> str:
    """The group of Kafka in which daemons share the partitions."""
    return section.group or f"hookledger.{name}"


def name_problem(name: str) -> str | None:
    """Why a source cannot have that name, None if it can."""
    return None if NAME.fullmatch(name) and len(name) <= MAX_NAME_CHARACTERS else NAME_RULE


def problems_within(section: SourceSection) -> Iterator[tuple[str, str]]:
    """What is wrong with values beside each other: the key to set, and what to do."""
    if section.format is SourceFormat.MAPPED:
        for name in REQUIRED_EXPRESSIONS:
            if getattr(section, name) is None:
                yield name, 'is missing: with format = "mapped" a JMESPath expression says what it is'
    else:
        for name in ("filter", *section.expressions):
            if getattr(section, name) is not None:
                yield name, f'is for format = "mapped", and the format is "{section.format}"; remove one of them'
    yield from _problems_of_access(section)


def _problems_of_access(section: SourceSection) -> Iterator[tuple[str, str]]:
    for name in ("ca_file", "certificate_file", "key_file"):
        file = getattr(section, name)
        if isinstance(file, Path) and not section.tls:
            yield name, "is for TLS; set tls = true, or remove it"
        elif isinstance(file, Path) and not file.is_file():
            yield name, f"no file {file}; name a PEM file"
    if (section.certificate_file is None) != (section.key_file is None):
        missing = "key_file" if section.key_file is None else "certificate_file"
        yield missing, "is missing: a certificate of ours is proved by its key; set both, or neither"
    for name in ("username", "password"):
        if section.sasl is not None and getattr(section, name) is None:
            also = ", better in a file: HOOKLEDGER_SOURCES__<NAME>__PASSWORD_FILE" if name == "password" else ""
            yield name, f'is missing: sasl = "{section.sasl}" takes one{also}'
        elif section.sasl is None and getattr(section, name) is not None:
            mechanisms = ", ".join(SaslMechanism)
            yield "sasl", f"is missing beside {name}: set it to one of {mechanisms}, as the brokers want it"


def problems_between(sections: Mapping[str, SourceSection]) -> Iterator[tuple[str, str]]:
    """What is wrong with sources beside each other: the name of the source, and what to do. Two in one group would each
    get a part of the partitions.
    """
    groups: dict[str, str] = {}
    for name, section in sections.items():
        other = groups.setdefault(group_of(name, section), name)
        if other != name:
            yield name, f"{group_of(name, section)} is the group of {other} too; each source needs one of its own"
