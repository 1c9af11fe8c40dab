"""Incidents: kept in the state, bounded by count and age, and read from it, whether or not a sidecar runs."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from session_exporter.core.documents import compact, incident_document
from session_exporter.core.idtext import canonical_id
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.totals import LedgerTotals
from session_exporter.errors import StateError
from session_exporter.sidecar.records import Identity, read_meta
from session_exporter.sidecar.secrets import KEY_BYTES, PLAIN_IDS, check_value, key_path, read_key
from session_exporter.sidecar.summary import reading, selected

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_COLUMNS: Final = "number, id, at_us, scope, kind, data"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents are asked for; None for all of them.

    Attributes:
        since_s: How far back, seconds; counts only without `id` and `after`.
        scope: The scope's name.
        kind: One of `INCIDENT_KINDS`.
        cause: Of a duplicate.
        reason: Of a loss, or the kind of a violation.
        limit: At most so many.
        id: An incident's id, or the beginning of one, whatever its age.
        user: The pseudonym of somebody it is about, on either side of a border.
        after: What an earlier answer called `next`: the incidents that were committed since, the oldest first.
    """

    since_s: float = 3600.0
    scope: str | None = None
    kind: str | None = None
    cause: str | None = None
    reason: str | None = None
    limit: int = 100
    id: str | None = None
    user: str | None = None
    after: str | None = None


def store(connection: sqlite3.Connection, incidents: Iterable[Incident], most: int) -> None:
    """Store what a commit found, and let the oldest leave when there are more than `most`; within its transaction.

    An incident that is judged again after a crash is there already.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO incidents (id, at_us, scope, kind, cause, data, user, other_user)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        map(_row, incidents),
    )
    connection.execute("DELETE FROM incidents WHERE number <= (SELECT max(number) FROM incidents) - ?", (most,))


def forget(connection: sqlite3.Connection, before_us: int) -> None:
    """Forget what happened before a time."""
    connection.execute("DELETE FROM incidents WHERE at_us < ?", (before_us,))


def read_incidents(state_directory: Path, wanted: Wanted, *, now_us: int) -> dict[str, Any]:
    """The incidents that are wanted, the newest first: `{"incidents": [...], "next": "..."}`.

    With `share` as well where others count the rest of a fleet: which partitions are counted here.

    Raises:
        StateError: There is no state, or it cannot be read.
        KeyError: No scope is called `wanted.scope`.
    """
    with reading(state_directory) as connection:
        selected(read_meta(connection, "totals", LedgerTotals) or LedgerTotals(), wanted.scope)
        identity = read_meta(connection, "identity", Identity)
        state = identity.id[:8] if identity is not None else ""
        rows = _rows(connection, wanted, now_us, state)
        newest = connection.execute("SELECT coalesce(max(number), 0) FROM incidents").fetchone()[0]
    if wanted.after is not None and len(rows) == wanted.limit:
        newest = rows[-1][0]
    share = {"share": identity.share} if identity is not None and identity.share else {}
    return {"incidents": [_document(*row) for row in rows], "next": f"{state}-{newest}", **share}


def user_label(names: Pseudonyms, user: str) -> str:
    """How incidents call the user of this plain id. Any thread may call."""
    return names.label("u", names.digest(canonical_id(user)))


def label_in_state(state_directory: Path, key_file: Path | None, user: str) -> str:
    """How the incidents of a state call the user of this plain id; for whoever may read the key of its digests.

    Args:
        state_directory: Where the state is.
        key_file: Where the key is; None for the state's own.
        user: The plain id.

    Raises:
        StateError: The key cannot be read, or is not that of this state.
    """
    with reading(state_directory) as connection:
        identity = read_meta(connection, "identity", Identity)
    if identity is not None and identity.ids == PLAIN_IDS:
        return user_label(Pseudonyms(bytes(KEY_BYTES), show_ids=True), user)
    key = read_key(state_directory, key_file)
    if identity is not None and identity.ids != check_value(key):
        raise StateError(
            f"{key_path(state_directory, key_file)}: another key than that of {state_directory}; expected the sidecar's"
        )
    return user_label(Pseudonyms(key), user)


def _row(incident: Incident) -> tuple[Any, ...]:
    detail = incident.detail
    # Causes, reasons and kinds of violations are different words, and an incident has one of them.
    cause = detail.get("cause") or detail.get("reason") or detail.get("violation") or ""
    users = detail.get("user", ""), detail.get("other_user", "")
    return incident.id, incident.at_us, incident.scope, incident.kind, cause, _encode(compact(detail)), *users


def _rows(connection: sqlite3.Connection, wanted: Wanted, now_us: int, state: str) -> list[tuple[Any, ...]]:
    conditions, values = zip(*_conditions(wanted, now_us, state), strict=True)
    order = "at_us DESC, number DESC" if wanted.after is None else "number"
    sql = f"SELECT {_COLUMNS} FROM incidents WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?"  # noqa: S608 - the conditions stand below
    found = connection.execute(sql, (*(value for each in values for value in each), wanted.limit)).fetchall()
    exact = [row for row in found if row[1] == wanted.id]
    return exact or found


def _conditions(wanted: Wanted, now_us: int, state: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if wanted.id is not None:
        yield "substr(id, 1, ?) = ?", (len(wanted.id), wanted.id)
    elif wanted.after is not None:
        yield "number > ?", (_number(wanted.after, state),)
    else:
        yield "at_us >= ?", (now_us - int(wanted.since_s * 1e6),)
    for column, value in (("scope", wanted.scope), ("kind", wanted.kind), ("cause", wanted.cause)):
        if value is not None:
            yield f"{column} = ?", (value,)
    if wanted.reason is not None:
        yield "cause = ?", (wanted.reason,)
    if wanted.user is not None:
        yield "(user = ? OR other_user = ?)", (wanted.user, wanted.user)


def _number(after: str, state: str) -> int:
    """The number of the incident that was the newest then; 0 when that was in another state, which is lost."""
    of_state, _, number = after.rpartition("-")
    return int(number) if of_state == state else 0


def _document(_: int, identifier: str, at_us: int, scope: str, kind: str, data: bytes) -> dict[str, Any]:
    return incident_document(identifier, kind, at_us, scope, _decode(data))
