"""An offline reading of the whole history, as plain as it can be: what the ledger must agree with.

It sees all events at once, sorts them, and looks forward and back over complete lists. It shares no code with the
ledger.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from chronicle import Chronicle, Entry, Generation, Stay

from session_exporter.core import events as wire

KIND_ORDER = {wire.Created: 1, wire.Reused: 2, wire.LookedUp: 3, wire.Observed: 4, wire.Ended: 5, wire.Attributed: 6}


@dataclass
class Verdict:
    creates: int = 0
    reuses: int = 0
    adopted: int = 0
    lookups: int = 0
    redundant_lookups: int = 0
    losses: int = 0
    ends: Counter = field(default_factory=Counter)
    duplicates: Counter = field(default_factory=Counter)


def judge(reports, *, window_us, idle_us, lateness_us, sessions_per_user="one"):
    """Judge one scope's history: (event, writer) of every event there was, in any order."""
    rules = {"window_us": window_us, "sessions_per_user": sessions_per_user}
    verdict, chronicle = Reader(reports, idle_us=idle_us, lateness_us=lateness_us, **rules).read()
    verdict.duplicates = Counter(cause for _, _, cause in duplicates(chronicle.timelines, **rules))
    return verdict


class Reader:
    """Reads one scope's history.

    Args:
        reports: (event, writer) of every event there was, in any order.
        window_us: The duplicate window.
        idle_us: The idle timeout.
        lateness_us: How soon after a deletion an insert makes it a rewrite, and a create explains a sighting.
        sessions_per_user: `one` or `many`.
    """

    def __init__(self, reports, *, window_us, idle_us, lateness_us, sessions_per_user):
        self.window_us, self.idle_us, self.lateness_us = window_us, idle_us, lateness_us
        self.is_one = sessions_per_user == "one"
        self.verdict = Verdict(losses=sum(1 for event, _ in reports if type(event) is wire.ContextLost))
        self.chronicle = Chronicle()
        self.stays = {}
        self.seen = set()  # (request, session)
        self.looked = Counter()
        self.history = sorted(
            (each for each in reports if type(each[0]) in KIND_ORDER),
            key=lambda each: (each[0].at_us, each[0].session, KIND_ORDER[type(each[0])]),
        )

    def read(self, until_us=0):
        """The counts, and what happened; what has been idle for too long at `until_us` has expired."""
        tell = {
            wire.Created: self.created,
            wire.Reused: self.reused,
            wire.LookedUp: self.looked_up,
            wire.Observed: self.observed,
            wire.Ended: self.ended,
            wire.Attributed: lambda stay, event, _writer: self.active(stay, event),
        }
        for event, writer in self.history:
            self.expire(event.at_us)
            self.chronicle.heard_us.setdefault(event.session, event.at_us)
            if event.session and event.session not in self.stays:
                self.arrive(event.session)
            stay = self.stays.get(event.session, Stay(""))
            tell[type(event)](stay, event, writer)
            if stay.session and stay.owner and not stay.placed and stay.unplaced is None:
                self.enter(stay, Entry(event.at_us, event.session, "sight", stay.generations[-1]))
        self.expire(until_us)
        for timeline in self.chronicle.timelines.values():
            timeline.sort(key=lambda entry: (entry.at_us, entry.session))
        return self.verdict, self.chronicle

    # Kinds of events.

    def created(self, stay, event, writer):
        self.seen.add((event.request, event.session))
        self.restart(stay, event, writer)
        self.create(stay, event, writer)

    def reused(self, stay, event, _writer):
        self.verdict.reuses += 1
        self.active(stay, event)

    def looked_up(self, stay, event, _writer):
        self.lookup(event)
        if event.session:
            self.verdict.reuses += self.is_first(event)
            self.active(stay, event)

    def observed(self, stay, event, writer):
        if event.origin == wire.RESULT:
            self.lookup(event)
        unknown, is_first = not stay.known, self.is_first(event)
        if self.is_made(stay, event):
            self.restart(stay, event, writer)
            self.create(stay, event, writer)
            return
        stay.task = event.generation or stay.task
        self.active(stay, event)
        if unknown:
            stay.generations[-1].seen_us = stay.adopted_at = event.at_us
            self.verdict.adopted += 1
            self.enter(stay, self.entry("adoption", stay, event, writer))
        elif is_first and event.origin != wire.ROW:
            self.verdict.reuses += 1

    def ended(self, stay, event, writer):
        if event.reason != "deleted" or stay.ended:
            self.over(stay, event.at_us, event.reason, writer)
            return
        if stay.deleted_at is not None:
            return
        stay.known = True
        explained_us, rewritten_us = self.explained_us(event), self.rewritten_us(event)
        if explained_us == rewritten_us == inf:
            self.over(stay, event.at_us, event.reason, writer)
            return
        stay.gaps.append((event.at_us, min(explained_us, rewritten_us)))
        if rewritten_us < explained_us:
            stay.deleted_at = event.at_us
            return
        stay.saw_deletion.append(writer)
        stay.gone_us, stay.last = event.at_us, stay.last or event.at_us
        if stay.generations:
            stay.generations[-1].gaps.append(stay.gaps[-1])

    # What they do.

    def arrive(self, session, **what):
        self.stays[session] = Stay(session, **what)
        self.chronicle.stays[session].append(self.stays[session])

    def expire(self, now_us):
        for session, stay in list(self.stays.items()):
            if stay.last is not None and now_us - stay.last > self.idle_us:
                self.verdict.ends["deleted" if stay.is_deleted else "expired"] += not stay.ended
                self.arrive(session, known=True, ended=True, revived=True)  # only the id is remembered

    def lookup(self, event):
        self.verdict.lookups += 1
        if event.request:
            self.looked[event.request, event.user, event.key] += 1
            self.verdict.redundant_lookups += self.looked[event.request, event.user, event.key] > 1

    def is_first(self, event):
        """Whether its request has found or made this session for the first time."""
        pair = (event.request, event.session)
        is_first = not event.request or pair not in self.seen
        self.seen.add(pair)
        return is_first

    def active(self, stay, event, *, is_create=False):
        """Whatever is done with a session; one that had ended is over all the same until it is created again."""
        if not stay.generations or (stay.ended and is_create):
            back = stay.revived and not stay.generations
            stay.generations.append(Generation(back, event.at_us if back else None))
            if back or is_create:
                stay.ended, stay.why = False, ""
            elif stay.ended:
                stay.generations[-1].ends = stay.ends
            else:
                stay.generations[-1].gaps += stay.gaps
        stay.known, stay.last = True, event.at_us
        stay.generations[-1].uses.append(event.at_us)
        if event.user:
            stay.users.add(event.user)
            if stay.owner is None:
                self.own(stay, event)

    def own(self, stay, event):
        """Its user has become known."""
        stay.owner, stay.owned_us = (event.user, event.key), event.at_us
        entry, stay.unplaced = stay.unplaced, None
        if entry is not None and event.at_us <= stay.unplaced_until:
            entry.made_us, entry.at_us = entry.at_us, max(entry.at_us, event.at_us)
            self.enter(stay, entry)

    def enter(self, stay, entry):
        if stay.owner:
            self.chronicle.timelines[stay.owner].append(entry)
            stay.placed = True
        else:
            stay.unplaced, stay.unplaced_until = entry, inf

    def entry(self, kind, stay, event, writer):
        told = [(event.at_us, writer, event.request)]
        return Entry(event.at_us, event.session, kind, stay.generations[-1], event.request, told, event.expected)

    def create(self, stay, event, writer):
        deleted_at, stay.deleted_at = stay.deleted_at, None
        was_born = stay.born
        if not was_born and deleted_at is None:
            stay.unplaced = None
        self.active(stay, event, is_create=True)
        generation = stay.generations[-1]
        if generation.seen_us is None:
            generation.seen_us = event.at_us
        if deleted_at is not None:
            generation.gaps.append((deleted_at, event.at_us))
            stay.born = True
        elif not was_born:
            self.born(stay, event, writer)
        elif stay.birth is not None:
            stay.birth.told.append((event.at_us, writer, event.request))

    def born(self, stay, event, writer):
        self.verdict.creates += 1
        stay.born, stay.generations[-1].born_us = True, event.at_us
        entry = stay.birth = self.entry("create", stay, event, writer)
        is_placed = False
        if stay.adopted_at is not None and event.at_us - stay.adopted_at <= self.lateness_us:
            self.verdict.adopted -= 1  # the sighting before was of this create
            entry.at_us = max(stay.adopted_at, stay.owned_us if stay.owner else 0)
            for sighting in self.chronicle.timelines[stay.owner] if stay.owner else ():
                if sighting.kind == "adoption" and sighting.generation is entry.generation:
                    sighting.kind, sighting.expected, is_placed = "create", event.expected, True
                    sighting.told += entry.told
                    stay.birth = sighting
        self.chronicle.births.append(stay.birth)
        if not is_placed:
            self.enter(stay, entry)

    def over(self, stay, at_us, reason, writer):
        stay.known = True
        if stay.revived and not stay.generations:
            return  # it has expired
        if not stay.ended:
            self.verdict.ends[reason] += 1
        ends = stay.generations[-1].ends if stay.generations else stay.ends
        ends += [(at_us, reason, each.id) for each in (writer, *stay.saw_deletion)]
        certain_us = at_us + self.lateness_us if reason == "deleted" else at_us
        if reason != "deleted" or at_us > stay.sure_us:
            stay.gone_us, stay.sure_us = at_us, certain_us
        # Whose it was may be told as long as its deletion is not certain.
        stay.unplaced_until = min(certain_us, stay.unplaced_until)
        stay.ended, stay.born, stay.adopted_at, stay.saw_deletion, stay.why = True, False, None, [], reason
        stay.last = stay.last if stay.last is not None else at_us

    def restart(self, stay, event, writer):
        """What `restart_on` names has changed: what was kept under this id has ended just before."""
        if self.is_other(stay, event) and not stay.ended and stay.deleted_at is None:
            self.over(stay, event.at_us - 1, "replaced", writer)
        stay.task = event.generation or stay.task

    def is_other(self, stay, event):
        return event.generation and stay.task and event.generation != stay.task

    # Questions.

    def is_made(self, stay, event):
        """Whether what was observed came into existence just then."""
        another = self.is_one and any(
            other.owner == (event.user, event.key) and not other.ended and not other.is_deleted and other.last
            for other in self.stays.values()
            if other is not stay
        )
        if event.origin == wire.RESULT:
            is_new = not stay.born or stay.deleted_at is not None
            is_later = event.created_at_us > max(stay.gone_us, stay.deleted_at or 0)
            return (is_new and is_later and self.is_young(event)) or (another and not stay.known)
        if stay.deleted_at is not None or self.is_other(stay, event):
            return True
        if not stay.known:
            return another or event.origin == wire.ROW
        return stay.ended and stay.why not in {"", "expired"}

    def is_young(self, event):
        return event.created_at_us and event.at_us - event.created_at_us < self.window_us

    def rewritten_us(self, deletion):
        """When an insert makes it a rewrite; infinite when none does."""
        return self.next_us(deletion, self.rewrites)

    def explained_us(self, deletion):
        """When somebody says why it ended, if that is a moment later; infinite when nobody does."""
        return self.next_us(deletion, lambda _, event: type(event) is wire.Ended and event.reason != "deleted")

    def rewrites(self, deletion, event):
        if type(event) is wire.Observed and event.origin == wire.RESULT:
            return self.is_young(event) and event.created_at_us > deletion.at_us
        return type(event) in {wire.Created, wire.Observed}

    def next_us(self, deletion, is_wanted):
        limit_us = deletion.at_us + self.lateness_us
        return next(
            (
                event.at_us
                for event, _ in self.history
                if event.session == deletion.session
                and deletion.at_us <= event.at_us <= limit_us
                and is_wanted(deletion, event)
            ),
            inf,
        )


def duplicates(timelines, *, window_us, sessions_per_user="one"):
    """(create, the one before it, cause) of each rapid duplicate."""
    found = []
    for timeline in timelines.values():
        anchors = [entry for entry in timeline if entry.kind != "sight"]
        for index, entry in enumerate(anchors):
            if entry.kind != "create" or entry.is_rotation:
                continue
            earlier = anchors[:index]
            if sessions_per_user == "many":
                earlier = [each for each in earlier if entry.request and each.request == entry.request]
            # its own adoption is no other
            earlier = [each for each in earlier if each.kind == "create" or each.session != entry.session]
            if earlier and entry.at_us - earlier[-1].at_us < window_us:
                found.append((entry, earlier[-1], cause(earlier[-1], entry)))
    return found


def cause(first, second):
    """Why two creates met, by what had been told when the second was placed."""
    (writer, request), (other_writer, other_request) = (evidence(each, second) for each in (first, second))
    if wire.WATCH in {writer.id, other_writer.id}:
        return "unobserved"
    if request and request == other_request:
        return "same_request"
    if writer.id == other_writer.id:
        return "same_worker"
    return "cross_worker" if writer.replica == other_writer.replica else "cross_replica"


def evidence(entry, second):
    """Who made it, and in which request; whoever does not only read the database knows better."""
    placed_us = max(second.at_us, second.told[0][0], second.decided_us)
    told = [(writer, request) for at_us, writer, request in entry.told if at_us <= placed_us]
    return next((each for each in told if each[0].id != wire.WATCH), entry.told[0][1:])
