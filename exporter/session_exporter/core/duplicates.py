"""The sliding window: which creates were too close to another of the same user, and why.

A user's anchors are kept in order of time. A create X between its neighbours P and N adds [P,X] + [X,N] - [P,N] rapid
duplicates, each 1 when the two are less than the window apart; an adoption is never one itself but can make the next
create one. So totals do not depend on the order of arrival.
"""

from bisect import bisect_left
from typing import Final, NamedTuple

from msgspec import structs

from session_exporter.core.events import WATCH
from session_exporter.core.records import Anchor, Evidence, Owner
from session_exporter.core.scopes import ScopeRules

# A user with more anchors than this in the ledger's memory has the oldest forgotten.
ANCHORS_MAX: Final = 64


class Duplicate(NamedTuple):
    """One rapid duplicate create: `create` came less than the window after `previous`."""

    previous: Anchor
    create: Anchor
    cause: str


class Placed(NamedTuple):
    """What putting an anchor on the timeline found.

    Attributes:
        previous: The anchor before it; None when there is none, or none known any more.
        duplicates: None, one or two rapid duplicates.
    """

    previous: Anchor | None
    duplicates: list[Duplicate]


def anchors_of(owner: Owner) -> tuple[Anchor, ...]:
    """The owner's anchors in order of time."""
    if owner.anchors is not None:
        return owner.anchors
    if not owner.anchor_session:
        return ()
    is_met = not owner.anchor_us
    return (Anchor(owner.anchor_us, owner.anchor_session, not is_met, is_met=is_met),)


def place(owner: Owner, anchor: Anchor, rules: ScopeRules) -> Placed:
    """Put a create or an adoption on its user's timeline."""
    if owner.anchors is None and not owner.anchor_session:
        owner.anchors = (anchor,)
        return Placed(None, [])
    anchors = list(anchors_of(owner))
    index = bisect_left(anchors, (anchor.at_us, anchor.session), key=_order)
    previous, following = _neighbours(anchors, index, anchor, rules)
    other = previous
    if other is not None and _is_own_adoption(other, anchor):
        other, _ = _neighbours(
            [each for each in anchors[:index] if not _is_own_adoption(each, anchor)], index, anchor, rules
        )
    before = _is_duplicate(previous, following, rules.duplicate_window_us)
    anchors.insert(index, anchor)
    owner.anchors = tuple(anchors[-ANCHORS_MAX:])
    return Placed(other, _found(other, anchor, following, before, rules))


def upgrade(owner: Owner, at_us: int, anchor: Anchor, rules: ScopeRules) -> Placed:
    """Turn the adoption of `anchor.session` at `at_us` into a create; its evidence stays that of the first sight.

    When the adoption is no longer remembered, the create is placed on its own.
    """
    anchors = list(anchors_of(owner))
    for index, known in enumerate(anchors):
        if known.session == anchor.session and known.at_us == at_us and not known.is_create and not known.is_met:
            created = structs.replace(known, is_create=True, is_rotation=False)
            anchors[index] = created
            owner.anchors = tuple(anchors)
            previous, _ = _neighbours(anchors, index, created, rules)
            return Placed(previous, _found(previous, created, None, 0, rules))
    return place(owner, anchor, rules)


def witness(owner: Owner, session: bytes, evidence: Evidence) -> bool:
    """Let a worker tell of a create that only the database had told of; whether it did."""
    anchors = list(anchors_of(owner))
    index, known = next(
        ((at, each) for at, each in reversed([*enumerate(anchors)]) if each.session == session), (0, None)
    )
    if known is None or known.evidence is None or known.evidence.worker != WATCH:
        return False
    anchors[index] = structs.replace(known, evidence=evidence)
    owner.anchors = tuple(anchors)
    return True


def rotate(owner: Owner, session: bytes, at_us: int) -> None:
    """Take what stands on a timeline as an adoption for a rotation."""
    owner.anchors = tuple(
        structs.replace(each, is_rotation=True) if (each.at_us, each.session) == (at_us, session) else each
        for each in anchors_of(owner)
    )


def stands_at(owner: Owner, session: bytes, since_us: int) -> int:
    """Where a session stands since a time that is not a create yet; 0 for nowhere."""
    places = (
        each.at_us
        for each in anchors_of(owner)
        if each.session == session and each.at_us >= since_us and not each.is_create and not each.is_met
    )
    return next(places, 0)


def forget_evidence(owner: Owner, before_us: float, rules: ScopeRules) -> None:
    """Drop the evidence of an owner's anchors unless one of them is younger than `before_us`."""
    anchors = anchors_of(owner)
    if not anchors or anchors[-1].at_us >= before_us:
        return
    if rules.sessions_per_user == "one":
        # What was only used can be what a create took over from, but the next create comes after the newest anchor.
        anchors = (*(each for each in anchors[:-1] if not each.is_met), anchors[-1])
        last = anchors[0]
        if len(anchors) == 1 and (last.is_create or last.is_met):
            owner.anchor_us, owner.anchor_session = 0 if last.is_met else last.at_us, last.session
            owner.anchors = None
            return
    owner.anchors = tuple(structs.replace(each, evidence=None) for each in anchors)


def window_before(owner: Owner, anchor: Anchor, window_us: int) -> list[Anchor]:
    """The creates that chain up to `anchor`, oldest first and `anchor` last: each less than the window apart."""
    chain = [anchor]
    for each in reversed(anchors_of(owner)):
        if _order(each) < _order(chain[0]) and each.is_create:
            if chain[0].at_us - each.at_us >= window_us:
                break
            chain.insert(0, each)
    return chain


def cause_of(first: Evidence | None, second: Evidence | None) -> str:
    """Why two creates of one user met, the first of `scopes.CAUSES` that holds.

    Nothing is known of the request and the worker of a create that only the database told: `unobserved`. Evidence is
    forgotten some time after the window has passed. A create that comes later than that is late among several writers
    (one writer's events arrive in order), so such a pair counts as `cross_worker`.
    """
    if any(each is not None and each.worker == WATCH for each in (first, second)):
        return "unobserved"
    if first is None or second is None:
        return "cross_worker"
    if first.request and first.request == second.request:
        return "same_request"
    if first.worker == second.worker:
        return "same_worker"
    return "cross_worker" if first.replica == second.replica else "cross_replica"


def _order(anchor: Anchor) -> tuple[int, bytes]:
    return (anchor.at_us, anchor.session)


def _neighbours(
    anchors: list[Anchor], index: int, anchor: Anchor, rules: ScopeRules
) -> tuple[Anchor | None, Anchor | None]:
    """The anchors before and after a place that `anchor` could be a duplicate of, or make one."""
    before = [each for each in anchors[:index] if not each.is_met]
    after = [each for each in anchors[index:] if each is not anchor and not each.is_met]
    if rules.sessions_per_user == "one":
        return (before[-1] if before else None), (after[0] if after else None)
    if not anchor.request:
        return None, None
    same_before = [each for each in before if each.request == anchor.request]
    same_after = [each for each in after if each.request == anchor.request]
    return (same_before[-1] if same_before else None), (same_after[0] if same_after else None)


def _found(
    previous: Anchor | None, anchor: Anchor, following: Anchor | None, next_before: int, rules: ScopeRules
) -> list[Duplicate]:
    window_us = rules.duplicate_window_us
    own = _is_duplicate(previous, anchor, window_us)
    next_now = _is_duplicate(anchor, following, window_us)
    added = own + next_now - next_before
    found = []
    if previous is not None and own and added > 0:
        found.append(Duplicate(previous, anchor, cause_of(previous.evidence, anchor.evidence)))
    if following is not None and next_now and added > len(found):
        found.append(Duplicate(anchor, following, cause_of(anchor.evidence, following.evidence)))
    return found


def _is_own_adoption(known: Anchor, create: Anchor) -> bool:
    """A create that explains its session's adoption too late to be one with it is no duplicate of it either."""
    return known.session == create.session and not known.is_create and not known.is_rotation and create.is_create


def _is_duplicate(previous: Anchor | None, create: Anchor | None, window_us: int) -> int:
    if previous is None or create is None or not create.is_create or _is_own_adoption(previous, create):
        return 0
    return int(create.at_us - previous.at_us < window_us)
