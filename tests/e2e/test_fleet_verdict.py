"""What view-metrics says of a fleet, by a real Prometheus that scrapes real sidecars."""

import contextlib
import json
import shutil
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from fleet_processes import Fleet
from scraped_fleet import FleetPrometheus
from sidecar_process import Sidecar, until

from session_exporter.cli.view_metrics import main
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCOPE = "conversation"
CONFIG = """\
lateness: 100ms
scopes:
  conversation: {sessions_per_user: one}
"""
# Long enough that a window can begin within it, however slow the machine is.
QUIET_SCRAPES = 20
COUNTERS = {
    "creates": "session_creates_total",
    "reuses": "session_reuses_total",
    "rapid_duplicate_creates": "session_rapid_duplicate_creates_total",
    "context_losses": "session_context_loss_total",
}


class Pod:
    """A sidecar, and an application that writes to its journal; `counted` is what its state must have."""

    def __init__(self, home):
        home.mkdir()
        self.sidecar = Sidecar(home, CONFIG)
        self.users = 0
        self.counted = Counter()
        self.start()

    @property
    def url(self):
        return self.sidecar.url

    @property
    def instance(self):
        return urlsplit(self.url).netloc

    def start(self):
        self.sidecar.start().scrape()
        self.tracker = SessionTracker(self.sidecar.journal)

    def works(self, reuses, duplicates=0, losses=0):
        """Reuse the session of a new user; create some more sessions for her at once, and lose some; returns truth."""
        self.users += 1
        user, session = f"user-{self.users}", f"session-{self.users}"
        self.tracker.created(user, session, scope=SCOPE)
        for _ in range(reuses):
            self.tracker.reused(user, session, scope=SCOPE)
        for number in range(duplicates):
            self.tracker.created(user, f"{session}-{number}", scope=SCOPE)
        for number in range(losses):
            self.tracker.context_lost(user, expected=session, actual=f"another-{number}", scope=SCOPE)
        truth = {"creates": 1 + duplicates, "reuses": reuses}
        truth |= {"rapid_duplicate_creates": duplicates, "context_losses": losses}
        self.counted.update(truth)
        self.sidecar.scrape_until(
            lambda scrape: all(scrape.total(name) == self.counted[key] for key, name in COUNTERS.items()),
            f"{dict(self.counted)} are counted",
        )
        return Counter(truth)

    def ends(self, by="stop"):
        """Stop or kill the sidecar; it would listen at the same address again."""
        self.sidecar.listen = self.instance
        self.tracker.close()
        getattr(self.sidecar, by)()

    def moves(self):
        self.sidecar.listen = "127.0.0.1:0"

    def loses_its_volumes(self):
        self.counted.clear()
        for directory in (self.sidecar.state, self.sidecar.journal):
            shutil.rmtree(directory)


@pytest.fixture
def pods(tmp_path):
    """Makes pods by name."""
    made = []

    def make(name):
        made.append(Pod(tmp_path / name))
        return made[-1]

    yield make
    for pod in made:
        pod.tracker.close()
        pod.sidecar.kill()


@pytest.fixture
def prometheus(require_server):
    with FleetPrometheus(require_server("prometheus")) as running:
        yield running


def view(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def asked(prometheus, *arguments):
    return view("--prometheus", prometheus.url, *arguments)


def milliseconds_since(at_s):
    return f"{round((time.time() - at_s) * 1000)}ms"


def test_a_week_of_a_fleet_is_counted_truly(prometheus, pods):
    kept, lost, masked, gone, moved = (pods(name) for name in ("kept", "lost", "masked", "gone", "moved"))
    running = [kept, lost, masked, gone, moved]
    for pod in running:  # what was before the window
        pod.works(reuses=3, duplicates=1)
    prometheus.scrape(*(pod.url for pod in running))
    begins_s = time.time() + 0.2
    prometheus.until_each_scraped(QUIET_SCRAPES)
    truth = Counter()

    truth += kept.works(reuses=40)
    kept.ends("kill")
    kept.start()
    truth += kept.works(reuses=40, losses=1)

    truth += lost.works(reuses=30, duplicates=2)
    truth += masked.works(reuses=2)
    truth += gone.works(reuses=20, duplicates=1)
    truth += moved.works(reuses=10)
    prometheus.until_each_scraped()

    lost.ends()
    lost.loses_its_volumes()
    lost.start()
    truth += lost.works(reuses=5)  # less than before: its counters are seen to fall

    gone.ends("kill")
    moved.ends()
    masked.ends()
    masked.loses_its_volumes()
    prometheus.scrape(kept.url, lost.url)
    masked.start()
    truth += masked.works(reuses=60, duplicates=3)  # more than before when it is seen again
    moved.moves()
    moved.start()
    truth += moved.works(reuses=15, losses=2)
    born = pods("born")
    truth += born.works(reuses=25, duplicates=4, losses=1)  # all of it before its first scrape
    prometheus.scrape(kept.url, lost.url, masked.url, moved.url, born.url)

    result = asked(prometheus, "--since", milliseconds_since(begins_s), "--json")
    document = json.loads(result.stdout)
    assert {name: document["total"][name] for name in COUNTERS} == truth
    assert document["total"]["duplicates_by_cause"]["same_worker"] == truth["rapid_duplicate_creates"]
    assert document["scopes"][SCOPE]["window"]["losses_by_reason"]["reported"] == truth["context_losses"]
    assert (result.exit_code, document["healthy"], document["exporter"]["instances"]) == (1, False, 7)
    assert document["exporter"]["troubled"][born.instance] == 5


def test_one_sidecar_is_judged_as_it_judges_itself(prometheus, pods):
    pod = pods("pod")
    pod.works(reuses=7, duplicates=2, losses=1)
    prometheus.scrape(pod.url)
    by_itself = view("--url", pod.url)
    found = asked(prometheus)
    assert (found.exit_code, found.stderr, by_itself.exit_code) == (1, "", 1)
    figures, _, rest = found.stdout.partition("Look next:")
    assert figures == by_itself.stdout.partition("Look next:")[0]
    assert f"view-metrics incidents --since 1h --url http://{pod.instance}  #" in rest
    assert rest.endswith(f"Note:\n  counted by 1 instance: {pod.instance}\n")
    of_both = [json.loads(each.stdout) for each in (asked(prometheus, "--json"), view("--url", pod.url, "--json"))]
    assert of_both[0]["total"] == of_both[1]["total"]
    assert of_both[0]["problems"] == of_both[1]["problems"]


def test_the_verdict_is_the_exit_code_and_a_silent_instance_leaves_none(prometheus, pods):
    nobody = asked(prometheus)
    assert nobody.exit_code == 2
    assert "has no series session_creates_total in the last 1h: is it scraped?" in nobody.stderr
    one, two = pods("one"), pods("two")
    prometheus.scrape(one.url, two.url)
    idle = asked(prometheus)
    assert (idle.exit_code, "No session traffic in the last 1h" in idle.stdout) == (2, True)
    one.works(reuses=30)
    two.works(reuses=30)
    prometheus.until_each_scraped()
    well = asked(prometheus, "--scope", SCOPE)
    assert (well.exit_code, "Session reuse ratio is HEALTHY (≥95%)" in well.stdout) == (0, True)
    assert f"counted by 2 instances: {', '.join(sorted((one.instance, two.instance)))}" in well.stdout
    only = asked(prometheus, "--selector", f'{{instance="{one.instance}"}}', "--json")
    assert (only.exit_code, json.loads(only.stdout)["total"]["reuses"]) == (0, 30)
    strange = asked(prometheus, "--scope", "nonsense")
    assert (strange.exit_code, "knows no scope 'nonsense': there are conversation" in strange.stderr) == (2, True)
    two.ends("kill")
    prometheus.until_down(two.instance)
    doubtful = asked(prometheus)
    assert doubtful.exit_code == 2
    assert f"{two.instance} cannot be scraped now (up is 0): what was counted since is missing" in doubtful.stdout
    assert json.loads(asked(prometheus, "--json").stdout)["exporter"]["instances_down"] == [two.instance]


def test_a_race_between_two_pods_is_told_by_whoever_counted_it(prometheus, redis, tmp_path):
    with Fleet(tmp_path, redis, CONFIG, replicas=2, consumers=2, partitions=4) as fleet:
        fleet.start()
        trackers = [SessionTracker(place, replica=f"pod-{number}") for number, place in enumerate(fleet.journals)]
        for number, tracker in enumerate(trackers):
            tracker.created("ann", f"session-{number}", scope=SCOPE)
            for _ in range(50):
                tracker.reused(f"user-{number}", f"another-{number}", scope=SCOPE)
        until(lambda: _counted(fleet, "session_rapid_duplicate_creates_total") == 1, "the race is found")
        until(lambda: _counted(fleet, "session_reuses_total") == 100, "all is counted")
        prometheus.scrape(*(process.url for process in fleet.processes()))
        found = asked(prometheus)
        document = json.loads(asked(prometheus, "--json").stdout)
        (finder,) = (each for each in fleet.consumers if _of(each, "session_rapid_duplicate_creates_total"))
        assert found.exit_code == 1
        assert "ALERT: 1 rapid duplicate create (cross_replica 1)" in found.stdout
        assert f"view-metrics incidents --since 1h --url {finder.url}  #" in found.stdout
        assert "counted by 2 instances: " in found.stdout
        assert "; 2 forwarders\n" in found.stdout
        assert (document["total"]["creates"], document["total"]["reuses"]) == (2, 100)
        for tracker in trackers:
            tracker.close()


def test_partitions_that_nobody_reads_leave_no_verdict(prometheus, redis, tmp_path):
    with Fleet(tmp_path, redis, CONFIG, replicas=1, consumers=2, partitions=4) as fleet:
        fleet.start()
        with contextlib.closing(SessionTracker(fleet.journals[0])) as tracker:
            for _ in range(50):
                tracker.reused("ann", "session", scope=SCOPE)
        until(lambda: _counted(fleet, "session_reuses_total") == 50, "all is counted")
        (reader,) = (each for each in fleet.consumers if _of(each, "session_reuses_total"))
        (other,) = (each for each in fleet.consumers if each is not reader)
        prometheus.scrape(*(process.url for process in fleet.processes()))
        well = asked(prometheus)
        assert (well.exit_code, "of 4" in well.stdout) == (0, False)
        unread = {0: "0,2", 1: "1,3"}[fleet.consumers.index(other)]
        said = f"partitions {unread} of 4: no consumer that can be scraped reads them"
        prometheus.scrape(reader.url, fleet.forwarders[0].url)
        # Prometheus notes that a target has left some scrapes later.
        until(lambda: said in asked(prometheus).stdout, "the partitions are missed")
        assert asked(prometheus).exit_code == 2
        prometheus.scrape(*(process.url for process in fleet.processes()))
        other.kill()
        prometheus.until_down(other.url.removeprefix("http://"))
        killed = asked(prometheus)
        assert (killed.exit_code, said in killed.stdout) == (2, True)
        found = json.loads(asked(prometheus, "--json").stdout)
        assert found["exporter"]["partitions_unread"] == [int(number) for number in unread.split(",")]


def _of(consumer, name):
    return consumer.scrape().total(name)


def _counted(fleet, name):
    return sum(_of(consumer, name) for consumer in fleet.consumers)
