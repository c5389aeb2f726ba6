"""Rendezvous hashing: every process computes the same answer, and no shard moves without need."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.rendezvous import preferred
from eventstore.domain_events.events import SHARDS

owners = st.sets(st.text(min_size=1, max_size=20), min_size=1, max_size=8)


def shares(names: set[str]) -> dict[int, str]:
    return {shard: preferred(shard, names) for shard in range(SHARDS)}


def test_it_never_changes_since_two_versions_of_the_daemon_must_agree() -> None:
    assert "".join(preferred(shard, ("a", "b", "c")) for shard in range(16)) == "bcccaaaacabaaccb"


def test_one_process_has_all() -> None:
    assert set(shares({"alone"}).values()) == {"alone"}


@given(owners)
def test_the_order_of_the_names_does_not_matter(names: set[str]) -> None:
    assert all(
        preferred(shard, sorted(names)) == preferred(shard, sorted(names, reverse=True)) == preferred(shard, names)
        for shard in range(SHARDS)
    )


@given(owners, st.text(min_size=1, max_size=20))
def test_a_process_that_joins_takes_shards_and_moves_none_between_others(names: set[str], newcomer: str) -> None:
    before, after = shares(names), shares(names | {newcomer})
    assert all(after[shard] in (before[shard], newcomer) for shard in range(SHARDS))


@given(owners)
def test_a_process_that_leaves_moves_nothing_but_its_own(names: set[str]) -> None:
    leaver = min(names)
    if names == {leaver}:
        return
    before, after = shares(names), shares(names - {leaver})
    assert all(after[shard] == before[shard] for shard in range(SHARDS) if before[shard] != leaver)


def test_shares_are_about_equal_on_average() -> None:
    """Averaged over many incarnations of four processes. In a single one, the largest share is 6.2 of 16 on average."""
    total: Counter[str] = Counter()
    largest = 0
    for turn in range(500):
        found = Counter(name.partition(":")[0] for name in shares({f"{name}:{turn}" for name in "abcd"}).values())
        total += found
        largest += max(found.values())
    assert all(3.7 < total[name] / 500 < 4.3 for name in "abcd")
    assert largest / 500 < 6.5
