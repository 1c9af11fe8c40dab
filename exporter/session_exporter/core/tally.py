"""What one scope has counted: totals, counts by the minute, exemplars and incidents, told as they come."""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from session_exporter.core.duplicates import Duplicate
from session_exporter.core.events import WATCH
from session_exporter.core.incidents import (
    Incident,
    OddId,
    duplicate_incident,
    invalid_id_incident,
    loss_incident,
    violation_incident,
)
from session_exporter.core.lookups import Places, PlaceTally
from session_exporter.core.minutes import MINUTE_US, Minute
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import Evidence, Owner, Report
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.top_users import TopUsers
from session_exporter.core.totals import Exemplar, ScopeTotals
from session_exporter.core.trail import Trail

# Of each scope, kind and shape, so many invalid ids are kept as evidence.
SAMPLES_PER_SHAPE: Final = 5
# Of each scope, kind and format, so many shapes are told apart: strangers may write ids of any.
SHAPES_MAX: Final = 16
OTHER_SHAPES: Final = "other"


class Verdict(NamedTuple):
    """What became of an event, or of the want of one.

    Attributes:
        at_us: Event time.
        scope: The scope's name.
        verdict: `create`, `reuse`, `adopted`, `attributed`, `lookup`, `redundant_lookup`, `end`,
            `rapid_duplicate_create`, `context_loss`, `conflict`, `create_failure`, `violation`, `rotation`,
            `stale_expected`, `id_mismatch`, `invalid_id`.
        session: Digest; empty for a lookup that found none and for a loss.
        user: Digest; empty when not known.
        detail: The cause of a duplicate, the reason of an end, loss or failure, the kind of a violation or of an
            invalid id.
    """

    at_us: int
    scope: str
    verdict: str
    session: bytes
    user: bytes = b""
    detail: str = ""


Listener: TypeAlias = Callable[[Verdict], None]


class Tally:
    """Counts of one scope.

    Args:
        rules: The scope's rules.
        totals: The counts to add to.
        names: For the pseudonyms that incidents and exemplars show.
        incidents_max: Incidents kept between two commits; the oldest leave first.
        listener: Told every verdict; None when nobody listens.
        trail: Adds to incidents what led to them; None when nothing is remembered.

    Attributes:
        minute: The counts of the minute that was counted in last, since the last commit.
        minutes: By minute since the epoch, since the last commit.
        incidents: Since the last commit.
        places: Where it was looked up, since the last commit.
        users: Counts some of it by user as well; None when nobody is counted by name.
    """

    users: TopUsers | None = None

    def __init__(
        self,
        rules: ScopeRules,
        totals: ScopeTotals,
        names: Pseudonyms,
        *,
        incidents_max: int,
        listener: Listener | None = None,
        trail: Trail | None = None,
    ) -> None:
        self.totals = totals
        self.minute = Minute()
        self.minutes: dict[int, Minute] = {}
        self.incidents: deque[Incident] = deque(maxlen=incidents_max)
        self.places = Places()
        self.listener = listener
        self._rules = rules
        self._names = names
        self._trail = trail
        self._number = -1
        self._exemplars: dict[str, tuple[bytes, bytes, int]] = {}

    def at(self, at_us: int) -> Minute:
        """The counts of the minute of `at_us`."""
        number = at_us // MINUTE_US
        if number != self._number:
            self._number = number
            self.minute = self.minutes.setdefault(number, Minute())
        return self.minute

    def create(self, at_us: int, session: bytes, user: bytes, evidence: Evidence) -> None:
        """Count a create."""
        self.totals.creates += 1
        self.at(at_us).add("creates")
        self._reconcile(at_us, evidence)
        self._exemplars["creates"] = (evidence.trace, user, at_us)
        if self.users is not None:
            self.users.created(user)
        self._tell(at_us, "create", session, user)

    def _reconcile(self, at_us: int, evidence: Evidence) -> None:
        totals = self.totals
        if not totals.watched_since_us:
            return
        if evidence.worker != WATCH:
            totals.reported += at_us >= totals.watched_since_us
        else:
            totals.unseen += 1
            self.at(at_us).add("unseen")
            totals.unreported += totals.has_hooks

    def found(self) -> None:
        """Count a session whose row was found in the database."""
        self.totals.found += 1

    def reuse(self, report: Report) -> None:
        """Count a reuse; those of the ledger's quick way are counted there, in the same place."""
        self.at(report.at_us).reuses += 1
        self.tell_reuse(report.at_us, report.session, report.user)

    def tell_reuse(self, at_us: int, session: bytes, user: bytes) -> None:
        """Tell those who want to know each reuse by itself; it is counted already."""
        if self.users is not None:
            self.users.reused(user, session)
        self._tell(at_us, "reuse", session, user)

    def adoption(self, at_us: int, session: bytes, user: bytes) -> None:
        """Count an adoption."""
        self.totals.adopted += 1
        self.at(at_us).add("adopted")
        self._tell(at_us, "adopted", session, user)

    def lookup(self, report: Report, duration_us: int, place: PlaceTally, first: int | None) -> None:
        """Count a lookup that was counted at its place.

        Args:
            report: The lookup.
            duration_us: How long it took; 0 when not measured.
            place: Where it was made.
            first: The place of the first lookup of its request, scope and user, which makes this one redundant;
                `NO_FIRST` when this is it; None when its request is not known.
        """
        self.totals.lookups += 1
        minute = self.at(report.at_us)
        minute.add("lookups")
        if duration_us:
            self.totals.lookup_durations.observe(duration_us / 1e6)
        if first:
            self.totals.redundant_lookups += 1
            minute.add("redundant_lookups")
            self.places.count_redundant(place, first)
        elif first is not None:
            minute.add("looking_requests")
        self._tell(report.at_us, "redundant_lookup" if first else "lookup", report.session, report.user)

    def end(self, at_us: int, session: bytes, user: bytes, reason: str) -> None:
        """Count an end."""
        self.totals.ends[reason] += 1
        self.at(at_us).add(f"ends:{reason}")
        self._tell(at_us, "end", session, user, reason)

    def attribution(self, report: Report) -> None:
        """Tell that the user of a session became known after its create or adoption; nothing counts it."""
        self._tell(report.at_us, "attributed", report.session, report.user)

    def lasted(self, duration_us: int) -> None:
        """Count how long a session lasted."""
        self.totals.durations.observe(duration_us / 1e6)

    def duplicate(self, found: Duplicate, owner: Owner) -> None:
        """Count a rapid duplicate create and keep its story."""
        at_us, session, cause = found.create.at_us, found.create.session, found.cause
        self.totals.duplicates[cause] += 1
        self.at(at_us).add(f"duplicates:{cause}")
        trace = found.create.evidence.trace if found.create.evidence else b""
        self._exemplars[f"duplicates:{cause}"] = (trace, owner.user, at_us)
        if self.users is not None:
            self.users.duplicated(owner.user)
        rules = self._rules
        self._keep(duplicate_incident(found, owner, rules.name, rules.duplicate_window_us, self._names))
        self._tell(at_us, "rapid_duplicate_create", session, owner.user, cause)

    def loss(self, report: Report, reason: str, expected: bytes, actual: bytes) -> None:
        """Count a context loss and keep its story."""
        self.totals.losses[reason] += 1
        self.at(report.at_us).add(f"losses:{reason}")
        self._exemplars[f"losses:{reason}"] = (report.evidence.trace, report.user, report.at_us)
        if self.users is not None:
            self.users.lost(report.user, expected)
        self._keep(loss_incident(report, self._rules.name, reason, (expected, actual), self._names))
        self._tell(report.at_us, "context_loss", b"", report.user, reason)

    def stale(self, report: Report) -> None:
        """Count an expected session that nobody knew any more."""
        self.totals.stale_expected += 1
        self.at(report.at_us).add("stale_expected")
        self._tell(report.at_us, "stale_expected", report.session, report.user)

    def rotation(self, at_us: int, session: bytes, user: bytes) -> None:
        """Count a create that only gave a session another id; it counts as a create as well."""
        self.totals.rotations += 1
        self.at(at_us).add("rotations")
        self._tell(at_us, "rotation", session, user)

    def id_check(self, at_us: int, kind: str, form: str) -> None:
        """Count an id that was compared with the format declared for its kind."""
        name = f"{kind}/{form}"
        self.totals.ids_checked[name] = self.totals.ids_checked.get(name, 0) + 1
        self.at(at_us).add(f"ids:{name}")

    def odd_id(self, report: Report, odd: OddId) -> None:
        """Count the shape of an id that is not canonical; the first invalid ids of each shape are kept as evidence."""
        shapes = self.totals.id_shapes
        name = f"{odd.kind}/{odd.form}/{odd.shape}"
        if name not in shapes and sum(each.startswith(f"{odd.kind}/{odd.form}/") for each in shapes) >= SHAPES_MAX:
            name = f"{odd.kind}/{odd.form}/{OTHER_SHAPES}"
        shapes[name] = shapes.get(name, 0) + 1
        self.at(report.at_us).add(f"shapes:{name}")
        if odd.form != "invalid":
            return
        samples = self.totals.id_samples
        if samples.get(name, 0) < SAMPLES_PER_SHAPE:
            samples[name] = samples.get(name, 0) + 1
            self._keep(invalid_id_incident(report, self._rules.name, odd, self._names))
        self._tell(report.at_us, "invalid_id", report.session, report.user, odd.kind)

    def id_mismatch(self, report: Report) -> None:
        """Count a request whose ids stem from different generations."""
        self.totals.id_mismatches += 1
        self.at(report.at_us).add("id_mismatches")
        self._tell(report.at_us, "id_mismatch", report.session, report.user)

    def conflict(self, report: Report) -> None:
        """Count a create that a unique index refused."""
        self.totals.conflicts += 1
        self.at(report.at_us).add("conflicts")
        self._tell(report.at_us, "conflict", report.session, report.user)

    def failure(self, report: Report, reason: str) -> None:
        """Count a create that failed otherwise."""
        self.totals.failures[reason] += 1
        self.at(report.at_us).add(f"failures:{reason}")
        self._tell(report.at_us, "create_failure", report.session, report.user, reason)

    def violation(self, report: Report, kind: str, other_user: bytes, other_request: bytes) -> None:
        """Count an isolation violation and keep its story."""
        self.totals.violations[kind] += 1
        self.at(report.at_us).add(f"violations:{kind}")
        others = (other_user, other_request)
        self._keep(violation_incident(report, self._rules.name, kind, others, self._names))
        self._tell(report.at_us, "violation", report.session, report.user, kind)

    def interval(self, interval_us: int, user: bytes) -> None:
        """Count the time between two creates of one user."""
        self.totals.intervals.observe(interval_us / 1e6)
        if self.users is not None and interval_us < self._rules.idle_timeout_us:
            self.users.repeated(user)

    def settle(self) -> None:
        """Bring the totals up to date with what is counted by the minute, and with the newest exemplars."""
        for number, minute in self.minutes.items():
            self.totals.count_minute(number * MINUTE_US, minute.reuses, minute.counts.get("creates", 0))
        for name, (trace, user, at_us) in self._exemplars.items():
            self.totals.exemplars[name] = Exemplar(trace.hex(), self._names.label("u", user), at_us)

    def forget_changes(self) -> None:
        """Note that all that was counted so far is stored."""
        self.minutes, self.minute, self._number = {}, Minute(), -1
        self.incidents.clear()
        self.places.forget_changes()
        self._exemplars = {}

    def start_anew(self, totals: ScopeTotals) -> None:
        """Go on with other totals; nothing that was counted before is."""
        self.totals = totals
        if self.users is not None:
            self.users.start_anew(totals)
        self.forget_changes()

    def _keep(self, incident: Incident) -> None:
        self.incidents.append(incident)
        if self._trail is not None:
            self._trail.want(incident)

    def _tell(self, at_us: int, verdict: str, session: bytes, user: bytes, detail: str = "") -> None:
        if self.listener is not None:
            self.listener(Verdict(at_us, self._rules.name, verdict, session, user, detail))
