"""The rules: what is looked for, why it matters, and what to do instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that makes sessions race, or hides that they do.

    Attributes:
        id: Such as `SE101`; never given to another rule.
        title: What was found, in a few words.
        why: What goes wrong because of it.
        instead: What to do.
    """

    id: str
    title: str
    why: str
    instead: str


_ALL: Final = (
    Rule(
        "SE101",
        "Two classes of one name with different attributes",
        "Code that is given the one and expects the other raises AttributeError, often in an error path, where it"
        " hides the real error.",
        "Define the class once and import it everywhere; rename the other if it is something else.",
    ),
    Rule(
        "SE102",
        "One module under two names",
        "Python runs the file once for each name: every class, singleton, cache and lock in it exists twice, and"
        " isinstance() is false between them.",
        "Import it by one name everywhere, and take the directory inside the package out of sys.path.",
    ),
    Rule(
        "SE103",
        "A database session is kept on an object",
        "A session belongs to one request and one task. Kept on an object that lives longer, it is used for several"
        " users at once, and its transaction stays open.",
        "Open it where the work is done (with SessionLocal() as session: ...) and hand it down as an argument.",
    ),
    Rule(
        "SE104",
        "A session is shared by the whole process",
        "Whoever comes second works in the session of whoever came first: two requests meet in one global.",
        "Open database sessions for each request; keep the user's session in the request or in a ContextVar, and let"
        " one lock for each user guard a cache.",
    ),
    Rule(
        "SE105",
        "Rows are deleted and inserted anew",
        "Two such functions at the same time both delete what was there and both insert: the user has two rows, or"
        " none in between.",
        "Use one statement (INSERT ... ON CONFLICT DO UPDATE) on a unique index, or lock first (SELECT ... FOR UPDATE,"
        " pg_advisory_xact_lock).",
    ),
    Rule(
        "SE106",
        "A session is looked for, then created",
        "Two callers at the same time both find nothing and both create one: the user has two sessions.",
        "Let a unique index decide: INSERT ... ON CONFLICT DO NOTHING, or catch IntegrityError, then read the row that"
        " won; or hold a lock of this user over both steps.",
    ),
    Rule(
        "SE107",
        "The session is looked up by user although its id is at hand",
        "The caller said which session it means; looked up by user, it may be another one, or a new one.",
        "Look up the session by the id that was given; create one only where there is none.",
    ),
    Rule(
        "SE108",
        "A tracking function that nobody calls",
        "It looks as if this were measured; the figure stays 0 whatever happens.",
        "Call it where it happens, or delete it and let it be detected.",
    ),
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType({rule.id: rule for rule in _ALL})
