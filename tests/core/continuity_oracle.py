"""An offline reading of what was lost: context losses, rotations, stale expectations, sessions of two users.

Like `oracle`, whose lists of stays and timelines it reads, it sees the whole history and looks forward and back.
"""

from collections import Counter
from dataclasses import dataclass, field

from oracle import Reader, duplicates

from session_exporter.core import events as wire

USERS_BEYOND_THE_FIRST_MAX = 16


@dataclass
class Found:
    creates: int = 0
    adopted: int = 0
    reuses: int = 0
    ends: Counter = field(default_factory=Counter)
    duplicates: Counter = field(default_factory=Counter)
    losses: Counter = field(default_factory=Counter)
    rotations: int = 0
    stale: int = 0
    violations: int = 0


def judge(reports, *, window_us, idle_us, lateness_us, sessions_per_user, end_reasons):
    """Judge one scope's history.

    Args:
        reports: (event, writer) of every event there was, in any order.
        window_us: The duplicate window.
        idle_us: The idle timeout.
        lateness_us: How long after a create the end of the session before it still counts as before it.
        sessions_per_user: `one` or `many`.
        end_reasons: Which ends are legitimate.
    """
    rules = {"window_us": window_us, "sessions_per_user": sessions_per_user}
    until_us = max((event.at_us for event, _ in reports), default=0)
    verdict, chronicle = Reader(reports, idle_us=idle_us, lateness_us=lateness_us, **rules).read(until_us)
    past = Past(chronicle, window_us, idle_us, lateness_us, end_reasons, sessions_per_user)
    found = Found(verdict.creates, verdict.adopted, verdict.reuses, +verdict.ends)

    rotated_after = set()
    for entry in chronicle.births:
        if past.expected_ended(entry) or past.rotated(entry, "before"):
            entry.is_rotation = True
        elif past.expected_state(entry)[1]:
            entry.decided_us = (entry.made_us or entry.at_us) + lateness_us
    doubles = duplicates(chronicle.timelines, **rules)
    found.duplicates = Counter(cause for _, _, cause in doubles)
    single = [
        entry for entry in chronicle.births if not entry.is_rotation and entry not in {each for each, _, _ in doubles}
    ]
    rotated_after = {entry for entry in single if past.rotated(entry, "after")}
    found.rotations = sum(entry.is_rotation for entry in chronicle.births) + len(rotated_after)

    pending = [(event.at_us, "unmet", event) for event, _ in reports if type(event) is wire.Unmet]
    pending += [
        (past.judged_us(entry), "replaced", entry)
        for entry in single
        if entry not in rotated_after and past.replaces(entry)
    ]
    for at_us, kind, what in sorted(pending, key=lambda each: each[0]):
        if kind == "replaced":
            found.losses["replaced"] += lose(past.replaced(what), at_us)
        elif (generation := past.live(what)) is not None:
            found.losses["missing" if what.missed != wire.OTHER_USED else "switched"] += lose(generation, at_us)
        else:
            found.stale += past.heard_of(what) or not what.shared

    found.losses = +found.losses
    for stays in chronicle.stays.values():
        found.violations += sum(min(max(len(stay.users) - 1, 0), USERS_BEYOND_THE_FIRST_MAX) for stay in stays)
    return found


def lose(generation, at_us):
    """Whether it had not been lost before; a generation is lost once, a session that is then created counts anew."""
    anew_us = generation.born_us if generation.born_us is not None and generation.born_us <= at_us else 0
    was_lost = any(time >= anew_us for time in generation.lost)
    generation.lost.append(at_us)
    return not was_lost


@dataclass
class Past:
    """The questions that the rules ask of the complete history."""

    chronicle: object
    window_us: int
    idle_us: int
    lateness_us: int
    end_reasons: frozenset
    sessions_per_user: str

    def at(self, session, at_us):
        """The stay and the generation of a session at a time: the last one that had begun; None when none had."""
        begun = [
            (stay, generation)
            for stay in self.chronicle.stays[session]
            for generation in stay.generations
            if generation.uses[0] <= at_us
        ]
        return begun[-1] if begun else (None, None)

    def state(self, session, at_us):
        """(time, reason, writers) of the end of a session that has ended by a time, and whether it is there to end."""
        heard_of = [each for each in self.chronicle.stays[session] if each.uses_by(at_us) or each.ended_by(at_us)]
        if heard_of and not heard_of[-1].uses_by(at_us):  # nothing but its end has been told
            end = heard_of[-1].ended_by(at_us)
            return (end if at_us - end[0] <= self.idle_us else None), False
        _, generation = self.at(session, at_us)
        if generation is None or at_us - generation.last_use_us(at_us) > self.idle_us:
            return None, False
        end = generation.end_by(at_us)
        return end, end is None

    def expected_ended(self, entry):
        """A request had found its session, made another, and ended the first."""
        end, is_open = self.expected_state(entry)
        if is_open:
            end, _ = self.state(entry.expected, (entry.made_us or entry.at_us) + self.lateness_us)
        return bool(end) and end[1] != "expired"

    def expected_state(self, entry):
        """How the expected session had ended when the create was judged, and whether it may still do so."""
        if not entry.expected or entry.expected == entry.session:
            return None, False
        told_us = max(entry.made_us or entry.at_us, entry.generation.born_us)
        end, is_open = self.state(entry.expected, told_us)
        if end and end[1] == "deleted" and end[0] + self.lateness_us >= told_us:
            is_open = True  # it may turn out to be a rewrite
        return end, is_open

    def before(self, entry):
        """The entry before a create on its user's timeline.

        That is not the use of this very generation less than the window before its create; nothing is before it when it
        had been seen earlier.
        """
        timeline = next((each for each in self.chronicle.timelines.values() if entry in each), None)
        if timeline is None or self.sessions_per_user == "many":
            return None
        for earlier in reversed(timeline[: timeline.index(entry)]):
            if earlier.generation is not entry.generation:
                return earlier
            if earlier.kind == "adoption" or entry.at_us - earlier.at_us >= self.window_us:
                return None
        return None

    def replaced(self, entry):
        """The generation whose place a create took."""
        previous = self.before(entry)
        if previous is None:
            return None
        (stay,) = (stay for stay in self.chronicle.stays[previous.session] if previous.generation in stay.generations)
        if previous.session != entry.session:
            return [each for each in stay.generations if each.uses[0] <= entry.at_us][-1]
        earlier = [each for each in stay.generations if each.uses[0] < entry.generation.uses[0]]
        return earlier[-1] if entry.generation in stay.generations else None  # else it had expired

    def rotated(self, entry, when):
        """The session before it ended as rotated, less than the window before it, or within the lateness after it."""
        generation = self.replaced(entry)
        end = generation and generation.end_by(entry.at_us + self.lateness_us)
        if not end or end[1] != "rotated" or entry.at_us - generation.last_use_us(entry.at_us) > self.idle_us:
            return False
        return end[0] > entry.at_us - self.window_us and (end[0] <= entry.at_us) == (when == "before")

    def replaces(self, entry):
        """It took the place of a session that had been active, and had not been ended for a legitimate reason."""
        generation = self.replaced(entry)
        if generation is None:
            return False
        end = generation.end_by(entry.at_us + self.lateness_us)
        if generation.revived and entry.at_us - generation.uses[0] < self.window_us:
            return False  # it had expired, and was only looked at before another was made
        if self.before(entry).session == entry.session:
            return entry.at_us - end[0] <= self.idle_us and not self.is_legitimate(end, entry)
        now_us = max(entry.at_us, entry.generation.born_us, entry.decided_us)
        for time_us in (entry.at_us, now_us):
            if time_us - generation.last_use_us(time_us) > self.idle_us:
                return False  # it had expired, or has before it is certain that this is no rotation
        return not (end and self.is_legitimate(end, entry))

    def is_legitimate(self, end, entry):
        """Whether it ended for a legitimate reason that somebody else than the watch told, or long before."""
        time, reason, writers = end
        only_watch = writers == {wire.WATCH} and time > entry.at_us - self.window_us
        return reason in self.end_reasons and not only_watch

    def judged_us(self, entry):
        """When a replacement is judged: at once when the session before had the same id, and it is no rotation."""
        if self.before(entry).session != entry.session:
            return max(entry.at_us + self.lateness_us, entry.decided_us)
        return max(entry.at_us, entry.generation.born_us, entry.decided_us)

    def heard_of(self, unmet):
        return self.chronicle.heard_us.get(unmet.session, float("inf")) <= unmet.at_us

    def live(self, unmet):
        """The generation of the expected session that was live for this user; None when it was not."""
        stay, generation = self.at(unmet.session, unmet.at_us)
        if generation is None:
            return None
        owner = stay.owner[0] if stay.owner and stay.owned_us <= unmet.at_us else ""
        is_live = (
            unmet.at_us - generation.last_use_us(unmet.at_us) <= self.idle_us
            and not generation.end_by(unmet.at_us)
            and (not owner or not unmet.user or owner == unmet.user)
            and (generation.seen_us is None or generation.seen_us > unmet.at_us or generation.seen_us < unmet.since_us)
        )
        return generation if is_live else None
