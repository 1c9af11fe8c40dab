"""What the database says of sessions, which nobody else may have told: rows, and how they are judged.

A row is seen a moment, or minutes, after it was made: when its transaction is over. So it is judged only once a grace
has passed since it was seen, in which those who made it can tell of it themselves. What they have told is the truth;
a row adds what nobody has.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from session_exporter.core.events import WATCH
from session_exporter.core.population import Known, mark_of
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import (
    ATTRIBUTED,
    BORN,
    CLAIMED,
    CREATED,
    ENDED,
    FOUND,
    ROW_ENDED,
    ROW_NEW,
    ROW_USED,
    Evidence,
    Report,
    Session,
)
from session_exporter.core.scopes import END_REASONS
from session_exporter.core.shares import Share

if TYPE_CHECKING:
    from session_exporter.core.judge import ScopeJudge
    from session_exporter.core.ledger import Ledger

# What a row says: a session that came into existence; one that was in use; one that is over; and one from before
# anybody looked, which is only to be known.
NEW: Final = "new"
USED: Final = "used"
OVER: Final = "over"
OLD: Final = "old"

# For no longer than this are creates kept as they were told, in case a row turns up beside them.
WAIT_MAX_US: Final = 600_000_000

_KINDS: Final = {NEW: ROW_NEW, USED: ROW_USED, OVER: ROW_ENDED}
_DATABASE: Final = Evidence(worker=WATCH)


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that a row says of its session.

    Attributes:
        what: `NEW`, `USED`, `OVER` or `OLD`.
        at_us: When it was created, used or ended; of what is `OLD`, when it was used last. Microseconds since the Unix
            epoch, by the database's clock.
        session: The session's id.
        user: The user's id; `""` when the row has none.
        key: A device, app or thread added to the user.
        reason: Of what is `OVER`: one of `END_REASONS`, or another text, which counts as `other`.
    """

    what: str
    at_us: int
    session: str
    user: str = ""
    key: str = ""
    reason: str = ""


def take_rows(ledger: "Ledger", scope: str, rows: Sequence[Row], *, since_us: int, due_us: int) -> None:
    """Let a ledger take in what was read of one table.

    Args:
        ledger: Where to.
        scope: The kind of session that the table keeps; a declared one.
        rows: In any order; what was taken in before may come again.
        since_us: Since when the table is read: what is `NEW` is not older.
        due_us: When they are to be judged: by then, whoever made a session has told of it.
    """
    judge = ledger.judges[scope]
    totals = judge.tally.totals
    totals.watched_since_us = totals.watched_since_us or max(since_us, totals.born_us)
    for row in rows:
        if row.what == NEW:
            waits_us = min(due_us - row.at_us, WAIT_MAX_US)
            judge.timelines.rows_wait_us = max(judge.timelines.rows_wait_us, waits_us)
        report = _report(row, judge.number, ledger.names, due_us)
        for each in [report] if ledger.share is None else _shared(report, ledger.share):
            if row.what == OLD:
                _remember(judge, each)
            else:
                ledger.waiting.add(each)


def judgements(judge: "ScopeJudge") -> dict[int, Callable[[Report], None]]:
    """How rows of one scope are judged, by the kind of their report."""

    def new(report: Report) -> None:
        if not _is_found_first(judge, report.session):
            return
        judge.tally.found()
        session = judge.people.sessions.get(report.session)
        if session is None and judge.people.remembers(report.session):
            known = judge.people.recall(report.session)
            judge.people.left_sessions[report.session] = known and known._replace(found=True)
            return
        judge.created(_as(CREATED, report))
        judge.people.sessions[report.session].flags |= FOUND

    def used(report: Report) -> None:
        judge.used(_as(ATTRIBUTED, report))

    def over(report: Report) -> None:
        judge.ended(_as(ENDED, report))

    return {ROW_NEW: new, ROW_USED: used, ROW_ENDED: over}


def _is_found_first(judge: "ScopeJudge", identifier: bytes) -> bool:
    session = judge.people.sessions.get(identifier)
    if session is not None:
        return not session.flags & FOUND
    known = judge.people.recall(identifier)
    return known is None or not known.found


def _as(kind: int, report: Report) -> Report:
    """What a row says as what a hook says, at the time of which it says it."""
    return structs.replace(report, at_us=report.created_at_us, kind=kind, created_at_us=0)


def _report(row: Row, scope: int, names: Pseudonyms, due_us: int) -> Report:
    user = names[row.user]
    owner = names.keyed_user(user, row.key) if row.key and user else user
    reason = "" if row.what != OVER else row.reason if row.reason in END_REASONS else "other"
    kind = _KINDS.get(row.what, 0)
    return Report(
        due_us, names[row.session], kind, scope, owner, user, _DATABASE, created_at_us=row.at_us, reason=reason
    )


def _shared(report: Report, share: Share) -> Iterator[Report]:
    """What one consumer of a fleet makes of a row, which all have read: of nobody's session, everybody knows."""
    if report.user and report.kind and share.has(report.session):
        # Whoever keeps the session learns whose it is when its user's consumer does.
        yield structs.replace(report, kind=CLAIMED, origin=report.kind, created_at_us=0)
    if share.has(report.user or report.session) or (report.kind and not report.user):
        yield report


def _remember(judge: "ScopeJudge", report: Report) -> None:
    """Keep for known what was there before anybody looked."""
    people = judge.people
    session = people.sessions.get(report.session)
    if session is not None:
        _find_what_was_under_way(judge, session)
    elif not people.remembers(report.session):
        whose = mark_of(report.user) if people.remembers_users else 0
        people.left_sessions[report.session] = Known(
            report.created_at_us, ended=False, born=True, user=whose, found=True
        )


def _find_what_was_under_way(judge: "ScopeJudge", session: Session) -> None:
    """A transaction that was open at the first look has made it, and its hook has told of it since."""
    is_reported = session.flags & BORN and session.started_us >= judge.tally.totals.watched_since_us
    if is_reported and not session.flags & FOUND:
        judge.tally.found()
        session.flags |= FOUND
        judge.people.change(session)
