"""An offline reading of the whole history, as plain as it can be: what the ledger must agree with.

It sees all events at once, sorts them, and looks back over complete lists. It shares no code with the ledger.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from session_exporter.core import events as wire

KIND_ORDER = {wire.Created: 1, wire.Reused: 2, wire.LookedUp: 3, wire.Observed: 4, wire.Ended: 5, wire.Attributed: 6}


@dataclass(eq=False)
class Generation:
    """What happened to a session until it is created again after its end, or comes back when it had expired.

    A use or a sighting of a session that has ended is no new generation.
    """

    revived: bool = False  # it had expired
    seen_us: int | None = None  # when it was first created or sighted, or used again
    born_us: int | None = None  # when its create was told, if it was
    uses: list[int] = field(default_factory=list)
    ends: list[tuple] = field(default_factory=list)  # (time, reason, writer's id); the first one ended it
    gaps: list[list[int]] = field(default_factory=list)  # from a deletion to the insert that made it a rewrite
    lost: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Entry:
    """A place on the timeline of a user and key."""

    at_us: int
    session: str
    kind: str  # create, adoption, or sight: first seen in use
    generation: Generation
    request: str
    told: list[tuple]  # (time, writer, request) of each report, in order of time
    expected: str = ""
    is_rotation: bool = False
    decided_us: int = 0  # when it is certain that it is no rotation, if that is later
    made_us: int = 0  # when it was created, if its user was not known then


@dataclass(eq=False)
class Stay:
    """What is known of one session id, from when it is first heard of until it has been idle for too long."""

    session: str
    known: bool = False
    born: bool = False  # the current generation has been created
    adopted_at: int | None = None
    owner: tuple[str, str] | None = None
    owned_us: int = 0
    users: set[str] = field(default_factory=set)
    unplaced: Entry | None = None
    unplaced_until: int | None = None
    birth: Entry | None = None
    placed: bool = False
    last: int | None = None
    ended: bool = False
    ends: list[tuple] = field(default_factory=list)  # before anything else was heard of it
    why: str = ""  # it ended last
    gone_us: int = 0
    sure_us: int = 0  # when its deletion is certain
    gaps: list[tuple[int, int]] = field(default_factory=list)  # from a deletion to its insert, or to its reason
    saw_deletion: list[wire.Writer] = field(default_factory=list)  # before somebody else said why it ended
    revived: bool = False
    deleted_at: int | None = None
    task: str = ""  # what `restart_on` names
    generations: list[Generation] = field(default_factory=list)

    def uses_by(self, at_us):
        return [time for each in self.generations for time in each.uses if time <= at_us]

    def ended_by(self, at_us):
        """The first end of a session of which nothing else had been told."""
        ends = [end[:2] for end in self.ends if end[0] <= at_us]
        gaps = [(gap[0], "deleted") for gap in self.gaps if gap[0] <= at_us < gap[1]]
        return next(iter([*ends, *gaps]), None)


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


@dataclass
class Chronicle:
    """What happened, in lists: stays by session and timelines by user and key, in order of time."""

    verdict: Verdict = field(default_factory=Verdict)
    stays: dict[str, list[Stay]] = field(default_factory=lambda: defaultdict(list))
    timelines: dict[tuple, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    births: list[Entry] = field(default_factory=list)
    heard_us: dict[str, int] = field(default_factory=dict)  # when a session's id was first told


def judge(reports, *, window_us, idle_us, lateness_us, sessions_per_user="one"):
    """Judge one scope's history; the arguments are those of `read`."""
    rules = {"window_us": window_us, "sessions_per_user": sessions_per_user}
    chronicle = read(reports, idle_us=idle_us, lateness_us=lateness_us, **rules)
    chronicle.verdict.duplicates = Counter(each[2] for each in duplicates(chronicle.timelines, **rules))
    return chronicle.verdict


def read(reports, *, window_us, idle_us, lateness_us, sessions_per_user="one", until_us=0):
    """Read one scope's history.

    Args:
        reports: (event, writer) of every event there was, in any order.
        window_us: The duplicate window.
        idle_us: The idle timeout.
        lateness_us: How soon after a deletion an insert makes it a rewrite, and a create explains a sighting.
        sessions_per_user: `one` or `many`.
        until_us: What has been idle for too long then has expired.
    """
    chronicle = Chronicle()
    verdict, timelines = chronicle.verdict, chronicle.timelines
    stays = {}
    seen = set()  # (request, session)
    looked = Counter()

    history = sorted(
        (each for each in reports if type(each[0]) in KIND_ORDER),
        key=lambda each: (each[0].at_us, each[0].session, KIND_ORDER[type(each[0])]),
    )
    verdict.losses = sum(1 for event, _ in reports if type(event) is wire.ContextLost)
    made = [
        (event, event.at_us if type(event) is wire.Created else event.created_at_us)
        for event, _ in history
        if type(event) in {wire.Created, wire.Observed}
    ]

    def is_write(event):
        return type(event) is wire.Created or event.origin != wire.RESULT

    def is_young(event):
        return is_write(event) or (event.created_at_us and event.at_us - event.created_at_us < window_us)

    def rewritten_us(deletion):
        """When an insert makes it a rewrite, if one does."""
        limit_us = deletion.at_us + lateness_us
        inserts = (
            event.at_us
            for event, created_us in made
            if event.session == deletion.session
            and deletion.at_us <= event.at_us <= limit_us
            and is_young(event)
            and (created_us > deletion.at_us or is_write(event))
        )
        return next(inserts, float("inf"))

    def explained_us(deletion):
        """When somebody says why it ended, if that is a moment later."""
        explained = (
            event.at_us
            for event, _ in history
            if type(event) is wire.Ended
            and event.session == deletion.session
            and event.reason != "deleted"
            and deletion.at_us <= event.at_us <= deletion.at_us + lateness_us
        )
        return next(explained, float("inf"))

    def arrive(session, **what):
        stays[session] = Stay(session, **what)
        chronicle.stays[session].append(stays[session])

    def expire_until(now):
        for session, stay in list(stays.items()):
            if stay.last is not None and now - stay.last > idle_us:
                is_deleted = stay.deleted_at is not None or stay.saw_deletion  # and not certain yet
                verdict.ends["deleted" if is_deleted else "expired"] += not stay.ended
                arrive(session, known=True, ended=True, revived=True)  # only the id is remembered

    def enter(stay, entry):
        if stay.owner:
            timelines[stay.owner].append(entry)
            stay.placed = True
        else:
            stay.unplaced, stay.unplaced_until = entry, None

    def active(stay, event, *, is_create=False):
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
        stay.known = True
        stay.last = event.at_us
        stay.generations[-1].uses.append(event.at_us)
        if event.user:
            stay.users.add(event.user)
        if stay.owner is None and event.user:
            stay.owner, stay.owned_us = (event.user, event.key), event.at_us
            if stay.unplaced is not None and stay.unplaced_until is not None and event.at_us > stay.unplaced_until:
                stay.unplaced = None
            if stay.unplaced is not None:
                stay.unplaced.made_us = stay.unplaced.at_us
                stay.unplaced.at_us = max(stay.unplaced.at_us, event.at_us)
                enter(stay, stay.unplaced)
                stay.unplaced = None

    def sighted(stay, event):
        if stay.generations[-1].seen_us is None:
            stay.generations[-1].seen_us = event.at_us

    def born(stay, event, writer):
        verdict.creates += 1
        stay.born = True
        stay.generations[-1].born_us = event.at_us
        told = (stay.generations[-1], event.request, [(event.at_us, writer, event.request)], event.expected)
        if stay.adopted_at is not None and event.at_us - stay.adopted_at <= lateness_us:
            verdict.adopted -= 1  # the sighting before was of this create
            for entry in timelines[stay.owner] if stay.owner else ():
                if entry.session == event.session and entry.at_us == stay.adopted_at and entry.kind == "adoption":
                    entry.kind, stay.birth = "create", entry
                    entry.told.append((event.at_us, writer, event.request))
                    entry.expected = event.expected
                    chronicle.births.append(entry)
                    return
            stay.birth = Entry(max(stay.adopted_at, stay.owned_us), event.session, "create", *told)
        else:
            stay.birth = Entry(event.at_us, event.session, "create", *told)
        chronicle.births.append(stay.birth)
        enter(stay, stay.birth)

    def over(stay, at_us, reason, writer):
        stay.known = True
        if stay.revived and not stay.generations:
            return  # it has expired
        if not stay.ended:
            verdict.ends[reason] += 1
        ends = stay.generations[-1].ends if stay.generations else stay.ends
        ends += [(at_us, reason, each.id) for each in (writer, *stay.saw_deletion)]
        stay.saw_deletion, stay.why = [], reason
        if reason != "deleted" or at_us > stay.sure_us:
            stay.gone_us, stay.sure_us = at_us, at_us + (lateness_us if reason == "deleted" else 0)
        stay.ended, stay.born, stay.adopted_at = True, False, None
        # Whose it was may be told as long as its deletion is not certain.
        if reason != "deleted":
            stay.unplaced_until = at_us
        elif stay.unplaced_until is None:
            stay.unplaced_until = at_us + lateness_us
        stay.last = stay.last if stay.last is not None else at_us

    def create(stay, event, writer):
        deleted_at, stay.deleted_at = stay.deleted_at, None
        was_born = stay.born
        if not was_born and deleted_at is None:
            stay.unplaced = None
        active(stay, event, is_create=True)
        sighted(stay, event)
        if deleted_at is not None:
            stay.generations[-1].gaps.append((deleted_at, event.at_us))
            stay.born = True
        elif not was_born:
            born(stay, event, writer)
        elif stay.birth is not None:
            stay.birth.told.append((event.at_us, writer, event.request))

    def restart(stay, event, writer):
        if is_other(stay, event) and not stay.ended and stay.deleted_at is None:
            over(stay, event.at_us - 1, "replaced", writer)
        stay.task = event.generation or stay.task

    def is_other(stay, event):
        return event.generation and stay.task and event.generation != stay.task

    def is_made(stay, event):
        another = sessions_per_user == "one" and any(
            other.owner == (event.user, event.key)
            and not other.ended
            and other.deleted_at is None
            and not other.saw_deletion
            and other.last is not None
            for name, other in stays.items()
            if name != event.session
        )
        if event.origin == wire.RESULT:
            is_new = not stay.born or stay.deleted_at is not None
            return (is_young(event) and is_new and event.created_at_us > max(stay.gone_us, stay.deleted_at or 0)) or (
                another and not stay.known
            )
        if stay.deleted_at is not None or is_other(stay, event):
            return True
        if not stay.known:
            return event.origin == wire.ROW or another
        return stay.ended and stay.why not in {"", "expired"}

    for event, writer in history:
        expire_until(event.at_us)
        chronicle.heard_us.setdefault(event.session, event.at_us)
        if event.session and event.session not in stays:
            arrive(event.session)
        stay = stays[event.session] if event.session else Stay("")
        kind = type(event)
        if kind is wire.LookedUp or (kind is wire.Observed and event.origin == wire.RESULT):
            verdict.lookups += 1
            if event.request:
                looked[event.request, event.user, event.key] += 1
                verdict.redundant_lookups += looked[event.request, event.user, event.key] > 1
        pair = (event.request, event.session)
        fresh = not event.request or pair not in seen
        if kind in {wire.Created, wire.LookedUp, wire.Observed}:
            seen.add(pair)
        if kind is wire.Reused:
            verdict.reuses += 1
            active(stay, event)
        elif kind is wire.LookedUp and event.session:
            verdict.reuses += fresh
            active(stay, event)
        elif kind is wire.Attributed:
            active(stay, event)
        elif kind is wire.Created:
            restart(stay, event, writer)
            create(stay, event, writer)
        elif kind is wire.Observed:
            unknown = not stay.known
            if is_made(stay, event):
                restart(stay, event, writer)
                create(stay, event, writer)
            else:
                stay.task = event.generation or stay.task
                active(stay, event)
                if unknown:
                    sighted(stay, event)
                    verdict.adopted += 1
                    stay.adopted_at = event.at_us
                    told = (stay.generations[-1], event.request, [(event.at_us, writer, event.request)], event.expected)
                    enter(stay, Entry(event.at_us, event.session, "adoption", *told))
                elif fresh and event.origin != wire.ROW:
                    verdict.reuses += 1
        elif kind is wire.Ended:
            if event.reason != "deleted" or stay.ended:
                over(stay, event.at_us, event.reason, writer)
            elif stay.deleted_at is None:
                stay.known = True
                explained, rewritten = explained_us(event), rewritten_us(event)
                if explained < rewritten:
                    stay.saw_deletion.append(writer)
                    stay.gone_us = event.at_us
                    stay.gaps.append((event.at_us, explained))
                    stay.last = stay.last if stay.last is not None else event.at_us
                    if stay.generations:
                        stay.generations[-1].gaps.append((event.at_us, explained))
                elif rewritten < float("inf"):
                    stay.deleted_at = event.at_us
                    stay.gaps.append((event.at_us, rewritten))
                else:
                    over(stay, event.at_us, event.reason, writer)
        if event.session and stay.owner and not stay.placed and stay.unplaced is None:
            enter(stay, Entry(event.at_us, event.session, "sight", stay.generations[-1], event.request, []))

    expire_until(until_us)
    for timeline in timelines.values():
        timeline.sort(key=lambda entry: (entry.at_us, entry.session))
    return chronicle


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
