"""Why a session, or a database session, crossed a border that it must not cross."""

from typing import Final

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text

# One id that so many users have is no id of a session alone.
_USERS_OF_A_COMMON_ID: Final = 3


def explain_violation(dossier: Dossier) -> Explanation:
    """Tell who shared what with whom."""
    return _BY_KIND.get(dossier.texts.get("violation", ""), _unknown)(dossier)


# A session of the application.


def _session_of_two_users(dossier: Dossier) -> Explanation:
    here, names = _use(dossier), dossier.names
    before = _use_by_another(dossier)
    first = f"for user {names.user(before.user)}{_in_request(dossier, before)}{dossier.at(before)}"
    gap = f"{gap_text(here.at_us - before.at_us)} later" if 0 < before.at_us <= here.at_us else "then"
    cause = (
        f"Session {names.session(here.session)} was used {first}, and {gap} for user"
        f" {names.user(here.user)}{_in_request(dossier, here)}{dossier.at(here)}"
    )
    return Explanation(f"{cause}.", _remedies(dossier, here, before))


def _use(dossier: Dossier) -> Step:
    """The use that crossed the border, as the timeline has it when it does."""
    here = dossier.here
    uses = dossier.of_session(here.session)
    return next((each for each in uses if each.at_us == here.at_us and each.user == here.user), here)


def _use_by_another(dossier: Dossier) -> Step:
    """The last use by the other user before that; what the incident says, when the timeline does not have it."""
    here, other = dossier.here, dossier.texts.get("other_user", "")
    uses = [each for each in dossier.of_session(here.session) if each.user == other and each.at_us <= here.at_us]
    return uses[-1] if uses else Step(user=other, request=dossier.texts.get("other_request", ""))


def _remedies(dossier: Dossier, here: Step, before: Step) -> list[str]:
    users = {each.user for each in dossier.of_session(here.session) if each.user}
    if len(users) >= _USERS_OF_A_COMMON_ID:
        return [advise("id_per_user", users=str(len(users)), scope=dossier.scope)]
    where = dossier.where(here)
    if here.request and here.request == before.request:
        return [advise("one_user_per_request", where=where)]
    return [advise(_BY_USE.get(here.kind, "see_origin"), where=where)]


_BY_USE: Final = {"looked_up": "check_owner", "observed": "check_owner", "created": "unique_ids"}


# A session of the database library.


def _of_two_users(dossier: Dossier) -> Explanation:
    names, here = dossier.names, dossier.here
    before = Step(request=dossier.texts.get("other_request", ""))
    cause = (
        f"One database session{_opened(dossier)} served user {names.user(dossier.texts.get('other_user', ''))}"
        f"{_in_request(dossier, before)}, and after that user {names.user(here.user)}{_in_request(dossier, here)}"
        f"{dossier.at(here)}, without having been closed."
    )
    return Explanation(cause, [_own(dossier)])


def _crossed_requests(dossier: Dossier) -> Explanation:
    names, here = dossier.names, dossier.here
    other = names.request(dossier.texts.get("other_request", ""))
    cause = (
        f"One database session{_opened(dossier)} was used in request {other}, and after that in request"
        f" {names.request(here.request)}{dossier.at(here)}, without having been closed."
    )
    return Explanation(cause, [_own(dossier)])


def _crossed_tasks(dossier: Dossier) -> Explanation:
    here = dossier.here
    cause = (
        f"Two tasks or threads{_in_request(dossier, here)} used one database session{_opened(dossier)} at the same"
        f" time{dossier.at(here)}."
    )
    return Explanation(cause, [advise("db_session_per_task", where=dossier.where(here))])


def _outlived_request(dossier: Dossier) -> Explanation:
    request = dossier.texts.get("other_request") or dossier.here.request
    cause = (
        f"One database session{_opened(dossier)} was still open when request {dossier.names.request(request)} was over."
    )
    return Explanation(cause, [advise("close_db_session", where=_opened_at(dossier))])


def _own(dossier: Dossier) -> str:
    return advise("db_session_per_request", where=_opened_at(dossier))


def _opened(dossier: Dossier) -> str:
    where = _opened_at(dossier)
    return f", opened{where}," if where else ""


def _opened_at(dossier: Dossier) -> str:
    """What the database session said of itself once it was closed."""
    uses = [each for each in dossier.of_session(dossier.here.session) if each.kind == "db_session" and each.site]
    return f" at {uses[-1].site}" if uses else ""


def _in_request(dossier: Dossier, step: Step) -> str:
    return f" in request {dossier.names.request(step.request)}" if step.request else ""


def _unknown(dossier: Dossier) -> Explanation:
    here = dossier.here
    what = f"{dossier.names.session(here.session)} crossed a border{_in_request(dossier, here)}{dossier.at(here)}"
    cause = f"{what}; which one, this version does not know."
    return Explanation(cause, [advise("newer")], decided=False)


_BY_KIND: Final = {
    "session_of_two_users": _session_of_two_users,
    "db_session_of_two_users": _of_two_users,
    "db_session_crossed_requests": _crossed_requests,
    "db_session_crossed_tasks": _crossed_tasks,
    "db_session_outlived_request": _outlived_request,
}
