"""Zero code: installs the hooks that the sections of a configuration ask for."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final

from session_exporter.config import Config
from session_exporter.config import load as load_config
from session_exporter.errors import ConfigError, SessionExporterError
from session_exporter.journal import JournalLimits, find_directory
from session_exporter.journal.directory import ENVIRONMENT_KEY
from session_exporter.reporter import Reporter
from session_exporter.tracker import SessionTracker

CONFIG_KEY: Final = "SESSION_EXPORTER_CONFIG_FILE"
HOOK: Final = "autoload"

# Imported only when their section is there: an application pays for what it asks for.
_INSTALLERS: Final = {
    "tables": ("session_exporter.hooks.sqlalchemy", "install_tables"),
    "calls": ("session_exporter.hooks.calls", "install_calls"),
    "stores": ("session_exporter.hooks.stores", "install_stores"),
    "middleware": ("session_exporter.hooks.frameworks", "install_middleware"),
    "db_sessions": ("session_exporter.hooks.sqlalchemy.sessions", "watch_db_sessions"),
    "opentelemetry": ("session_exporter.hooks.opentelemetry", "install_opentelemetry"),
}
_OWN_COMMANDS: Final = ("session-exporter", "view-metrics")
_OWN_MODULE: Final = ["-m", "session_exporter"]
# A process that Python starts beside a program, and that runs nothing of it.
_BYSTANDER: Final = "from multiprocessing.resource_tracker import main"

Uninstall = Callable[[], None]

_logger = logging.getLogger("session_exporter")
_loaded: Uninstall | None = None


class HookProblem(SessionExporterError):
    """Hooks that the configuration asks for are not in effect; the message names their sections and says why."""


def load() -> bool:
    """Install what the file named by `$SESSION_EXPORTER_CONFIG_FILE` asks for, unless this process has done so.

    Called where a process starts. Nothing is raised: a file that is wrong is logged, and counted where the journal is
    known without it. The commands of this package watch nobody, least of all themselves.

    Returns:
        Whether this call installed something.
    """
    global _loaded  # noqa: PLW0603 - once per process
    path = os.environ.get(CONFIG_KEY)
    if _loaded is not None or not path or _is_bystander(sys.orig_argv[1:]) or SessionTracker().disabled:
        return False
    try:
        config = load_config(Path(path))
    except ConfigError as error:
        _count_wrong_file(error)
        return False
    _loaded = install(config)
    return True


def unload() -> None:
    """Remove what `load` has installed."""
    global _loaded
    undo, _loaded = _loaded, None
    if undo is not None:
        undo()


def install(config: Config, tracker: SessionTracker | None = None) -> Uninstall:
    """Install what the configuration asks for, each section by its hook, and show this process as a worker.

    A section that fails is counted and logged; the others, and the application, go on. May be called again: what is
    installed is there once.

    Args:
        config: Its sections `tables`, `calls`, `stores`, `middleware` and `db_sessions` say what.
        tracker: Where the hooks report to; by default one for the journal that `$SESSION_EXPORTER_DIR` or the
            configuration names, with the configuration's limits.

    Returns:
        What removes it all again; a second call does nothing.
    """
    given, tracker = tracker, tracker or _tracker(config)
    reporter = tracker.reporter(HOOK)
    installed: list[Uninstall] = []
    problems: list[str] = []
    for section in _INSTALLERS:
        try:
            installed += _install_section(section, config, tracker)
        except Exception as error:  # noqa: BLE001 - counted below, all of them in one line of the log
            problems.append(f"{section} ({type(error).__name__}: {error})")
    reporter.register(active=not problems)
    for _ in problems:
        reporter.count_failure(HookProblem(f"not in effect: {'; '.join(problems)}"))
    tracker.open()
    return lambda: _uninstall(installed, reporter, None if given else tracker)


def _install_section(section: str, config: Config, tracker: SessionTracker) -> list[Uninstall]:
    # What OpenTelemetry does is the application's to say: it is followed, not configured.
    if section != "opentelemetry" and not _asked(section, config):
        return []
    module, name = _INSTALLERS[section]
    installer: Callable[..., Uninstall] = getattr(importlib.import_module(module), name)
    return [installer(*_arguments(section, config), tracker, **_options(section, config))]


def _asked(section: str, config: Config) -> Any:
    return config.hooked_tables if section == "tables" else getattr(config, section)


def _arguments(section: str, config: Config) -> tuple[Any, ...]:
    return () if section in {"db_sessions", "opentelemetry"} else (_asked(section, config),)


def _options(section: str, config: Config) -> dict[str, Any]:
    if section != "db_sessions":
        return {}
    return {"max_lifetime_s": config.limits.max_db_session_lifetime_us / 1e6}


def _uninstall(installed: list[Uninstall], reporter: Reporter, own: SessionTracker | None) -> None:
    if not installed:
        return
    while installed:
        with reporter.shield:
            installed.pop()()
    reporter.register(active=False)
    if own is not None:
        own.close()


def _tracker(config: Config) -> SessionTracker:
    limits = JournalLimits(
        worker_limit_bytes=config.journal.worker_limit_bytes,
        directory_limit_bytes=config.journal.directory_limit_bytes,
    )
    try:
        directory = find_directory(configured=config.journal.directory)
    except SessionExporterError:
        directory = None  # the tracker meets the same problem: it counts it, and tries again
    return SessionTracker(directory, limits=limits, replica=config.replica)


def _is_bystander(arguments: list[str]) -> bool:
    if arguments[:2] == _OWN_MODULE or PurePath(*arguments[:1]).name in _OWN_COMMANDS:
        return True
    return any(argument.startswith(_BYSTANDER) for argument in arguments)


def _count_wrong_file(error: ConfigError) -> None:
    if not os.environ.get(ENVIRONMENT_KEY):
        _logger.warning("hook %s failed, the application goes on without it: %s", HOOK, error)
        return
    tracker = SessionTracker()
    reporter = tracker.reporter(HOOK)
    reporter.register(active=False)
    reporter.count_failure(error)
    tracker.open()
