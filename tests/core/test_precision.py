"""How much of what goes wrong is found, and how much of what is found went wrong: all of it, id by id."""

from collections import Counter

import pytest
from lives import START_US, Stories
from precision import ARRIVALS_US, EVENTS_PER_USER, INJECTED, PERFECT, SCOPES, Campaign, score

from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS, Limits

pytestmark = pytest.mark.slow

HALFWAY_US = START_US + ARRIVALS_US // 2
# What must be injected; beside it, everyday life has its rotations and stale cookies.
KINDS = [
    *(f"duplicate/{cause}" for cause in CAUSES),
    *(f"loss/{reason}" for reason in LOSS_REASONS),
    *(f"violation/{kind}" for kind in VIOLATIONS[:1]),
    *("rotation", "stale", "redundant_lookup", "conflict", "id_mismatch"),
]


@pytest.mark.parametrize("users", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_every_incident_is_found_and_nothing_else_is(users: int) -> None:
    campaign = Campaign(users)
    campaign.run()

    assert {kind: each for kind, each in campaign.scores().items() if each != PERFECT} == {}
    assert campaign.world.events >= users * EVENTS_PER_USER
    assert all(campaign.world.truth[kind].total() >= 0.7 * users * INJECTED for kind in KINDS)
    assert totals(campaign) == {**expected_totals(campaign), "late_events": 0, "active_sessions": 0}


def totals(campaign: Campaign) -> dict[str, int]:
    """What is exposed in the end, of all scopes."""
    scopes = [campaign.ledger.totals.scopes[name] for name in SCOPES]
    counted: dict[str, int] = {}
    for scope in scopes:
        for name in ("creates", "reuses", "lookups", "adopted", "rotations", "stale_expected", "active_sessions"):
            counted[name] = counted.get(name, 0) + getattr(scope, name)
        for name in ("duplicates", "losses", "violations"):
            counted[name] = counted.get(name, 0) + sum(getattr(scope, name).values())
    return {**counted, "late_events": campaign.ledger.totals.late_events}


def expected_totals(campaign: Campaign) -> dict[str, int]:
    world = campaign.world
    happened = {kind: stories.total() for kind, stories in world.truth.items()}

    def all_of(kind: str) -> int:
        return sum(count for name, count in happened.items() if name.startswith(kind))

    return {
        "creates": happened["create"],
        "reuses": world.reuses,
        "lookups": world.lookups,
        "adopted": happened["adopted"],
        "rotations": happened["rotation"],
        "stale_expected": happened["stale"],
        "duplicates": all_of("duplicate/"),
        "losses": all_of("loss/"),
        "violations": all_of("violation/"),
    }


def test_an_installation_beside_running_sessions_invents_nothing_and_finds_all_of_whom_it_saw_come() -> None:
    users = 4_000
    campaign = Campaign(users, installed_us=HALFWAY_US)
    campaign.run()

    truth, found = campaign.world.truth, campaign.found.stories
    assert invented(truth, found) == {}
    newcomers = {f"user-{number}" for number in range(users // 2 + 1, users)}
    missed = {(kind, story) for kind in truth for story in truth[kind] - found[kind]}
    assert {(kind, story) for kind, story in missed if story[0] in newcomers} == set()


@pytest.mark.parametrize("tracked", [200, 50])
def test_an_eviction_invents_no_create_duplicate_or_loss(tracked: int) -> None:
    campaign = Campaign(4_000, limits=Limits(max_tracked_sessions=tracked))
    campaign.run()

    assert campaign.ledger.totals.evicted_sessions > 10_000
    assert invented(campaign.world.truth, campaign.found.stories) == {}


def invented(truth: Stories, found: Stories) -> dict[str, object]:
    """What was found of creates and incidents that did not happen."""
    kinds = [kind for kind in found if kind.startswith(("create", "rotation", "duplicate/", "loss/", "violation/"))]
    scores = {kind: score(by_session(kind, truth), by_session(kind, found)) for kind in kinds}
    return {kind: each for kind, each in scores.items() if each.precision < 1}


def by_session(kind: str, stories: Stories) -> Counter[tuple[object, ...]]:
    """The stories of a kind; of some without the user, because whose session it was is forgotten with the session."""
    if kind not in {"rotation", "violation/session_of_two_users"}:
        return stories[kind]
    return Counter((session,) for _, session in stories[kind].elements())
