"""Why a user got two sessions within the window."""

from collections.abc import Sequence
from typing import Final

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.races import Pair, is_of_same_work, relation_of
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text, listed, places, times_text

# What is ended in the database within this time of a create there was ended by whatever created.
_TOGETHER_US: Final = 1_000_000


def explain_duplicate(dossier: Dossier) -> Explanation:
    """Tell why there are two sessions, from what is known of both creates and of what came before them."""
    if len(dossier.creates) < 2:  # noqa: PLR2004 - a duplicate is of two
        cause = "Another session of the user had been created shortly before; which one, the document does not say."
        return Explanation(cause, [advise("newer")], decided=False)
    pair = Pair(dossier, *dossier.creates[-2:])
    for applies, tell in _WHATEVER_THE_CAUSE:
        if applies(pair):
            return tell(pair)
    return _BY_CAUSE.get(dossier.texts.get("cause", ""), _unknown)(pair)


# Whatever processes the two came from.


def _is_unobserved(pair: Pair) -> bool:
    return pair.first.is_unhooked or pair.second.is_unhooked


def _unobserved(pair: Pair) -> Explanation:
    unseen = [each for each in (pair.first, pair.second) if each.is_unhooked]
    names = listed(pair.dossier.names.session(each.session) for each in unseen)
    verb = "were" if len(unseen) > 1 else "was"
    cause = f"{names} {verb} created in the database, where no hook of the application saw it, {_beside(pair)}"
    if ended := listed(_ended_with(pair.dossier, unseen)):
        cause += f"; {ended} ended there as well"
    advice = advise("upsert_writer", scope=pair.dossier.scope)
    return Explanation(f"{cause}.", [*about_writer(pair.dossier, unseen[-1]), advice])


def _beside(pair: Pair) -> str:
    if pair.first.is_unhooked and pair.second.is_unhooked:
        return f"{pair.gap} apart"
    if pair.second.is_unhooked:
        return f"{pair.gap} after {_made(pair.dossier, pair.first)}"
    return f"{pair.gap} before {_made(pair.dossier, pair.second)}"


def _made(dossier: Dossier, step: Step) -> str:
    verb = "first seen" if step.judged == "adopted" else "created"
    return f"{dossier.names.session(step.session)} was {verb}{dossier.at(step)}"


def _ended_with(dossier: Dossier, creates: Sequence[Step]) -> list[str]:
    return [
        dossier.names.session(each.session)
        for each in dossier.steps
        if each.kind == "ended"
        and each.is_unhooked
        and any(abs(each.at_us - create.at_us) <= _TOGETHER_US for create in creates)
    ]


def about_writer(dossier: Dossier, create: Step) -> list[str]:
    """How to find, and see, what created a session in the database."""
    found = advise("find_writer", scope=dossier.scope)
    seen = [each for each in dossier.of_session(create.session) if not each.is_unhooked and each.site]
    if not seen:
        return [found, advise("wrap_any_writer")]
    session = dossier.names.session(create.session)
    return [found, advise("wrap_writer", session=session, where=dossier.where(seen[0]))]


def _refusal(pair: Pair) -> Step | None:
    """What went wrong between the two creates in the work that made the second."""
    between = [each for each in pair.dossier.steps if pair.first.at_us <= each.at_us <= pair.second.at_us]
    return next((each for each in reversed(between) if _made_it_repeat(pair, each)), None)


def _made_it_repeat(pair: Pair, step: Step) -> bool:
    is_own = is_of_same_work(step, pair.second) or (step.kind == "database_error" and not step.request)
    return is_own and (
        step.kind == "conflicted" or (pair.are_one_work and (step.kind == "create_failed" or bool(step.error)))
    )


def _is_repeated(pair: Pair) -> bool:
    return _refusal(pair) is not None


def _repeated(pair: Pair) -> Explanation:
    step, dossier = _refusal(pair) or pair.second, pair.dossier
    later = f"{gap_text(pair.second.at_us - step.at_us)} later"
    same = f"the same {'request' if step.request else 'worker'} created {pair.b}{dossier.at(pair.second)}"
    if step.kind == "conflicted":
        cause = (
            f"The create{dossier.at(step)} was refused by a unique index, and {later} {same}, instead of going on with"
            f" {pair.a}, which was there."
        )
        return Explanation(cause, [advise("read_the_winner", where=dossier.where(step))])
    retry = [advise("look_before_retry"), pair.upsert()]
    if step.kind == "create_failed":
        cause = f"{pair.a} had been created when a create failed ({step.reason}){dossier.at(step)}; {later} {same}."
        return Explanation(cause, retry)
    cause = (
        f"{pair.a} had been created when a database error came ({step.error}), and {later}"
        f" {_made(dossier, pair.second)}; whether the work was repeated because of it, no event says."
    )
    return Explanation(cause, retry, decided=False)


def _is_adopted(pair: Pair) -> bool:
    return pair.first.judged == "adopted"


def _adopted(pair: Pair) -> Explanation:
    cause = (
        f"{_made(pair.dossier, pair.second)}, {pair.gap} after {_made(pair.dossier, pair.first)}; no hook saw how"
        f" {pair.a} came to be, so it is not known whether it was new."
    )
    return Explanation(cause, [advise("see_creates", session=pair.a), pair.upsert()], decided=False)


_WHATEVER_THE_CAUSE: Final = ((_is_unobserved, _unobserved), (_is_repeated, _repeated), (_is_adopted, _adopted))


# By the processes they came from.


def _same_request(pair: Pair) -> Explanation:
    names, request = pair.dossier.names, pair.second.request
    creates = [each for each in pair.dossier.creates if each.request == request]
    lookups = pair.lookups()
    at_lookups, at_creates = places([each.sites for each in lookups]), places([each.sites for each in creates])
    made = [names.session(each.session) for each in creates]
    if len(set(at_creates)) > 1:
        told = listed(_placed(*each) for each in zip(made, at_creates, strict=True))
    else:
        told = _placed(listed(made), at_creates[0])
    relation = relation_of(pair)
    asked = _asked(at_lookups, at_creates) if pair.dossier.is_told else ""
    tail = f"; {relation.finding}" if lookups else ""
    cause = f"One request, {names.request(request)},{asked} created {len(made)} sessions: {told}{tail}."
    return Explanation(cause, [_pass_on(at_lookups, at_creates), *relation.advice])


def _placed(name: str, place: str) -> str:
    return f"{name} at {place}" if place else name


def _asked(at_lookups: Sequence[str], at_creates: Sequence[str]) -> str:
    if not at_lookups:
        return " was not seen to look the session up, and"
    looked = f" looked the session up {times_text(len(at_lookups))}"
    return f"{looked if set(at_lookups) <= set(at_creates) else _placed(looked, listed(at_lookups))}, and"


def _pass_on(at_lookups: Sequence[str], at_creates: Sequence[str]) -> str:
    for name, stages in (("pass_on", at_lookups), ("create_once", at_creates)):
        others = listed(each for each in stages if each != stages[0])
        if others:
            return advise(name, first=stages[0] or "the first place", others=others)
    return advise("repeated", place=at_creates[0] or "the create", times=times_text(len(at_creates)))


def _same_worker(pair: Pair) -> Explanation:
    names, requests = pair.dossier.names, (pair.first.request, pair.second.request)
    if all(requests):
        who = f"Two requests of one worker, {listed(map(names.request, requests))},"
        return _raced(pair, who, advise("lock_of_one_worker"))
    unknown = "the request of one of them is not known" if any(requests) else "no request is known"
    cause = (
        f"One worker, {names.worker(pair.second)}, created {pair.both()}; {unknown}, so it cannot be told whether one"
        " request did both or two ran side by side."
    )
    return Explanation(cause, [advise("name_requests"), pair.upsert()], decided=False)


def _of_two_workers(pair: Pair) -> Explanation:
    if not pair.first.process or not pair.second.process:
        return _unplaced(pair)
    names, hosts = pair.dossier.names, (pair.first.replica, pair.second.replica)
    workers = listed((names.worker(pair.first), names.worker(pair.second)))
    of = f" of two hosts ({listed(hosts)})" if all(hosts) and hosts[0] != hosts[1] else ""
    return _raced(pair, f"Two workers{of}, {workers},", advise("lock_of_no_use", workers=workers))


def _unplaced(pair: Pair) -> Explanation:
    cause = f"{pair.a} and {pair.b} were created {pair.gap} apart; where one of them was created is not known any more."
    return Explanation(cause, [pair.upsert()], decided=False)


def _raced(pair: Pair, who: str, lock: str) -> Explanation:
    relation = relation_of(pair)
    cause = f"{who} created {pair.both()}: {relation.finding}."
    return Explanation(cause, [pair.upsert(), lock, *relation.advice], decided=relation.name != "unseen")


def _unknown(pair: Pair) -> Explanation:
    cause = f"{pair.a} and {pair.b} were created {pair.gap} apart; its cause is none that this version knows."
    return Explanation(cause, [pair.upsert()], decided=False)


_BY_CAUSE: Final = {
    "same_request": _same_request,
    "same_worker": _same_worker,
    "cross_worker": _of_two_workers,
    "cross_replica": _of_two_workers,
}
