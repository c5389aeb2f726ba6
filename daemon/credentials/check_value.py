"""The check value of the master key: a text in the database, sealed under that key, which tells that it is the right
one.

It also says what must be known of the database by somebody who has the key, and not by who can only write to it. Since
version 8 of the schema tokens, sessions and login links have MACs. Since version 9 outcomes, manual retries and replays
have, by a key that stands there, with the number of the first seal of which every such row has one.
"""

from __future__ import annotations

import re
import secrets

from eventstore.postgres.errors import SchemaMismatch
from eventstore.progress.log_macs import KEY_BYTES, LogKey, LogMacs

_OF_VERSION_9 = re.compile(rb"hookledger 9 (\d{1,18}) ([0-9a-f]{%d})" % (2 * KEY_BYTES))
# By the version that wrote it first.
_TEXTS = {1: re.compile(rb"hookledger"), 8: re.compile(rb"hookledger 8"), 9: _OF_VERSION_9}
_LOOK = "look for who has written to it, and restore a backup"


def new_text(*, first_seal: int = 1) -> bytes:
    """That of a database of version 9, with a new key."""
    return b"hookledger 9 %d %s" % (first_seal, secrets.token_hex(KEY_BYTES).encode())


def text_of(version: int, before: bytes, *, first_seal: int) -> bytes:
    """That of a database which comes to version 8 or 9, from the one that it had. Raises SchemaMismatch if it was of
    that version already.
    """
    if not any(text.fullmatch(before) for since, text in _TEXTS.items() if since < version):
        raise SchemaMismatch(
            "this database had a newer schema before: somebody has taken it back, maybe to write to it meanwhile",
            hint=_LOOK,
        )
    return b"hookledger 8" if version == 8 else new_text(first_seal=first_seal)


def log_key_in(text: bytes) -> LogKey:
    """The key of a database of version 9. Raises SchemaMismatch if the text is not of that version."""
    found = _OF_VERSION_9.fullmatch(text)
    if found is None:
        raise SchemaMismatch(
            "the check value of the master key is from before this version: somebody has exchanged it, or the schema",
            hint=_LOOK,
        )
    return LogKey(first_seal=int(found[1]), macs=LogMacs(bytes.fromhex(found[2].decode())))
