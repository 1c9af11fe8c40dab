"""A plugin of pytest: an application's tests fail when they lose a session, make one too many, or mix up users.

It is loaded in every run of pytest where this package is installed, and until a test asks for it, it does nothing: the
journal, the ledger and all else is imported then.
"""

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from session_exporter.pytest_checks.checking import CheckedSessions

NAME: Final = "session_exporter"
MODES: Final = ("marked", "always", "off")
MODE_KEY: Final = "session_exporter_check"
CONFIG_KEY: Final = "session_exporter_config"
_CHECKING: Final = "session_exporter_checking"
_MARKER: Final = (
    f"{NAME}(max_redundant_lookups=None, min_reuse_ratio=None, allow=(), config=None): fail the test when it makes"
    " rapid duplicate sessions, loses a context or mixes up users, has more redundant lookups or a lower reuse ratio;"
    " `allow` names what is meant to happen, `config` the configuration with the scopes."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option and the settings."""
    group = parser.getgroup(NAME.replace("_", "-"))
    group.addoption(
        "--session-exporter",
        dest=MODE_KEY,
        choices=MODES,
        help="Whose sessions are judged: those of tests that ask for it (marked), of all (always), or of none (off).",
    )
    parser.addini(MODE_KEY, "marked (the default), always or off; see --session-exporter", default=MODES[0])
    parser.addini(CONFIG_KEY, "the configuration of session-exporter that declares the scopes", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; a setting that is wrong is an error now, not when the first test asks."""
    config.addinivalue_line("markers", _MARKER)
    _mode(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin to record when a test is going to be checked."""
    mode = _mode(config)
    if mode == "off" or config.option.collectonly:
        return
    if mode == "always" or any(_is_asked(item) for item in items):
        from session_exporter.pytest_checks.checking import Checking  # noqa: PLC0415 - a test asks

        is_asked = _is_anything if mode == "always" else _is_asked
        checking = Checking(config, NAME, is_asked, config.getini(CONFIG_KEY))
        config.pluginmanager.register(checking, _CHECKING)


@pytest.fixture
def session_exporter(request: pytest.FixtureRequest) -> "CheckedSessions":
    """What the test's sessions have come to; to ask for it has the test checked, as the marker does."""
    from session_exporter.pytest_checks.checking import Checking, switched_off  # noqa: PLC0415 - asked for

    if _mode(request.config) == "off":
        return switched_off()
    checking = request.config.pluginmanager.get_plugin(_CHECKING)
    if not isinstance(checking, Checking):
        pytest.fail(f"{NAME}: nothing was recorded: name the fixture as an argument, or mark the test", pytrace=False)
    return checking.sessions_of(request.node)


def _is_asked(item: pytest.Item) -> bool:
    """Whether a test has the marker or the fixture."""
    return item.get_closest_marker(NAME) is not None or NAME in getattr(item, "fixturenames", ())


def _is_anything(_item: pytest.Item) -> bool:
    return True


def _mode(config: pytest.Config) -> str:
    """Which tests are checked.

    Raises:
        pytest.UsageError: The setting is another word.
    """
    mode = config.getoption(MODE_KEY) or config.getini(MODE_KEY)
    if mode not in MODES:
        raise pytest.UsageError(f"{MODE_KEY} = {mode!r}: expected {', '.join(MODES[:-1])} or {MODES[-1]}")
    return str(mode)
