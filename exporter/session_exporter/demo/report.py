"""What the demonstration prints at its end, and whether it kept its promises. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from session_exporter.demo.findings import Claims, Truth
from session_exporter.demo.store import TABLES
from session_exporter.demo.traffic import Plan, TrafficCounts

STAGES: Final = ("ChatPipeline.run", "MessageHandler.handle", "TaskAction.perform")
REUSE_TARGET: Final = 0.95
HEALTHY, UNHEALTHY = 0, 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one run found.

    Attributes:
        plan: The traffic.
        tally: What the users saw.
        workers: The process ids of the workers.
        truth: What the application's database holds.
        claims: What `/metrics` says.
        judgement: What `view-metrics` prints.
        judgement_code: What it exits with.
        incident: One incident as `view-metrics explain` tells it; `""` when there is none.
        lookups: What `view-metrics lookups` prints of the conversations.
    """

    plan: Plan
    tally: TrafficCounts
    workers: frozenset[int]
    truth: Truth
    claims: Claims
    judgement: str
    judgement_code: int
    incident: str
    lookups: str


def findings(outcome: Outcome) -> str:
    """Write everything for people."""
    parts = [_seen(outcome), _counted(outcome), f"What view-metrics shows\n\n{outcome.judgement}"]
    if outcome.incident:
        parts.append(f"One of the incidents, as view-metrics explains it\n\n{_until_it_happened(outcome.incident)}")
    parts.append(f"Where sessions are looked up: view-metrics lookups --scope conversation\n\n{outcome.lookups}")
    return "\n\n".join(parts)


def _until_it_happened(story: str) -> str:
    """A story without what came after the incident: here that is the same again and again."""
    before, marker, after = story.partition("\n  > ")
    timeline, _, names = after.partition("\n\n")
    own, *others = timeline.splitlines() or [""]
    sites = list(takewhile(lambda line: line.startswith(" " * 6), others))
    if len(sites) == len(others):
        return story
    told = "\n".join([before + marker + own, *sites])
    legend = [line for line in names.splitlines() if line[:2] != "  " or f" {line.split()[0]}" in told]
    return "\n".join([told, "    ...", "", *legend])


def _seen(outcome: Outcome) -> str:
    tally = outcome.tally
    answers = f"{tally.answers['tasks']} lists of tasks, {tally.answers['greeting']} greetings"
    lines = [
        "What the users saw",
        f"  {answers}, {tally.answers['farewell']} goodbyes; {tally.failures} messages had to be sent again",
        f"  greeted although they had picked a project: {len(tally.wrongly_greeted)} of {outcome.plan.users} users",
    ]
    return "\n".join(lines)


def _counted(outcome: Outcome) -> str:
    lines = ["What the database holds, and what the sidecar counted", f"  {'':42}{'SQLite':>8}{'sidecar':>9}"]
    for scope, table in TABLES.items():
        truth, claims = outcome.truth.scopes[scope], outcome.claims
        duplicates = sum(claims.duplicates.get(scope, {}).values())
        lines.append(_compared(f"rows in {table}", truth.creates, claims.creates.get(scope, 0)))
        lines.append(_compared("  less than 10 s after another of the user", truth.duplicates, duplicates))
    causes = ", ".join(f"{cause} {count}" for cause, count in outcome.claims.causes().items())
    lines.append(f"  duplicates by cause: {causes or 'none'}")
    lines.append(f"  orphans, conversations left without a progress update: {outcome.truth.orphans}")
    return "\n".join(lines)


def _compared(what: str, truth: int, claim: int) -> str:
    return f"  {what:42}{truth:>8}{claim:>9}  {'agrees' if truth == claim else 'DISAGREES'}"


def broken_promises(outcome: Outcome, *, fixed: bool) -> list[str]:
    """Say what the run should have shown and did not; empty when all is as promised."""
    promises = {
        "creates and duplicates in /metrics agree with the rows in SQLite": outcome.claims.agree_with(outcome.truth),
        "every worker answers messages": set(outcome.tally.workers) == outcome.workers,
        "the injected failure strikes": outcome.tally.failures > 0,
        **(_promises_when_fixed(outcome) if fixed else _promises_when_racy(outcome)),
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def _promises_when_racy(outcome: Outcome) -> dict[str, bool]:
    causes = outcome.claims.causes()
    return {
        "duplicates are found within one request": "same_request" in causes,
        "duplicates are found across workers": "cross_worker" in causes,
        "an incident names all three call sites": all(stage in outcome.incident for stage in STAGES),
        "the redundant lookups name all three call sites": all(stage in outcome.lookups for stage in STAGES),
        "users are greeted although they had picked a project": outcome.tally.wrong_greetings > 0,
        "the application reports lost contexts": sum(outcome.claims.losses.values()) > 0,
        "a failure between two creates leaves an orphan": outcome.truth.orphans > 0,
        "view-metrics says unhealthy": outcome.judgement_code == UNHEALTHY,
    }


def _promises_when_fixed(outcome: Outcome) -> dict[str, bool]:
    claims = outcome.claims
    return {
        "no duplicate is found": not claims.causes(),
        "every scope reaches its reuse ratio": all(
            claims.reuses.get(scope, 0) >= REUSE_TARGET * (claims.reuses.get(scope, 0) + counts.creates) > 0
            for scope, counts in outcome.truth.scopes.items()
        ),
        "no request looks its session up twice": not any(claims.redundant_lookups.values()),
        "nobody is greeted who had picked a project": outcome.tally.wrong_greetings == 0,
        "no context is reported lost": sum(claims.losses.values()) == 0,
        "a failure between two creates leaves no orphan": outcome.truth.orphans == 0,
        "view-metrics says healthy": outcome.judgement_code == HEALTHY,
    }


def clearest(incidents: Iterable[Mapping[str, Any]]) -> str:
    """Pick the incident that says most: three creates, one by each stage; else the first.

    Args:
        incidents: What `view-metrics incidents --json` prints.

    Returns:
        Its id, `""` when there is none.
    """

    def clarity(incident: Mapping[str, Any]) -> bool:
        sites = [" ".join(create["call_sites"]) for create in incident["creates"]]
        return len(sites) == len(STAGES) and all(any(stage in chain for chain in sites) for stage in STAGES)

    chosen: Mapping[str, Any] = max(incidents, key=clarity, default={"id": ""})
    return str(chosen["id"])
