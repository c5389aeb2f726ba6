"""Whether a daemon or a command of ours wrote an outcome, a manual retry or a replay, by its MAC."""

from __future__ import annotations

from daemon.credentials.keys import Vault
from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import LogKey, is_right
from eventstore.queries.auditing.signed_rows import SignedOutcome, SignedRequest
from eventstore.seals import stored, turns
from eventstore.seals.snapshots import SnapshotRow
from eventstore.seals.stored import SealRow


class MacCheck:
    """`fault` says what is wrong with a row. Those from before there were any MACs may have none, and so may those that
    were not sealed then.
    """

    def __init__(self, key: LogKey, last: SealRow | None, origin: str) -> None:
        """`last` is the seal before the first whose rows all have one, None if it is not made yet."""
        self._macs = key.macs
        self._first_seal = key.first_seal
        self._is_over = last is not None or key.first_seal == 1
        is_of_present = last is not None and last.origin == origin
        self._shown = SnapshotRow([(last.n, last.snap)] if last is not None and is_of_present else [])

    @classmethod
    async def read(cls, database: Database, vault: Vault) -> MacCheck | None:
        """That of a database; None if its check value is gone. Raises WrongMasterKey and SchemaMismatch."""
        key = await vault.log_key(database)
        if key is None:
            return None
        before = key.first_seal - 1
        return cls(key, (await stored.of_numbers(database, [before])).get(before), await turns.origin(database))

    def fault(self, row: SignedOutcome | SignedRequest) -> str | None:
        """What is wrong, with the row as the subject; None if nothing is."""
        if row.mac is None:
            return None if self._may_have_none(row) else "has no MAC: nobody with the master key wrote it"
        return None if is_right(row.mac, row.mac_by(self._macs)) else "is not as somebody with the master key wrote it"

    def _may_have_none(self, row: SignedOutcome | SignedRequest) -> bool:
        if not self._is_over:
            return True
        if row.seal is not None:
            return row.seal < self._first_seal
        return self._shown.first_to_show(row.txid) is not None


def name_of(row: SignedOutcome | SignedRequest) -> str:
    """What a row is called: "outcome 2 (failed)", "manual retry 7", "replay <id>"."""
    if isinstance(row, SignedOutcome):
        return f"outcome {row.row.number} ({row.row.outcome})"
    return f"{'manual retry' if row.table == 'resend' else 'replay'} {row.value('id')}"
