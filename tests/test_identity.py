import enum
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.events import ID_BYTES_MAX
from session_exporter.identity import IdError, canonical_id, required_id

UUID = uuid.UUID("0b5e7c1e-6f62-4a53-9a3c-111111111111")


class Kind(str, enum.Enum):  # noqa: UP042 - what applications written before Python 3.11 have
    CHAT = "chat"


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("asked for its text")


def test_a_text_is_taken_as_it_is() -> None:
    assert canonical_id(" Ünï-7 ") == " Ünï-7 "


@pytest.mark.parametrize("value", [str(UUID), UUID, str(UUID).encode()])
def test_a_uuid_is_the_same_id_as_its_text(value: Any) -> None:
    assert canonical_id(value) == "0b5e7c1e-6f62-4a53-9a3c-111111111111"


@pytest.mark.parametrize("value", [42, "42", b"42"])
def test_an_int_is_the_same_id_as_its_digits(value: Any) -> None:
    assert canonical_id(value) == "42"


def test_bytes_that_are_no_text_are_an_id_in_hexadecimal() -> None:
    assert canonical_id(b"\xff\x00\x10") == "ff0010"


def test_no_id_is_the_empty_text() -> None:
    assert canonical_id(None) == ""


def test_an_enumeration_of_texts_gives_its_value() -> None:
    assert canonical_id(Kind.CHAT) == "chat"


def test_a_subclass_of_str_gives_its_characters_whatever_it_says_about_itself() -> None:
    text = canonical_id(Shouting("s-1"))
    assert type(text) is str
    assert text == "s-1"


def test_256_bytes_are_kept_and_257_become_a_digest() -> None:
    assert canonical_id("x" * 256) == "x" * 256
    assert canonical_id("x" * 257).startswith("blake2b:")
    assert canonical_id("x" * 257) != canonical_id("x" * 258)


def test_length_is_counted_in_bytes() -> None:
    assert canonical_id("ü" * 128) == "ü" * 128
    assert canonical_id("ü" * 129).startswith("blake2b:")


def test_a_lone_surrogate_is_made_encodable() -> None:
    assert canonical_id("a\udc80") == "a\\udc80"


@pytest.mark.parametrize("value", [True, 1.5, {}, [], object(), ("a",), type])
def test_what_is_no_id_is_refused_with_the_names_of_argument_and_type(value: Any) -> None:
    with pytest.raises(IdError, match=f"^session must be a str, UUID, int or bytes, not {type(value).__name__}$"):
        canonical_id(value, "session")


@pytest.mark.parametrize("value", [None, "", b""])
def test_an_empty_id_is_refused_where_one_is_required(value: Any) -> None:
    with pytest.raises(IdError, match=r"^session must not be empty$"):
        required_id(value, "session")


@given(st.text(st.characters(), max_size=400) | st.binary(max_size=400) | st.integers() | st.uuids())
def test_every_id_is_at_most_256_bytes_of_utf_8_and_stays_the_same_when_made_again(value: Any) -> None:
    text = canonical_id(value)
    assert len(text.encode("utf-8")) <= ID_BYTES_MAX
    assert canonical_id(text) == text
