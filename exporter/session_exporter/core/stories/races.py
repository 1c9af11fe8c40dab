"""Two creates of one user, and whether the second could have known of the first."""

from collections.abc import Sequence
from typing import NamedTuple

from session_exporter.core.stories.advice import advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text, listed, places


class Relation(NamedTuple):
    """What the request of the second create had seen of the first.

    Attributes:
        name: `found`, `other`, `blind`, `early`, `other_id`, `unchecked` or `unseen`.
        finding: The same as the end of a sentence.
        advice: What follows from it alone.
    """

    name: str
    finding: str
    advice: Sequence[str] = ()


class Pair(NamedTuple):
    """Two creates of one user that came too close to each other; the first may be an adoption."""

    dossier: Dossier
    first: Step
    second: Step

    @property
    def a(self) -> str:
        """How the first session is called."""
        return self.dossier.names.session(self.first.session)

    @property
    def b(self) -> str:
        """How the second session is called."""
        return self.dossier.names.session(self.second.session)

    @property
    def gap(self) -> str:
        """The time between them."""
        return gap_text(self.second.at_us - self.first.at_us)

    @property
    def are_one_work(self) -> bool:
        """Whether one request made both; one worker, where no request is known."""
        return is_of_same_work(self.first, self.second)

    def both(self) -> str:
        """Both sessions, the time between them, and where they were created."""
        at = places([self.first.sites, self.second.sites])
        where = f", both at {at[0]}" if at[0] and at[0] == at[1] else f", at {' and at '.join(at)}" if all(at) else ""
        return f"{self.a} and {self.b} {self.gap} apart{where}"

    def upsert(self) -> str:
        """The advice to let the database decide which of both there is."""
        inserts = listed((self.first.site, self.second.site))
        return advise("upsert", scope=self.dossier.scope, where=f" at {inserts}" if inserts else "")

    def lookups(self) -> list[Step]:
        """Before the second create: of its request, or of its worker where no request is known."""
        return [
            each
            for each in self.dossier.lookups()
            if each.at_us <= self.second.at_us
            and each.session != self.second.session
            and is_of_same_work(each, self.second)
        ]


def relation_of(pair: Pair) -> Relation:
    """Tell what the second create had seen of the first, from the lookups of its request."""
    lookups = pair.lookups()
    asked = [each for each in lookups if not each.note.get("asked") or each.note["asked"] == pair.first.session]
    last = asked[-1] if asked else lookups[-1] if lookups else None
    if last is None:
        return _not_looked_up(pair)
    if not asked:
        return _asked_for_another(pair, last)
    if last.is_miss:
        return _missed(pair, last)
    return _found(pair, last) if last.session == pair.first.session else _found_another(pair, last)


def is_of_same_work(one: Step, other: Step) -> bool:
    """Whether both are of one request; of one worker, where no request is known."""
    return one.request == other.request and (bool(one.request) or one.process == other.process != "")


def _found(pair: Pair, lookup: Step) -> Relation:
    gap = gap_text(pair.second.at_us - lookup.at_us)
    finding = f"{pair.b} was created although {pair.a} had been found {gap} before"
    where = pair.dossier.where(pair.second)
    return Relation("found", finding, [advise("use_what_was_found", where=where, session=pair.a)])


def _found_another(pair: Pair, lookup: Step) -> Relation:
    other = pair.dossier.names.session(lookup.session)
    advice = advise("use_what_was_found", where=pair.dossier.where(pair.second), session=other)
    return Relation("other", f"the lookup before {pair.b} found {other}, and not {pair.a}", [advice])


def _missed(pair: Pair, lookup: Step) -> Relation:
    known_us = lookup.at_us - pair.first.at_us
    gap = gap_text(abs(known_us))
    finding = f"the lookup before {pair.b} found none"
    clocks = ", by the clocks of two hosts" if lookup.replica != pair.first.replica else ""
    if known_us < 0:
        return Relation("early", f"{finding}, since it came {gap} before {pair.a} was there{clocks}")
    advice = advise("read_where_written", where=pair.dossier.where(lookup), session=pair.a, gap=gap)
    return Relation("blind", f"{finding}, although {pair.a} had been there for {gap}{clocks}", [advice])


def _asked_for_another(pair: Pair, lookup: Step) -> Relation:
    asked = pair.dossier.names.session(lookup.note.get("asked", ""))
    finding = f"before {pair.b}, only {asked} was looked up, which there was not, and never the session of the user"
    return Relation("other_id", finding, [advise("look_for_user", where=pair.dossier.where(lookup))])


def _not_looked_up(pair: Pair) -> Relation:
    if pair.dossier.lookups():
        return Relation("unchecked", f"no lookup was seen before {pair.b}")
    if not pair.dossier.is_told:
        finding = "no other events were kept, so it is not known whether a lookup came before either"
        return Relation("unseen", finding, [advise("keep_more")])
    finding = "no lookup was seen at all, so it is not known whether one came before either"
    return Relation("unseen", finding, [advise("see_lookups")])
