"""Ids as keyed digests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.pseudonyms import DIGEST_BYTES, Pseudonyms

KEY = b"k" * 32
ids = st.text(max_size=40)


@given(ids, ids)
def test_equal_ids_have_equal_digests_and_others_have_others(one: str, other: str) -> None:
    names = Pseudonyms(KEY)
    assert (names[one] == names[other]) == (one == other)
    assert names[one] == Pseudonyms(KEY)[one]


@given(st.text(min_size=1, max_size=40))
def test_a_digest_depends_on_the_key_and_is_not_the_id(identifier: str) -> None:
    digest = Pseudonyms(KEY)[identifier]
    assert len(digest) == DIGEST_BYTES
    assert digest != Pseudonyms(b"l" * 32)[identifier]
    assert digest != identifier.encode("utf-8", "surrogatepass")


def test_no_id_stays_no_id() -> None:
    names = Pseudonyms(KEY)
    assert names[""] == b""
    assert names.label("u", b"") == ""


def test_a_label_names_the_kind_and_begins_the_digest() -> None:
    names = Pseudonyms(KEY)
    label = names.label("u", names["ann"])
    assert re.fullmatch("u:[0-9a-f]{12}", label)
    assert names["ann"].hex().startswith(label[2:])


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_a_user_with_a_key_is_another_than_without_and_than_with_another_key(user: str, key: str) -> None:
    names = Pseudonyms(KEY)
    keyed = names.keyed_user(names[user], key)
    assert keyed != names[user]
    assert keyed != names.keyed_user(names[user], key + "x")
    assert keyed != names.keyed_user(names[user + "x"], key)
    assert keyed != names[f"{user}/{key}"]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_ids_are_shown_to_whoever_asks_for_it(identifier: str) -> None:
    names = Pseudonyms(KEY, show_ids=True)
    assert names[identifier] == identifier.encode()
    assert names.label("u", names[identifier]) == identifier


def test_a_lone_surrogate_is_an_id_as_well() -> None:
    assert len(Pseudonyms(KEY)["\ud800"]) == DIGEST_BYTES
    names = Pseudonyms(KEY, show_ids=True)
    assert names.label("u", names["\ud800"]).isprintable()


def test_the_memo_is_bounded() -> None:
    names = Pseudonyms(KEY, memo_max=100)
    first = names["user0"]
    for number in range(1000):
        assert names[f"user{number}"] == names[f"user{number}"]
        assert len(names) <= 100
    assert names["user0"] == first


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_key_may_have_16_to_64_bytes(size: int) -> None:
    assert len(Pseudonyms(b"k" * size)["ann"]) == DIGEST_BYTES
