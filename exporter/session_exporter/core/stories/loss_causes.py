"""Why a request, or a user, did not get the session that was expected."""

from dataclasses import replace
from typing import Final, NamedTuple

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.duplicate_causes import about_writer, explain_duplicate
from session_exporter.core.stories.losses import Loss, by, when
from session_exporter.core.stories.races import Pair, relation_of
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text, listed

# A session that is younger may not have reached every copy of the database, or every cache.
_YOUNG_US: Final = 1_000_000
_TAKEN: Final = {"created": "created", "looked_up": "found", "observed": "got"}
_UNSEEN: Final = "in the database, unseen by any hook"


def explain_loss(dossier: Dossier) -> Explanation:
    """Tell how a session was lost, from what was done with it and with the one that came instead."""
    loss = Loss(dossier, dossier.texts.get("expected", ""), dossier.texts.get("actual", ""))
    return _BY_REASON.get(dossier.texts.get("reason", ""), _unknown)(loss)


# It was not found.


class Clue(NamedTuple):
    """What tells more about why a session was lost: the end of a sentence, if it takes one, and what to do."""

    finding: str
    advice: str
    decided: bool = True


def _missing(loss: Loss) -> Explanation:
    miss = _miss(loss)
    is_by_id = bool(miss.note.get("asked")) or miss.missed == "missed_by_id"
    asked, which = (loss.e, "it") if is_by_id else ("the session of its user", loss.e)
    cause = (
        f"{loss.who} asked for {asked}{loss.dossier.at(miss)} and found none, although {which} was live"
        f"{loss.last_use(miss.at_us)}"
    )
    for look in _CLUES:
        if clue := look(loss, miss):
            tail = f"; {clue.finding}" if clue.finding else ""
            more = [] if clue.decided else [_compared(loss, miss)]
            return Explanation(f"{cause}{tail}.", [clue.advice, *more], clue.decided)
    advice = _compared(loss, miss)
    if loss.dossier.is_told:
        return Explanation(f"{cause}; no event says why.", [advice], decided=False)
    return Explanation(f"{cause}; no other events were kept.", [advice, advise("keep_more")], decided=False)


def _compared(loss: Loss, miss: Step) -> str:
    return advise("compare_row", where=loss.dossier.where(miss), session=loss.e)


def _miss(loss: Loss) -> Step:
    """The lookup that found none; else what the request said when it was over."""
    work = loss.work()
    misses = [each for each in work if each.is_miss and each.note.get("asked", "") in ("", loss.expected)]
    return next(iter(misses), next((each for each in work if each.kind == "unmet"), loss.dossier.here))


def _ended(loss: Loss, moment: Step) -> Clue | None:
    end = loss.end(moment.at_us)
    if end is None:
        return None
    told = when(end, moment.at_us)
    if end.is_unhooked:
        return Clue(f"it was ended {told}, {_UNSEEN}", advise("find_writer", scope=loss.dossier.scope))
    worker, reason = by(loss.dossier, end), end.reason
    advice = advise("see_end", session=loss.e, worker=worker, reason=reason)
    return Clue(f"{worker} ended it ({reason}) {told}", advice)


def _found_later(loss: Loss, miss: Step) -> Clue | None:
    found = [each for each in loss.uses() if each.at_us > miss.at_us and each.kind in ("looked_up", "observed")]
    if not found:
        return None
    finding = f"{by(loss.dossier, found[0])} found it {gap_text(found[0].at_us - miss.at_us)} later"
    where, there = loss.dossier.where(miss), loss.dossier.where(found[0])
    return Clue(finding, advise("compare_lookups", session=loss.e, where=where, there=there))


def _young(loss: Loss, miss: Step) -> Clue | None:
    created = [each for each in loss.before(miss.at_us) if each.kind == "created"]
    if not created or miss.at_us - created[-1].at_us > _YOUNG_US:
        return None
    gap = gap_text(miss.at_us - created[-1].at_us)
    return Clue("", advise("read_where_written", where=loss.dossier.where(miss), session=loss.e, gap=gap))


def _elsewhere(loss: Loss, miss: Step) -> Clue | None:
    names = loss.dossier.names
    workers = {each.process: names.worker(each) for each in loss.before(miss.at_us) if each.process}
    if not workers or not miss.process or miss.process in workers:
        return None
    there, here = listed(workers.values()), names.worker(miss)
    finding = f"all that is known of it came from {there}, and this lookup from {here}"
    # Where there are two workers, one lookup in two comes from the other, whatever is wrong.
    return Clue(finding, advise("share_store", here=here, there=there), decided=False)


_CLUES: Final = (_ended, _found_later, _young, _elsewhere)


# Another one was used.


def _switched(loss: Loss) -> Explanation:
    dossier, use = loss.dossier, loss.taken() or loss.dossier.here
    cause = (
        f"{loss.who} never asked for {loss.e}, which it expected and which was live{loss.last_use(use.at_us)}; the"
        f" request {_TAKEN.get(use.kind, 'used')} {loss.a}{dossier.at(use)}{_origin(loss, use)}"
    )
    name = "look_before_create" if use.kind == "created" else "ask_by_id"
    advice = [advise(name, where=dossier.where(use), session=loss.e)]
    if any(each.note.get("shared") for each in (dossier.here, *loss.work())):
        cause += "; it used sessions of other scopes as well, and may have expected one of those"
        return Explanation(f"{cause}.", advice, decided=False)
    return Explanation(f"{cause}.", advice)


def _origin(loss: Loss, use: Step) -> str:
    created = [each for each in loss.dossier.of_session(loss.actual) if each.kind == "created"]
    if not created or created[0].at_us >= use.at_us:
        return ""
    return f", which {by(loss.dossier, created[0])} had created {gap_text(use.at_us - created[0].at_us)} before"


# Another one took over.


def _replaced(loss: Loss) -> Explanation:
    dossier, create = loss.dossier, loss.dossier.here
    end, used = loss.end(create.at_us), loss.last_use(create.at_us)
    if loss.expected == loss.actual != "":
        return _begun_anew(loss, end)
    took = f"{loss.a} took the place of {loss.e}, which was in use{used}"
    if create.is_unhooked or (end is not None and end.is_unhooked):
        return _replaced_unseen(loss, end, took)
    made = f"{by(dossier, create)} created {loss.a}"
    if end is None and not dossier.is_told:
        cause = f"{took} when {made}; no other events were kept, so it is not known how it ended."
        return Explanation(cause, [advise("keep_more")], decided=False)
    if end is None:
        return _not_ended(loss, f"{took}; it was not ended when {made}")
    cause = f"{took}; {by(dossier, end)} ended it ({end.reason}) {when(end, create.at_us)} {made}."
    return Explanation(cause, [_meant(loss, end.reason)])


def _begun_anew(loss: Loss, end: Step | None) -> Explanation:
    create = loss.dossier.here
    cause = (
        f"{loss.e} was created again under the same id, by {by(loss.dossier, create)}, while it was in use"
        f"{loss.last_use(create.at_us)}."
    )
    return Explanation(cause, [_meant(loss, end.reason if end is not None else "replaced")])


def _meant(loss: Loss, reason: str) -> str:
    return advise("mean_the_end", session=loss.e, reason=reason, scope=loss.dossier.scope)


def _replaced_unseen(loss: Loss, end: Step | None, took: str) -> Explanation:
    create = loss.dossier.here
    is_seen = not create.is_unhooked
    made = f"created by {by(loss.dossier, create)}" if is_seen else f"created {_UNSEEN}"
    if end is None:
        told = f"{loss.a} was {made}, and {loss.e} was not ended"
    elif end.is_unhooked and not is_seen:
        told = f"{loss.e} was ended and {loss.a} created {_UNSEEN}"
    else:
        ended = f"ended {_UNSEEN}" if end.is_unhooked else f"ended ({end.reason}) by {by(loss.dossier, end)}"
        told = f"{loss.e} was {ended}, and {loss.a} was {made}"
    writer = about_writer(loss.dossier, create)
    return Explanation(f"{took}; {told}.", [*writer[: 1 if is_seen else None], advise("leave_alone", session=loss.e)])


def _not_ended(loss: Loss, told: str) -> Explanation:
    dossier, uses = loss.dossier, loss.before(loss.dossier.at_us)
    advice = advise("upsert", scope=dossier.scope, where=dossier.where(dossier.here))
    if not uses:
        return Explanation(f"{told}.", [advice])
    relation = relation_of(Pair(dossier, uses[0], replace(dossier.here, session=loss.actual)))
    return Explanation(f"{told}; {relation.finding}.", [*relation.advice, advice], decided=relation.name != "unseen")


# The application said so.


def _reported(loss: Loss) -> Explanation:
    here = loss.dossier.here
    got = f"got {loss.a}" if loss.actual else "got none"
    cause = f"{loss.who} reported{loss.dossier.at(here)} that it expected {loss.e} and {got}"
    if clue := _ended(loss, here):
        return Explanation(f"{cause}; {clue.finding}.", [clue.advice])
    if race := _race(loss):
        told = race.cause[0].lower() + race.cause[1:]
        return Explanation(f"{cause}; the two are of one race: {told}", race.advice, decided=race.decided)
    return Explanation(f"{cause}; no event says why.", [advise("expect")], decided=False)


def _race(loss: Loss) -> Explanation | None:
    """What made both sessions, where neither create could know of the other."""
    dossier = loss.dossier
    sides = [
        [each for each in dossier.of_session(side) if each.kind == "created"] for side in (loss.expected, loss.actual)
    ]
    if not all(sides) or loss.expected == loss.actual:
        return None
    pair = Pair(dossier, *sorted((side[-1] for side in sides), key=lambda step: step.at_us))
    creates: tuple[Step, ...] = (pair.first, pair.second)
    if pair.are_one_work and pair.first.request:
        cause = "same_request"
        creates = tuple(each for each in dossier.of_request(pair.first) if each.kind == "created")
    elif relation_of(pair).name == "early":
        cause = "same_worker" if pair.first.process == pair.second.process else "cross_worker"
    else:
        return None
    return explain_duplicate(replace(dossier, creates=creates, texts={"cause": cause}))


def _unknown(loss: Loss) -> Explanation:
    cause = f"{loss.who} expected {loss.e} and got {loss.a}; its reason is none that this version knows."
    return Explanation(cause, [advise("newer")], decided=False)


_BY_REASON: Final = {
    "missing": _missing,
    "switched": _switched,
    "replaced": _replaced,
    "reported": _reported,
}
