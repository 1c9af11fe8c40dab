"""Each digest falls into one partition, and each partition is somebody's."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.pseudonyms import DIGEST_BYTES, Pseudonyms
from session_exporter.core.shares import PARTITIONS_MAX, Share, partition_of

digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
partitions = st.integers(1, PARTITIONS_MAX)


@given(digests, partitions)
def test_a_digest_falls_into_one_of_the_partitions(digest, number) -> None:
    assert 0 <= partition_of(digest, number) < number


@pytest.mark.parametrize(("partitions", "expected"), [(1, 0), (7, 0), (16, 11), (1000, 451), (1024, 571)])
def test_what_a_partition_is_never_changes(partitions, expected) -> None:
    """Streams and states outlive the releases that wrote them."""
    assert partition_of(Pseudonyms(b"k" * 32)["ann"], partitions) == expected


@given(digests, st.lists(st.integers(0, 3), min_size=16, max_size=16))
def test_of_those_who_share_all_partitions_exactly_one_has_a_digest(digest, owners) -> None:
    shares = [Share((p for p, owner in enumerate(owners) if owner == each), 16) for each in range(4)]
    assert sum(share.has(digest) for share in shares) == 1


@pytest.mark.parametrize("number", [2, 16, 100])
def test_partitions_are_of_one_size(number) -> None:
    names = Pseudonyms(b"k" * 32)
    sizes = Counter(partition_of(names.digest(f"user-{user}"), number) for user in range(100 * number))
    assert len(sizes) == number
    assert max(sizes.values()) < 100 + 6 * 10
    assert min(sizes.values()) > 100 - 6 * 10


def test_a_share_says_what_it_is_of() -> None:
    share = Share(range(8), 16)
    assert (share.owned, share.partitions) == (frozenset(range(8)), 16)
