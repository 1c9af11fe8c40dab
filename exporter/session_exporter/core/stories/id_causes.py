"""Why an id is not of its declared format."""

from typing import Final

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step

_DEEDS: Final = {"created": "it was made", "observed": "it was seen", "ended": "it was ended"}


def explain_id(dossier: Dossier) -> Explanation:
    """Tell what an id looks like, what it should look like, and who made it or asked for it."""
    texts, step = dossier.texts, _bearer(dossier)
    kind, declared = texts.get("id_kind") or "session", texts.get("declared")
    format_ = f"`{declared}` is declared" if declared else "another format is declared"
    cause = f"The {kind} id {_name(dossier, step)} has the shape {texts.get('shape') or 'none'}, where {format_}"
    advice = [advise("one_factory", kind=kind, scope=dossier.scope), advise("declare_legacy", scope=dossier.scope)]
    if step is None:
        return Explanation(f"{cause}; {_bringer(dossier)}.", advice)
    if step.is_miss:
        advice.insert(0, advise("translate_id", where=dossier.where(step)))
    return Explanation(f"{cause}; {_deed(dossier, step)}.", advice)


def _name(dossier: Dossier, step: Step | None) -> str:
    """What it is, and how the timeline calls it."""
    sample = dossier.texts.get("sample") or "of this request"
    known = dossier.names.session(_session(step)) if step is not None else sample
    return sample if _bare(known) == _bare(sample) else f"{sample}, here {known},"


def _session(step: Step) -> str:
    return step.session or step.note.get("asked", "")


def _bearer(dossier: Dossier) -> Step | None:
    """The step that asked for the id and found none, or else the first that had to do with it."""
    sample = _bare(dossier.texts.get("sample", ""))
    bearing = [each for each in dossier.steps if sample and _bare(_session(each)) == sample]
    misses = [each for each in bearing if each.is_miss]
    return next(iter(misses or bearing), None)


def _bare(label: str) -> str:
    """A pseudonym without what it begins with: the id of a thread may be that of a session as well."""
    return label.rpartition(":")[2]


def _deed(dossier: Dossier, step: Step) -> str:
    if not step.is_miss:
        return f"{_DEEDS.get(step.kind, 'it was used')}{dossier.at(step)}"
    who = f"request {dossier.names.request(step.request)}" if step.request else dossier.names.worker(step)
    return f"{who} asked for it{dossier.at(step)} and found none"


def _bringer(dossier: Dossier) -> str:
    request = dossier.here.request
    return f"request {dossier.names.request(request)} brought it" if request else "who brought it is not known"
