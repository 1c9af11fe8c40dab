"""What it means that a user has several active sessions, and what to do about it."""

from typing import Final

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text, listed

# Creates closer to each other than this are of one race.
_RACE_US: Final = 10_000_000
_DANGER: Final = (
    "which of them gets the next message is left to the query that looks the session up, and where that picks another"
    " one than before, the user's work seems gone"
)


def explain_duplicate_user(dossier: Dossier) -> Explanation:
    """Tell what several active sessions mean for their user, and how they came to be, as far as their times tell."""
    remedy = [advise("clean_up"), advise("index_active", scope=dossier.scope)]
    creates = [each for each in dossier.creates if each.at_us]
    if len(creates) < 2:  # noqa: PLR2004 - only between two there is a gap
        cause = f"{_told(dossier)}, created at times that are not known; {_DANGER}."
        return Explanation(cause, [*remedy, advise("say_when", scope=dossier.scope)], decided=False)
    return _compared(dossier, remedy, creates[-2], creates[-1])


def _compared(dossier: Dossier, remedy: list[str], first: Step, second: Step) -> Explanation:
    told, a, b = _told(dossier), dossier.names.session(first.session), dossier.names.session(second.session)
    gap_us = second.at_us - first.at_us
    if gap_us < _RACE_US:
        race = f"in a race, {a} was created{dossier.at(first)}, and {b} {gap_text(gap_us)} later{dossier.at(second)}"
        return Explanation(f"{told}: {race}; {_DANGER}.", [*remedy, advise("see_race")])
    kept = f"{a} was still active when {b} was created{dossier.at(second)}, {gap_text(gap_us)} later"
    advice = advise("end_before", session=a, newer=b)
    return Explanation(f"{told}: {kept}; {_DANGER}.", [*remedy, advice], decided=False)


def _told(dossier: Dossier) -> str:
    count = dossier.texts.get("active_rows") or "Several"
    where = ", on one device or in one thread," if dossier.here.key else ""
    names = listed(dossier.names.session(each.session) for each in dossier.creates if each.session)
    some = " among them" if names and count != str(len(dossier.creates)) else ""
    return f"{count} sessions of one user{where} are active at once{', ' if names else ''}{names}{some}"
