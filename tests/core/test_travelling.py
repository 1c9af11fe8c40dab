"""Ids between machines: one digest everywhere, whether it was made there or here."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.pseudonyms import DIGEST_BYTES, Pseudonyms
from session_exporter.core.travelling import MARK, TEXT_CHARS, TravelledNames, text_of

KEY = b"k" * 32
ids = st.text(max_size=40)
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)


@given(ids)
def test_whoever_hears_of_an_id_has_the_digest_of_whoever_saw_it(identifier) -> None:
    seen = Pseudonyms(KEY)[identifier]
    names = TravelledNames(KEY)
    assert names[text_of(seen)] == seen
    assert names.digest(text_of(seen)) == seen


@given(digests)
def test_every_digest_travels_as_a_short_text_of_printable_characters(digest) -> None:
    text = text_of(digest)
    assert len(text) == TEXT_CHARS
    assert text.isascii()
    assert text.isprintable()
    assert TravelledNames(KEY)[text] == digest


def test_no_id_travels_as_none() -> None:
    assert text_of(Pseudonyms(KEY)[""]) == ""
    assert TravelledNames(KEY)[""] == b""


@given(ids)
def test_what_has_not_travelled_is_digested_as_ever(identifier) -> None:
    if len(identifier) != TEXT_CHARS:
        assert TravelledNames(KEY)[identifier] == Pseudonyms(KEY)[identifier]


@pytest.mark.parametrize(
    "identifier",
    [
        MARK + "A" * 19,
        MARK + "A" * 21,
        MARK + "A" * 19 + "=",
        MARK + "A" * 18 + "==",
        MARK + "-" * 20,
        MARK + " " * 20,
        MARK + "é" * 20,
        MARK + "\ud800" * 20,
        "A" * TEXT_CHARS,
    ],
)
def test_a_text_that_only_resembles_one_that_travelled_is_digested(identifier) -> None:
    assert TravelledNames(KEY)[identifier] == Pseudonyms(KEY)[identifier]


@given(digests)
def test_an_id_that_looks_like_a_digest_where_it_is_seen_is_digested_like_any_other(digest) -> None:
    looks = text_of(digest)
    assert Pseudonyms(KEY)[looks] != digest
    assert TravelledNames(KEY)[text_of(Pseudonyms(KEY)[looks])] == Pseudonyms(KEY)[looks]


@given(st.lists(digests, min_size=2, unique=True))
def test_two_digests_have_two_texts(found) -> None:
    texts = sorted(map(text_of, found))
    assert all(first != second for first, second in pairwise(texts))


def test_the_memory_of_travelled_names_is_bounded() -> None:
    names = TravelledNames(KEY, memo_max=100)
    for number in range(1000):
        digest = number.to_bytes(DIGEST_BYTES)
        assert names[text_of(digest)] == digest
        assert len(names) <= 100
