import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.events import KINDS, Writer
from session_exporter.journal.decoding import damaged_bytes, split_frames
from session_exporter.journal.frame import (
    COMMITTED_OFFSET,
    HEADER_BYTES,
    KIND_INDEX,
    LOST_KINDS,
    BadHeader,
    Header,
    pack_header,
    parse_header,
)

payloads = st.lists(st.binary(min_size=1, max_size=100), max_size=10)


def frame(payload):
    return struct.pack("<II", len(payload), zlib.adler32(payload)) + payload


@given(
    st.text("0123456789abcdef-", min_size=1, max_size=94),
    st.text(max_size=300),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**63),
)
def test_a_header_is_read_as_it_was_written(identity, replica, pid, seq):
    parsed = parse_header(pack_header(Header(Writer(identity, replica, pid), seq, 5)))
    assert (parsed.writer.id, parsed.writer.pid, parsed.seq, parsed.committed) == (identity, pid, seq, HEADER_BYTES)
    assert replica.encode("utf-8", "replace").decode().startswith(parsed.writer.replica)


def test_the_committed_length_is_one_aligned_word_that_no_checksum_covers():
    raw = bytearray(pack_header(Header(Writer("w"), 1, 1)))
    assert COMMITTED_OFFSET % 8 == 0
    raw[COMMITTED_OFFSET : COMMITTED_OFFSET + 8] = (99_999).to_bytes(8, "little")
    assert parse_header(bytes(raw)).committed == 99_999


@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_damaged_header_is_refused(at, flip):
    raw = bytearray(pack_header(Header(Writer("w"), 1, 1)))
    raw[at] ^= flip
    if at in {10, 11} or COMMITTED_OFFSET <= at < COMMITTED_OFFSET + 8:
        parse_header(bytes(raw))
    else:
        with pytest.raises(BadHeader):
            parse_header(bytes(raw))


@given(payloads)
def test_frames_are_split_as_they_were_joined(parts):
    joined = b"".join(map(frame, parts))
    found, taken = split_frames(joined)
    assert [bytes(part) for part in found] == parts
    assert taken == len(joined)


@given(payloads, st.integers(0, 2000))
def test_a_cut_run_is_split_up_to_its_last_whole_frame(parts, cut):
    joined = b"".join(map(frame, parts))[:cut]
    found, taken = split_frames(joined)
    assert [bytes(part) for part in found] == parts[: len(found)]
    assert len(joined) - taken < 108


def test_a_damaged_frame_is_stepped_over_when_its_length_can_be_believed():
    bad = struct.pack("<II", 3, 0) + b"bad"
    assert damaged_bytes(bad) == len(bad)
    assert damaged_bytes(bad + frame(b"good")) == len(bad)
    assert damaged_bytes(bad + b"not a frame") == len(bad) + 11
    assert damaged_bytes(b"1234") == 4
    assert damaged_bytes(bytes(100)) == 100


def test_every_kind_has_its_place_in_the_table_of_losses():
    assert {tag: LOST_KINDS[index] for tag, index in KIND_INDEX.items()} == {
        kind.__struct_config__.tag: name for kind, name in KINDS.items()
    }
    assert len(LOST_KINDS) <= 16
