"""Whether a daemon of ours wrote an outcome, by its MAC."""

from __future__ import annotations

from daemon.credentials.keys import Vault
from eventstore.postgres.connect import Database
from eventstore.progress.outcome_macs import OutcomeKey
from eventstore.queries.auditing.outcomes import SignedOutcome
from eventstore.seals import stored, turns
from eventstore.seals.snapshots import SnapshotRow
from eventstore.seals.stored import SealRow


class OutcomeCheck:
    """`fault` says what is wrong with an outcome. Those from before there were any MACs may have none, and so may those
    that were not sealed then.
    """

    def __init__(self, key: OutcomeKey, last: SealRow | None, origin: str) -> None:
        """`last` is the seal before the first whose outcomes all have one, None if it is not made yet."""
        self._macs = key.macs
        self._first_seal = key.first_seal
        self._is_over = last is not None or key.first_seal == 1
        is_of_present = last is not None and last.origin == origin
        self._shown = SnapshotRow([(last.n, last.snap)] if last is not None and is_of_present else [])

    @classmethod
    async def read(cls, database: Database, vault: Vault) -> OutcomeCheck | None:
        """That of a database; None if its check value is gone. Raises WrongMasterKey and SchemaMismatch."""
        key = await vault.outcome_key(database)
        if key is None:
            return None
        before = key.first_seal - 1
        return cls(key, (await stored.of_numbers(database, [before])).get(before), await turns.origin(database))

    def fault(self, outcome: SignedOutcome) -> str | None:
        """What is wrong, with the outcome as the subject; None if nothing is."""
        if outcome.mac is None:
            return None if self._may_have_none(outcome) else "has no MAC: no daemon wrote it"
        return None if self._macs.is_right(outcome.row, outcome.mac) else "is not as a daemon wrote it"

    def _may_have_none(self, outcome: SignedOutcome) -> bool:
        if not self._is_over:
            return True
        if outcome.seal is not None:
            return outcome.seal < self._first_seal
        return self._shown.first_to_show(outcome.txid) is not None
