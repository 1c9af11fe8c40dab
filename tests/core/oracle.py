"""An offline reading of the whole history, as plain as it can be: what the ledger must agree with.

It sees all events at once, sorts them, and looks back over complete lists. It shares no code with the ledger.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from session_exporter.core import events as wire

KIND_ORDER = {wire.Created: 1, wire.Reused: 2, wire.LookedUp: 3, wire.Observed: 4, wire.Ended: 5, wire.Attributed: 6}


@dataclass
class Story:
    """What is known of one session id."""

    known: bool = False
    born: bool = False  # the current generation has been created
    adopted_at: int | None = None
    owner: tuple[str, str] | None = None
    created_at: int = 0
    unplaced: object = None
    last: int | None = None
    ended: bool = False
    deleted_at: int | None = None


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
    """Judge one scope's history.

    Args:
        reports: (event, writer) of every event there was, in any order.
        window_us: The duplicate window.
        idle_us: The idle timeout.
        lateness_us: How soon after a deletion an insert makes it a rewrite, and a create explains a sighting.
        sessions_per_user: `one` or `many`.
    """
    verdict = Verdict()
    stories = defaultdict(Story)
    anchors = defaultdict(list)  # (user, key) -> [time, session, is_create, request, writer]
    seen = set()  # (request, session)
    looked = Counter()

    history = sorted(
        (each for each in reports if type(each[0]) in KIND_ORDER),
        key=lambda each: (each[0].at_us, each[0].session, KIND_ORDER[type(each[0])]),
    )
    verdict.losses = sum(1 for event, _ in reports if type(event) is wire.ContextLost)
    creates = [(event.session, event.at_us) for event, _ in history if type(event) is wire.Created]

    def expire_until(now):
        for session, story in stories.items():
            if story.last is not None and now - story.last > idle_us:
                verdict.ends["expired"] += not story.ended
                stories[session] = Story(known=True, ended=True)  # only the id is remembered

    def active(story, event):
        story.known, story.ended = True, False
        story.last = event.at_us
        if story.owner is None and event.user:
            story.owner = (event.user, event.key)
            if story.unplaced is not None:
                time, is_create, request, writer = story.unplaced
                anchors[story.owner].append([max(time, event.at_us), event.session, is_create, request, writer])
                story.unplaced = None

    def born(story, event, writer):
        verdict.creates += 1
        story.born = True
        if story.adopted_at is not None and event.at_us - story.adopted_at <= lateness_us:
            verdict.adopted -= 1  # the sighting before was of this create
            for anchor in anchors[story.owner] if story.owner else ():
                if anchor[1] == event.session and anchor[0] == story.adopted_at and not anchor[2]:
                    anchor[2] = True
                    return
            time = story.adopted_at
        else:
            time = event.at_us
        if story.owner:
            anchors[story.owner].append([time, event.session, True, event.request, writer])
        else:
            story.unplaced = (time, True, event.request, writer)

    for event, writer in history:
        expire_until(event.at_us)
        story = stories[event.session] if event.session else Story()
        kind = type(event)
        if kind in {wire.LookedUp, wire.Observed}:
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
            active(story, event)
        elif kind is wire.LookedUp and event.session:
            verdict.reuses += fresh
            active(story, event)
        elif kind is wire.Attributed:
            active(story, event)
        elif kind is wire.Created:
            rewrites = story.deleted_at is not None and event.at_us - story.deleted_at <= lateness_us
            story.deleted_at = None
            was_born = story.born
            unplaced, story.unplaced = story.unplaced, None
            active(story, event)
            story.unplaced = unplaced if story.owner is None else None
            if rewrites:
                story.born = True
            elif not was_born:
                born(story, event, writer)
        elif kind is wire.Observed:
            young = event.created_at_us and event.at_us - event.created_at_us < window_us
            another = sessions_per_user == "one" and any(
                other.owner == (event.user, event.key) and not other.ended and other.last is not None
                for name, other in stories.items()
                if name != event.session
            )
            unknown = not story.known
            if (young and not story.born) or (unknown and another):
                active(story, event)
                born(story, event, writer)
                continue
            active(story, event)
            if unknown:
                verdict.adopted += 1
                story.adopted_at = event.at_us
                anchors[story.owner].append([event.at_us, event.session, False, event.request, writer])
            elif fresh:
                verdict.reuses += 1
        elif kind is wire.Ended:
            story.known = True
            if event.reason == "deleted":
                limit = event.at_us + lateness_us
                if any(name == event.session and event.at_us <= time <= limit for name, time in creates):
                    story.deleted_at = event.at_us
                    continue
            if not story.ended:
                verdict.ends[event.reason] += 1
            story.ended, story.born, story.adopted_at, story.unplaced = True, False, None, None
            story.last = story.last if story.last is not None else event.at_us

    for timeline in anchors.values():
        timeline.sort(key=lambda anchor: (anchor[0], anchor[1]))
        for index, (time, session, is_create, request, writer) in enumerate(timeline):
            if not is_create:
                continue
            earlier = timeline[:index]
            if sessions_per_user == "many":
                earlier = [each for each in earlier if request and each[3] == request]
            earlier = [each for each in earlier if each[2] or each[1] != session]  # its own adoption is no other
            if earlier and time - earlier[-1][0] < window_us:
                verdict.duplicates[cause(earlier[-1], (request, writer))] += 1
    return verdict


def cause(first, second):
    """Why two creates met."""
    (*_, request, writer), (other_request, other_writer) = first, second
    if request and request == other_request:
        return "same_request"
    if writer.id == other_writer.id:
        return "same_worker"
    return "cross_worker" if writer.replica == other_writer.replica else "cross_replica"
