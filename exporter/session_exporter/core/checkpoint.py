"""What a commit stores of the ledger, and how a ledger goes on from what was stored."""

from collections.abc import Iterable
from itertools import chain

import msgspec

from session_exporter.core.db_sessions import DbUse
from session_exporter.core.incidents import Incident
from session_exporter.core.ledger import Ledger
from session_exporter.core.lookups import LookupCount
from session_exporter.core.minutes import Minute
from session_exporter.core.population import Known
from session_exporter.core.recollection import Remembered
from session_exporter.core.records import DIRTY, Anchor, Owner, Past, Report, Session, owner_of
from session_exporter.core.top_users import Ranking
from session_exporter.core.totals import LedgerTotals


class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """A session as the state keeps it; `owner` is a digest, empty for none."""

    scope: int
    id: bytes
    owner: bytes
    started_us: int
    last_us: int
    flags: int
    past: Past | None


class OwnerRow(msgspec.Struct, frozen=True, array_like=True):
    """A user (and key) as the state keeps it."""

    scope: int
    id: bytes
    user: bytes
    anchor_us: int
    anchor_session: bytes
    anchors: tuple[Anchor, ...] | None


class Waiting(msgspec.Struct, array_like=True):
    """What had not been judged when the commit was made; small enough to be stored whole.

    Attributes:
        watermark_us: Everything before it had been judged.
        epoch: Of the request memory.
        since_us: When that epoch began.
        reports: What waits for the watermark.
        adopting: Per scope number: sightings that will be adoptions unless a create explains them in time.
        deleting: Per scope number: deletions that will be ends unless they turn out to be rewrites.
        users: Per scope number: who is counted by name, and who might be.
    """

    watermark_us: int = 0
    epoch: int = 0
    since_us: int = 0
    reports: list[Report] = []
    adopting: dict[int, dict[bytes, int]] = {}
    deleting: dict[int, dict[bytes, int]] = {}
    users: dict[int, Ranking] = {}


class Changes(msgspec.Struct):
    """All that differs from the last commit.

    Attributes:
        totals: The counts, whole.
        waiting: What waits, whole.
        sessions: Rows to be written.
        owners: Rows to be written.
        left_sessions: (scope number, digest, what to remember): rows to be moved to the long memory; with None, rows to
            be removed.
        left_owners: (scope number, digest): rows to be removed.
        minutes: (scope name, minute number, counts to be added).
        incidents: New ones, in the order found.
        requests: New entries of the request memory, of epoch `waiting.epoch`.
        db_uses: The newest uses of database sessions; None when they are those of the last commit.
        lookups: By scope, hour and place, to be added; there is none without its minute.
        trail: The newest events, handed on to the next start by the last commit before a stop.
        users_changed: Whether others are counted by name than before.
    """

    totals: LedgerTotals
    waiting: Waiting
    sessions: list[SessionRow]
    owners: list[OwnerRow]
    left_sessions: list[tuple[int, bytes, Known | None]]
    left_owners: list[tuple[int, bytes]]
    minutes: list[tuple[str, int, Minute]]
    incidents: list[Incident]
    requests: dict[bytes, int]
    db_uses: list[DbUse] | None = None
    lookups: list[LookupCount] = []
    trail: list[Remembered] = []
    users_changed: bool = False

    def any_rows(self) -> bool:
        """Whether anything but the watermark has changed."""
        return bool(
            self.sessions
            or self.owners
            or self.left_sessions
            or self.left_owners
            or self.minutes
            or self.incidents
            or self.requests
            or self.db_uses is not None
            or self.users_changed
        )


def take_changes(ledger: Ledger) -> Changes:
    """Collect what has changed since the last call; the ledger takes it as stored from then on.

    A caller that fails to store it must drop the ledger and restore one from the last commit.
    """
    judges = ledger.all_judges()
    if ledger.trail is not None:
        ledger.trail.tell()
        ledger.trail.forget(ledger.watermark_us)
    for judge in judges:
        judge.tally.settle()
    users = {judge.number: judge.tally.users for judge in judges if judge.tally.users is not None}
    chosen = [each.choose(ledger.watermark_us) for each in users.values()]
    ledger.totals.tracked_sessions = sum(len(judge.people.sessions) for judge in judges)
    changes = Changes(
        totals=ledger.totals,
        waiting=Waiting(
            ledger.watermark_us,
            ledger.requests.epoch,
            ledger.requests.since_us,
            ledger.waiting.all(),
            {judge.number: judge.adopting for judge in judges if judge.adopting},
            {judge.number: judge.people.deleting for judge in judges if judge.people.deleting},
            {number: each.ranking() for number, each in users.items()},
        ),
        sessions=list(
            chain.from_iterable(_session_rows(judge.number, judge.people.changed_sessions) for judge in judges)
        ),
        owners=list(chain.from_iterable(_owner_rows(judge.number, judge.people.changed_owners) for judge in judges)),
        left_sessions=[(judge.number, *entry) for judge in judges for entry in judge.people.left_sessions.items()],
        left_owners=[(judge.number, identifier) for judge in judges for identifier in judge.people.left_owners],
        minutes=[(judge.rules.name, *entry) for judge in judges for entry in judge.tally.minutes.items()],
        incidents=[incident for judge in judges for incident in judge.tally.incidents],
        requests=ledger.requests.changed,
        db_uses=list(ledger.db.recent) if ledger.db.changed else None,
        lookups=[count for judge in judges for count in judge.tally.places.counts(judge.rules.name)],
        users_changed=any(chosen),
    )
    ledger.forget_changes()
    return changes


def restore(
    ledger: Ledger,
    owners: Iterable[OwnerRow],
    sessions: Iterable[SessionRow],
    waiting: Waiting,
    requests: Iterable[tuple[int, dict[bytes, int]]],
    *,
    db_uses: Iterable[DbUse] = (),
) -> None:
    """Give a new ledger what the last commit stored.

    Args:
        ledger: Made with the stored totals and scope numbers.
        owners: All rows; those of scopes that are no longer declared are passed over.
        sessions: All rows.
        waiting: What waited.
        requests: (epoch, entries) in the order of the commits.
        db_uses: The newest uses of database sessions.
    """
    by_number = {judge.number: judge for judge in ledger.all_judges()}
    for row in owners:
        judge = by_number.get(row.scope)
        if judge is not None:
            owner = owner_of(row.id, row.user)
            owner.anchor_us, owner.anchor_session, owner.anchors = row.anchor_us, row.anchor_session, row.anchors
            judge.people.owners[row.id] = owner
            if row.anchors:
                judge.timelines.keep_evidence(owner, row.anchors[-1].at_us, waiting.watermark_us)
    for session_row in sessions:
        judge = by_number.get(session_row.scope)
        if judge is not None:
            judge.people.restore(_session(session_row, judge.people.owners))
    for judge in ledger.all_judges():
        judge.adopting = dict(waiting.adopting.get(judge.number, {}))
        judge.people.deleting.update(waiting.deleting.get(judge.number, {}))
        judge.timelines.sort_evidence()
        if judge.tally.users is not None:
            judge.tally.users.restore(waiting.users.get(judge.number, Ranking()))
    ledger.db.recent.extend(db_uses)
    ledger.watermark_us = waiting.watermark_us
    for report in waiting.reports:
        ledger.waiting.add(report)
    for epoch, entries in requests:
        ledger.requests.restore(epoch, entries)
    ledger.requests.restore(waiting.epoch, {})
    ledger.requests.since_us = waiting.since_us


def _session(row: SessionRow, owners: dict[bytes, Owner]) -> Session:
    owner = owners.get(row.owner) if row.owner else None
    started_us, last_us = row.started_us, row.last_us
    # What is equal becomes one object in memory, as it was before it was stored: some 100 bytes of each session.
    if last_us == started_us:
        last_us = started_us
    if owner is not None and owner.anchor_session == row.id:
        owner.anchor_session = row.id
        if owner.anchor_us == started_us:
            owner.anchor_us = started_us
    return Session(row.id, owner, started_us, last_us, row.flags, row.past)


def _session_rows(number: int, changed: list[Session]) -> Iterable[SessionRow]:
    for session in changed:
        session.flags &= ~DIRTY
        owner = session.owner.id if session.owner is not None else b""
        yield SessionRow(
            number,
            session.id,
            owner,
            session.started_us,
            session.last_us,
            session.flags,
            session.past,
        )


def _owner_rows(number: int, changed: dict[bytes, Owner]) -> Iterable[OwnerRow]:
    for owner in changed.values():
        yield OwnerRow(number, owner.id, owner.user, owner.anchor_us, owner.anchor_session, owner.anchors)
