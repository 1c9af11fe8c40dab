"""What an oracle writes down when it reads a history: sessions, their generations, and their users' timelines."""

from collections import defaultdict
from dataclasses import dataclass, field

from session_exporter.core.events import Writer


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
    gaps: list[tuple] = field(default_factory=list)  # from a deletion to its insert, or to its reason
    lost: list[int] = field(default_factory=list)

    def last_use_us(self, at_us):
        return max(time for time in self.uses if time <= at_us)

    def end_by(self, at_us):
        """(time, reason, writers) of its end by a time; a deletion is one until an insert makes it a rewrite."""
        ends = [end for end in self.ends if end[0] <= at_us]
        if ends:
            return (*ends[0][:2], {writer for _, _, writer in ends})
        return next(((low_us, "deleted", set()) for low_us, high_us in self.gaps if low_us <= at_us < high_us), None)


@dataclass(eq=False)
class Entry:
    """A place on the timeline of a user and key."""

    at_us: int
    session: str
    kind: str  # create, adoption, or sight: first seen in use
    generation: Generation
    request: str = ""
    told: list[tuple[int, Writer, str]] = field(default_factory=list)  # (time, writer, request) of each report
    expected: str = ""
    is_rotation: bool = False
    decided_us: int = 0  # when it is certain that it is no rotation, if that is later
    made_us: int = 0  # when it was created, if its user was not known then


@dataclass(eq=False)
class Stay:
    """What is known of one session id, from when it is first heard of until it has been idle for too long."""

    session: str
    known: bool = False
    revived: bool = False  # its id is remembered from an earlier stay
    owner: tuple[str, str] | None = None
    owned_us: int = 0
    users: set[str] = field(default_factory=set)
    last: int | None = None
    generations: list[Generation] = field(default_factory=list)
    task: str = ""  # what `restart_on` names
    # The current generation.
    born: bool = False
    birth: Entry | None = None
    adopted_at: int | None = None
    ended: bool = False
    why: str = ""
    # Whose place on a timeline is not known yet, and until when it may be told.
    placed: bool = False
    unplaced: Entry | None = None
    unplaced_until: float = float("inf")
    # Ends, and deletions that are none.
    ends: list[tuple] = field(default_factory=list)  # before anything else was heard of it
    gaps: list[tuple] = field(default_factory=list)
    gone_us: int = 0
    sure_us: int = 0  # when its deletion is certain
    deleted_at: int | None = None  # until it is rewritten
    saw_deletion: list[Writer] = field(default_factory=list)  # until somebody else says why it ended

    @property
    def is_deleted(self):
        """It is not certain yet whether that was its end."""
        return self.deleted_at is not None or bool(self.saw_deletion)

    def uses_by(self, at_us):
        return [time for each in self.generations for time in each.uses if time <= at_us]

    def ended_by(self, at_us):
        """(time, reason) of the first end of a session of which nothing else had been told."""
        ends = [end[:2] for end in self.ends if end[0] <= at_us]
        gaps = [(low_us, "deleted") for low_us, high_us in self.gaps if low_us <= at_us < high_us]
        return next(iter([*ends, *gaps]), None)


@dataclass
class Chronicle:
    """What happened, in lists: stays by session, and timelines by user and key in order of time."""

    stays: dict[str, list[Stay]] = field(default_factory=lambda: defaultdict(list))
    timelines: dict[tuple, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    births: list[Entry] = field(default_factory=list)
    heard_us: dict[str, int] = field(default_factory=dict)  # when a session's id was first told
