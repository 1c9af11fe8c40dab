"""Any event at all, as hypothesis draws it."""

from hypothesis import strategies as st
from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.scopes import DB_ERRORS, VIOLATIONS
from session_exporter.core.travelling import text_of
from session_exporter.stream.rewriting import FIELDS, ID

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
# Two of them are not declared.
SCOPES = ["default", "other", "chat", "cart", "~cart"]
WRITER = wire.Writer("boot-17-a9", "pod-a", 17)

# Long enough that none stands in an event by chance; one looks as if it were the text of a digest.
ids = st.one_of(
    st.just(""),
    st.sampled_from(["id-of-ann", "id-of-bob"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=24).map("id-{}".format),
    st.binary(min_size=15, max_size=15).map(text_of),
)
times = st.integers(START, START + 3600 * SECOND)
_VALUES = {
    "at_us": times,
    "scope": st.sampled_from(SCOPES),
    "trace": st.sampled_from([b"", b"t" * 16]),
    "sites": st.sampled_from([(), ("app/handlers.py:12 handle", "app/store.py:7 get")]),
    "kind": st.sampled_from(VIOLATIONS),
    "errors": st.dictionaries(st.sampled_from(DB_ERRORS), st.integers(0, 9), max_size=2),
    "origin": st.sampled_from([wire.RESULT, wire.UPSERT, wire.ROW]),
    "kept": st.just(value=False),  # no worker says so
    "halved": st.just(value=False),  # nor so
    "missed": st.sampled_from([wire.OTHER_USED, wire.MISSED_BY_USER, wire.MISSED_BY_ID]),
}
_BY_TYPE = {bool: st.booleans(), int: st.just(0) | times, str: st.sampled_from(["", "words"])}


def of(kind):
    """Events of a kind."""
    return st.builds(kind, **{field.name: _values(field) for field in structs.fields(kind)})


def _values(field):
    if FIELDS[field.name] == ID:
        return ids
    return _VALUES[field.name] if field.name in _VALUES else _BY_TYPE[type(field.default)]


events = st.sampled_from(sorted(wire.KINDS, key=str)).flatmap(of)


def ids_in(event):
    """The application's ids in an event."""
    return [getattr(event, name) for name in type(event).__struct_fields__ if FIELDS[name] == ID]
