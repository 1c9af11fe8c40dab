"""What is wrong with a test's sessions, as the text of its failure."""

from collections import Counter
from typing import Any, Final

from session_exporter.core.plaintext import inert
from session_exporter.core.storytelling import tell_story
from session_exporter.pytest_checks.demands import Demands
from session_exporter.pytest_checks.judgement import Judgement, RepeatedLookups

# By kind of incident: singular, plural, and what divides it into kinds of its own.
_KINDS: Final = {
    "rapid_duplicate_create": ("rapid duplicate create", "rapid duplicate creates", "cause"),
    "context_loss": ("context loss", "context losses", "reason"),
    "isolation_violation": ("isolation violation", "isolation violations", "violation"),
}
STORIES_MAX: Final = 5
LOOKUPS_MAX: Final = 10
PLACE_CHARS_MAX: Final = 600


def failure_of(judgement: Judgement, demands: Demands) -> str:
    """Say what a test has done wrong, and tell the incidents; `""` when nothing was."""
    refused = [each for each in judgement.incidents if _is_refused(each, demands.allow)]
    lookups = _lookup_problems(judgement, demands)
    problems = [*_incident_problems(refused), *lookups, *_ratio_problems(judgement, demands)]
    if judgement.lost:
        problems.append(f"{_counted(judgement.lost, 'event')} not recorded, and so not judged")
    if not problems:
        return ""
    repeated = judgement.repeated if lookups else []
    return "\n".join(
        [f"This test's sessions: {'; '.join(problems)}", *_told(_longest(refused)), *_lookups_told(repeated)]
    )


def stories_of(judgement: Judgement) -> str:
    """Tell all incidents, and where sessions are looked up more than once; `""` when there is nothing to tell."""
    return "\n".join(
        [*_told(judgement.incidents, len(judgement.incidents)), *_lookups_told(judgement.repeated)]
    ).strip()


def _is_refused(incident: dict[str, Any], allow: frozenset[str]) -> bool:
    kind = incident["kind"]
    return kind in _KINDS and kind not in allow and incident[_KINDS[kind][2]] not in allow


def _incident_problems(incidents: list[dict[str, Any]]) -> list[str]:
    problems = []
    for kind, (singular, plural, division) in _KINDS.items():
        words = Counter(each[division] for each in incidents if each["kind"] == kind)
        if words:
            divided = ", ".join(f"{count} {word}" if len(words) > 1 else word for word, count in words.items())
            problems.append(f"{_counted(words.total(), singular, plural)} ({divided})")
    return problems


def _lookup_problems(judgement: Judgement, demands: Demands) -> list[str]:
    count, limit = judgement.counts["redundant_lookups"], demands.max_redundant_lookups
    if limit is None or count <= limit:
        return []
    return [f"{_counted(count, 'redundant lookup')}, at most {limit} allowed"]


def _ratio_problems(judgement: Judgement, demands: Demands) -> list[str]:
    target, ratio = demands.min_reuse_ratio, judgement.reuse_ratio
    if target is None or (ratio is not None and ratio >= target):
        return []
    if ratio is None:
        return [f"no session was created or reused, so that no ratio reaches {target:.2%}"]
    creates, reuses = judgement.counts["creates"], judgement.counts["reuses"]
    return [f"reuse ratio {ratio:.2%}, at least {target:.2%} wanted ({creates} created, {reuses} reused)"]


def _longest(incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the duplicates whose whole story is part of a later one: each tells the creates before it."""
    chains = [frozenset(each["sessions"]) if "creates" in each else frozenset() for each in incidents]
    return [
        incident
        for number, (incident, chain) in enumerate(zip(incidents, chains, strict=True), 1)
        if not chain or not any(chain <= later for later in chains[number:])
    ]


def _told(incidents: list[dict[str, Any]], stories_max: int = STORIES_MAX) -> list[str]:
    told = [f"\n{tell_story(each)}" for each in incidents[:stories_max]]
    if len(incidents) > stories_max:
        further = _counted(len(incidents) - stories_max, "further incident")
        told.append(f"\n{further}: the fixture's `explain()` tells all")
    return told


def _lookups_told(repeated: list[RepeatedLookups]) -> list[str]:
    lines = []
    for each in repeated[:STORIES_MAX]:
        whose = f" of user {inert(each.user)}" if each.user else ""
        what = f"the {inert(each.scope)} session{whose}"
        lines.append(f"\nRequest {inert(each.request)} asked {len(each.sites)} times for {what}:")
        places = [inert(" < ".join(sites), PLACE_CHARS_MAX) or "somewhere" for sites in each.sites[:LOOKUPS_MAX]]
        lines += [f"  {number}. {place}" for number, place in enumerate(places, 1)]
    return lines


def _counted(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
