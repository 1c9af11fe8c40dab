"""The hooks and the fixture that check the sessions of tests."""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from session_exporter.config import Config, load
from session_exporter.errors import ConfigError
from session_exporter.pytest_checks.demands import DemandError, Demands, allowed, demands_of
from session_exporter.pytest_checks.findings import failure_of, stories_of
from session_exporter.pytest_checks.judgement import Counts, Judgement, judge
from session_exporter.pytest_checks.recording import Recording
from session_exporter.tracker import SessionTracker


class CheckedSessions:
    """The sessions of one test: what the fixture `session_exporter` is.

    Ids are shown as they are: those of tests are no secrets.
    """

    def __init__(self, checking: "Checking | None", demands: Demands, config: Config | None) -> None:
        self._checking = checking
        self._demands = demands
        self._config = config

    @property
    def tracker(self) -> SessionTracker:
        """Records events as the application does."""
        return SessionTracker() if self._checking is None else self._checking.tracker

    @property
    def counts(self) -> Counts:
        """What `judged().counts` is."""
        return self.judged().counts

    @property
    def incidents(self) -> list[dict[str, Any]]:
        """What `judged().incidents` is."""
        return self.judged().incidents

    def judged(self) -> Judgement:
        """Judge what the test has recorded by now, as if nothing would follow; skips the test while checks are off."""
        if self._checking is None:
            pytest.skip("the checks of session_exporter are off")
        return self._checking.judge(self._config)

    def explain(self) -> str:
        """Tell all incidents, and where sessions are looked up more than once; `""` when there is nothing to tell."""
        return stories_of(self.judged())

    def allow(self, *words: str) -> None:
        """Let the test pass in spite of some incidents.

        Args:
            words: Kinds of incidents, or causes, reasons and violations, as for the marker; added to those.

        Raises:
            DemandError: One is no such word.
        """
        self._demands = replace(self._demands, allow=self._demands.allow | allowed(words))

    def failure(self) -> str:
        """Say what is wrong; `""` when nothing is."""
        return failure_of(self.judged(), self._demands)


_SESSIONS = pytest.StashKey[CheckedSessions]()
_FAILURE = pytest.StashKey[str]()


class Checking:
    """Records what all tests do to sessions, and judges those that ask for it.

    Args:
        config: Of the run.
        marker: The marker's name.
        is_asked: Whether a test asks for it.
        settings: The path of the project's configuration; `""` for none.

    Attributes:
        tracker: For all tests.
    """

    def __init__(
        self, config: pytest.Config, marker: str, is_asked: Callable[[pytest.Item], bool], settings: str
    ) -> None:
        self._base = config.inipath.parent if config.inipath else config.rootpath
        self._marker = marker
        self._is_asked = is_asked
        self._settings = Path(settings) if settings else None
        self._configs: dict[Path, Config] = {}
        self.tracker = SessionTracker()
        self._recording = Recording()
        config.add_cleanup(self._recording.close)

    def sessions_of(self, item: pytest.Item) -> CheckedSessions:
        """The sessions of a test, which from now on is checked."""
        sessions = item.stash.get(_SESSIONS, None)
        if sessions is None:
            sessions = item.stash[_SESSIONS] = self._sessions(item)
        return sessions

    def judge(self, config: Config | None) -> Judgement:
        """Judge what was recorded since the test began."""
        recording = self._recording
        return judge(recording.pieces(), config, recording.known, lost=recording.lost())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin a test: before its fixtures are set up."""
        self._recording.begin_test()
        item.stash[_FAILURE] = ""
        if self._is_asked(item):
            item.stash[_SESSIONS] = self._sessions(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> Generator[None, Any, Any]:
        """Keep out of a test what belongs to several."""
        if fixturedef.scope == "function":
            return (yield)
        with self._recording.aside():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that would pass; of one that fails, keep what is to be added."""
        try:
            result = yield
        except (Exception, pytest.fail.Exception):
            sessions = item.stash.get(_SESSIONS, None)
            item.stash[_FAILURE] = "" if sessions is None else _failure_beside(sessions)
            raise
        sessions = item.stash.get(_SESSIONS, None)
        if sessions is not None and (failure := sessions.failure()):
            item.stash[_FAILURE] = failure
            pytest.fail(failure, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to the report of a test that fails by itself what is wrong with its sessions."""
        report = yield
        failure = item.stash.get(_FAILURE, "")
        # What a unittest.TestCase raised is known only here, and has taken the place of what was raised above.
        is_own = call.excinfo is not None and getattr(call.excinfo.value, "msg", None) == failure
        if call.when == "call" and report.failed and failure and not is_own:
            report.sections.append((self._marker, failure))
        return report

    def _sessions(self, item: pytest.Item) -> CheckedSessions:
        if self.tracker.disabled:
            pytest.fail(
                f"{self._marker}: nothing is recorded while $SESSION_EXPORTER_DISABLED is set: unset it, or switch the"
                " checks off by --session-exporter=off",
                pytrace=False,
            )
        try:
            demands = demands_of(item, self._marker)
            return CheckedSessions(self, demands, self._config(demands.config))
        except (DemandError, ConfigError) as error:
            problem = f"{self._marker}: {error}"
        pytest.fail(problem, pytrace=False)

    def _config(self, path: Path | None) -> Config | None:
        path = path or self._settings
        if path is None:
            return None
        if path not in self._configs:
            self._configs[path] = load(self._base / path)
        return self._configs[path]


def switched_off() -> CheckedSessions:
    """What the fixture is while nothing is checked."""
    return CheckedSessions(None, Demands(), None)


def _failure_beside(sessions: CheckedSessions) -> str:
    try:
        return sessions.failure()
    except Exception as error:  # noqa: BLE001 - the test's own failure is not to be hidden by one of ours
        return f"could not be judged: {type(error).__name__}: {error}"
