"""The bytes of a segment: a header of fixed size, then frames.

A frame is the payload's length (u32), its Adler-32 (u32) and the payload: one event as a MessagePack array, in the wire
form of `core.events`. The header's committed length is an offset from the start of the file and always the end of a
frame; what lies behind it does not exist yet. All integers are little endian.
"""

import struct
import zlib
from typing import Final

import msgspec

from session_exporter.core.events import KINDS, Writer

MAGIC: Final = b"SXJOURN\n"
VERSION: Final = 1
HEADER_BYTES: Final = 512
SEGMENT_BYTES: Final = 256 * 1024
# Sixteen times the largest event that the tracker makes: every id at 256 bytes and four call sites of 200 characters.
PAYLOAD_BYTES_MAX: Final = 16 * 1024
FRAME: Final = struct.Struct("<II")
FRAME_BYTES: Final = FRAME.size
# A frame is whole before the committed length covers it, so its checksum guards against foreign writes and bad disks
# only: a changed byte never passes. Adler-32 takes a third of the time of CRC-32 on a hundred bytes, and that time is
# the application's.
checksum = zlib.adler32
WRITER_ID_BYTES_MAX: Final = 94
REPLICA_BYTES_MAX: Final = 255
# The committed length is the third 64-bit word of the header, so that one aligned store publishes it.
COMMITTED_WORD: Final = 2
COMMITTED_OFFSET: Final = 8 * COMMITTED_WORD

LOST_REASONS: Final = (
    "worker_limit",
    "directory_limit",
    "disk_full",
    "unavailable",
    "too_large",
    "spill_overflow",
    "encoding",
)
LOST_KINDS: Final = ("unknown", *KINDS.values())
KIND_INDEX: Final[dict[object, int]] = {kind.__struct_config__.tag: index for index, kind in enumerate(KINDS, start=1)}

# magic, version, flags, crc of what follows the committed length, committed length, sequence number, creation time
_HEAD: Final = struct.Struct("<8sHHIQQQ")
_CHECKED_FROM: Final = COMMITTED_OFFSET + 8
# As for event times.
_TIME_MAX_US: Final = 9_000_000_000_000_000
_ID_AT: Final = _HEAD.size
_ABOUT_AT: Final = _ID_AT + 2 + WRITER_ID_BYTES_MAX
_ABOUT_BYTES_MAX: Final = HEADER_BYTES - _ABOUT_AT - 2


class BadHeader(ValueError):
    """The file does not start as a segment does; the message says what was found."""


class Header(msgspec.Struct, frozen=True):
    """What a segment says about itself.

    Attributes:
        writer: Who writes it.
        seq: Its number among this writer's segments, from 1.
        created_at_us: When it was made; microseconds since the epoch, the writer's clock.
        committed: Offset of the end of the last whole frame, bytes from the start of the file.
    """

    writer: Writer
    seq: int
    created_at_us: int
    committed: int = HEADER_BYTES


class _About(msgspec.Struct):
    replica: str = ""
    pid: int = 0


def shortened(text: str, size_bytes: int) -> bytes:
    """UTF-8 of `text`, cut at a character's end to at most `size_bytes`."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= size_bytes else raw[:size_bytes].decode("utf-8", "ignore").encode()


def segment_name(writer_id: str, seq: int) -> str:
    """The file name of a segment."""
    return f"{writer_id}.{seq:08d}.seg"


def pack_header(header: Header) -> bytes:
    """The `HEADER_BYTES` bytes that a new segment starts with."""
    writer = header.writer
    identity = shortened(writer.id, WRITER_ID_BYTES_MAX)
    replica = shortened(writer.replica, REPLICA_BYTES_MAX).decode()
    about = msgspec.msgpack.encode(_About(replica=replica, pid=writer.pid))
    rest = struct.pack("<QQ", header.seq, header.created_at_us)
    rest += struct.pack(f"<H{WRITER_ID_BYTES_MAX}s", len(identity), identity)
    rest += struct.pack(f"<H{_ABOUT_BYTES_MAX}s", len(about), about)
    return struct.pack("<8sHHIQ", MAGIC, VERSION, 0, zlib.crc32(rest), header.committed) + rest


def parse_header(raw: bytes) -> Header:
    """Read a header back.

    Raises:
        BadHeader: It is too short, of another version, or damaged.
    """
    if len(raw) < HEADER_BYTES:
        raise BadHeader(f"{len(raw)} bytes, expected a header of {HEADER_BYTES}")
    magic, version, _, checksum, committed, seq, created_at_us = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise BadHeader(f"magic {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise BadHeader(f"version {version}, expected {VERSION}")
    if zlib.crc32(raw[_CHECKED_FROM:HEADER_BYTES]) != checksum:
        raise BadHeader("the header's checksum does not match")
    try:
        identity = _counted(raw, _ID_AT, WRITER_ID_BYTES_MAX).decode("ascii")
        about = msgspec.msgpack.decode(_counted(raw, _ABOUT_AT, _ABOUT_BYTES_MAX), type=_About)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise BadHeader(f"the writer's description is damaged: {error}") from error
    return Header(Writer(identity, about.replica, about.pid), seq, min(created_at_us, _TIME_MAX_US), committed)


def _counted(raw: bytes, at: int, size_bytes_max: int) -> bytes:
    (size,) = struct.unpack_from("<H", raw, at)
    if size > size_bytes_max:
        raise BadHeader(f"a field of {size} bytes, at most {size_bytes_max} fit")
    return raw[at + 2 : at + 2 + size]
