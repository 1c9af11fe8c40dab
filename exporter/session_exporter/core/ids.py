r"""Ids: their formats, and ids of one generation.

Two formats have names. `uuid` is the hyphenated text of a UUID. `unified` is `<prefix>_<ms>_<counter>_<hex>`:

    thread_<operation>_<ms>_<n>_<hex8>    thread_create_session_1757362890388_208_da48bfda
    run_<ms>_<n>_<hex8>                   run_1757362890388_208_da48bfda
    req_<ms>_<n>_<hex8>                   req_1757362890388_208_da48bfda

where `ms` is milliseconds since the Unix epoch in 13 digits, `n` a counter of the process and `hex8` eight lower-case
hexadecimal digits of randomness. The three ids of one generation share `ms`, `n` and `hex8`.

Ids come from strangers. Every expression here is anchored with `\A` and `\Z` (`$` would accept a newline at the end)
and counts ASCII digits only.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import uuid4

from session_exporter.core.events import ID_BYTES_MAX
from session_exporter.core.idpatterns import pattern_fault, search_of
from session_exporter.core.idtext import canonical_id, required_id, shown

Verdict: TypeAlias = Literal["canonical", "legacy", "invalid"]

# What an id of a kind begins with in the unified format.
PREFIXES: Final = {"session": "session", "user": "user", "thread": "thread", "run": "run", "request": "req"}
# Kinds whose ids are UUIDs in most databases; both formats are right for them.
_UUID_KINDS: Final = frozenset({"session", "user"})

_KINDS_BY_PREFIX: Final = {prefix: kind for kind, prefix in PREFIXES.items()}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_OPERATION: Final = re.compile(r"\A[A-Za-z0-9_.-]{1,64}\Z")
_TOKEN: Final = re.compile(r"\A[0-9a-f]{8}\Z")
_UUID: Final = re.compile(
    r"\A[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE
)
# No leading zeros: an id is read in one way and written in the same.
_UNIFIED: Final = re.compile(
    r"\A([a-z][a-z0-9]{0,31})(?:_([A-Za-z0-9_.-]{1,64}))?_([1-9][0-9]{12})_(0|[1-9][0-9]{0,17})_([0-9a-f]{8})\Z"
)
_INTEGER: Final = re.compile(r"\A-?[0-9]+\Z")
_HEX: Final = re.compile(r"\A(?:[0-9a-f]{8,}|[0-9A-F]{8,})\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# next() on it is atomic; a forked process continues the count, and the random part keeps its ids apart.
_GENERATIONS: Final = count(1)


class ContextIds(NamedTuple):
    """The ids of one generation."""

    thread_id: str
    run_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ParsedId:
    """A unified id, taken apart; `str()` puts it together again.

    Attributes:
        prefix: The first word, such as `req`.
        operation: What stands between prefix and time, `""` when nothing does; may contain underscores.
        at_ms: When it was generated, milliseconds since the Unix epoch.
        counter: The number of the generation within its process.
        hex: Eight lower-case hexadecimal digits.
    """

    prefix: str
    operation: str
    at_ms: int
    counter: int
    hex: str

    @property
    def kind(self) -> str:
        """`session`, `user`, `thread`, `run` or `request`; `""` for a prefix of somebody else."""
        return _KINDS_BY_PREFIX.get(self.prefix, "")

    @property
    def at(self) -> datetime:
        """When it was generated, UTC."""
        return _EPOCH + timedelta(milliseconds=self.at_ms)

    @property
    def generation(self) -> tuple[int, int, str]:
        """What the ids of one generation have in common."""
        return self.at_ms, self.counter, self.hex

    def __str__(self) -> str:
        words = (self.prefix, self.operation, str(self.at_ms), str(self.counter), self.hex)
        return "_".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class IdFormat:
    r"""The format that ids of one kind are declared to have.

    Expressions are searched for, as `re.search` does: anchor them. `\d` and `\w` mean ASCII. An id that is longer than
    256 bytes or holds control characters is invalid whatever the expressions say.

    Args:
        pattern: `uuid`, `unified` or a regular expression.
        legacy: The format that ids had before and that is still tolerated; the same choice.
        kind: With `unified`, the kind whose prefix is asked for; `""` accepts every prefix.

    Raises:
        ValueError: A pattern is no preset and no fit expression, or the kind is none.
    """

    pattern: str
    legacy: str | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        for pattern in (self.pattern, self.legacy):
            if pattern is not None and (fault := pattern_fault(pattern)):
                raise ValueError(f"id format {shown(pattern)} is {fault}")
        if self.kind:
            _prefix(self.kind)

    def classify(self, id_: object) -> Verdict:
        """Tell whether `id_` has the declared format, the legacy one, or neither; anything but text is invalid."""
        if not isinstance(id_, str) or not _is_harmless(id_):
            return "invalid"
        if self._matches(self.pattern, id_):
            return "canonical"
        return "legacy" if self.legacy is not None and self._matches(self.legacy, id_) else "invalid"

    def _matches(self, pattern: str, id_: str) -> bool:
        if pattern == "uuid":
            return _UUID.match(id_) is not None
        if pattern == "unified":
            return _unified(id_, self.kind) is not None
        return search_of(pattern)(id_) is not None


def generate_context_ids(
    user: object, operation: str = "context", *, now_ms: int | None = None, token: str | None = None
) -> ContextIds:
    """Generate thread, run and request id of one generation.

    Any thread may call it. The user is not part of the ids, which may travel where user ids may not.

    Args:
        user: For whom; refused when it is no id.
        operation: What for: letters, digits, `_`, `.` and `-`, at most 64.
        now_ms: Milliseconds since the Unix epoch, 13 digits; the system's clock when not given.
        token: Eight lower-case hexadecimal digits; random when not given.

    Raises:
        ValueError: An argument is out of its range.
    """
    required_id("user", user)
    if not _OPERATION.match(operation):
        raise ValueError(f"operation must be 1 to 64 letters, digits, '_', '.' or '-', got {shown(operation)}")
    at_ms = _checked_ms(now_ms)
    token = uuid4().hex[:8] if token is None else token
    if not _TOKEN.match(token):
        raise ValueError(f"token must be 8 lower-case hexadecimal digits, got {shown(token)}")
    generation = f"{at_ms}_{next(_GENERATIONS)}_{token}"
    return ContextIds(f"thread_{operation}_{generation}", f"run_{generation}", f"req_{generation}")


def parse_id(id_: object) -> ParsedId | None:
    """Take a unified id apart; None when it is not of the unified format (whatever it is: this never raises)."""
    match = _UNIFIED.match(id_) if isinstance(id_, str) else None
    if match is None:
        return None
    prefix, operation, at_ms, counter, token = match.groups()
    return ParsedId(prefix, operation or "", int(at_ms), int(counter), token)


def is_valid_id(id_: object, kind: str) -> bool:
    """Tell whether an id is right for its kind.

    Args:
        id_: Anything; what is no text is not valid.
        kind: `thread`, `run` and `request` (or `req`) have to be unified ids with the prefix of the kind, a thread
            with an operation and the others without; `session` and `user` may be UUIDs as well.

    Raises:
        ValueError: There is no such kind.
    """
    prefix = _prefix(kind)
    if not isinstance(id_, str):
        return False
    return _unified(id_, prefix) is not None or (prefix in _UUID_KINDS and _UUID.match(id_) is not None)


def validate_thread_id(id_: object) -> str:
    """Give the thread id back when it is one.

    Raises:
        ValueError: It is none; the message names the id and what was expected.
    """
    if isinstance(id_, str) and is_valid_id(id_, "thread"):
        return id_
    fault = "" if isinstance(id_, str) and id_.startswith("thread_") else " does not begin with 'thread_':"
    raise ValueError(f"thread id {shown(id_)}{fault} expected thread_<operation>_<ms>_<n>_<hex8>")


def same_generation(thread: object, run: object, request: object) -> bool:
    """Tell whether thread, run and request id were generated together.

    False as well when one of them is no unified id of its kind: whoever has to tell a mismatch from "cannot tell"
    asks `parse_id` first.
    """
    if not (is_valid_id(thread, "thread") and is_valid_id(run, "run") and is_valid_id(request, "request")):
        return False
    return len(generations_of(thread, run, request)) == 1


def generations_of(thread: object, run: object, request: object) -> set[tuple[str, ...]]:
    """The generations of those ids that are unified ids of their kind; two or more tell that ids do not match."""
    matches = (_unified(thread, "thread"), _unified(run, "run"), _unified(request, "request"))
    return {match.group(3, 4, 5) for match in matches if match is not None}


def shape_of(id_: object) -> str:
    """Describe the format of an id without telling the id.

    Returns:
        One of a bounded set: `uuid4` (or another version), `thread_<op>_<ms>_<n>_<hex8>` and the like, `int`, `hex32`
        (or another length), `text(12)` with the number of characters, `text(>256)`, or `none` for what is no id.
    """
    try:
        text = canonical_id(id_) if not isinstance(id_, str) else id_
    except TypeError:
        return "none"
    if len(text) > ID_BYTES_MAX:
        return f"text(>{ID_BYTES_MAX})"
    if match := _UUID.match(text):
        return f"uuid{match[1]}" if match[1] in "12345678" else "uuid"
    if parsed := parse_id(text):
        prefix = parsed.prefix if parsed.kind else "<prefix>"
        return f"{prefix}_<op>_<ms>_<n>_<hex8>" if parsed.operation else f"{prefix}_<ms>_<n>_<hex8>"
    if _INTEGER.match(text):
        return "int"
    return f"hex{len(text)}" if _HEX.match(text) else f"text({len(text)})"


def _prefix(kind: str) -> str:
    prefix = PREFIXES.get(kind, kind)
    if prefix not in _KINDS_BY_PREFIX:
        raise ValueError(f"kind must be one of {', '.join(PREFIXES)}, got {shown(kind)}")
    return prefix


def _unified(id_: object, kind: str) -> re.Match[str] | None:
    match = _UNIFIED.match(id_) if isinstance(id_, str) else None
    if match is None or not kind:
        return match
    prefix = _prefix(kind)
    return match if match[1] == prefix and bool(match[2]) == (prefix == "thread") else None


def _is_harmless(id_: str) -> bool:
    if not 0 < len(id_) <= ID_BYTES_MAX or _CONTROL.search(id_):
        return False
    return id_.isascii() or len(id_.encode()) <= ID_BYTES_MAX


def _checked_ms(now_ms: int | None) -> int:
    if now_ms is None:
        return (datetime.now(tz=UTC) - _EPOCH) // timedelta(milliseconds=1)
    if not 10**12 <= now_ms < 10**13:
        raise ValueError(f"now_ms must be milliseconds since the Unix epoch in 13 digits, got {shown(now_ms)}")
    return now_ms
