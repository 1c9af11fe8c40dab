"""What `session-exporter check-config` says of a correct file."""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from session_exporter.cli.called import Finding, find_call, importing_as_the_application
from session_exporter.cli.hooked import hooked_lines
from session_exporter.cli.libraries import library_lines
from session_exporter.cli.watched import watched_lines
from session_exporter.config import Config


class CheckedConfig(NamedTuple):
    """What a configuration means: lines for people, and what is wrong with it here."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def explain(config: Config, *, import_calls: bool) -> CheckedConfig:
    """Explain a configuration: its values, what would be hooked and watched, and the libraries that this needs.

    Args:
        config: A correct one.
        import_calls: Import the application's modules here, to see whether its functions exist.
    """
    hooked = list(hooked_lines(config))
    calls = _find_calls(config) if import_calls else {}
    lines = [*config.describe(), *_fleet_lines(config)]
    if hooked:
        lines += ["", "What would be hooked:", *_with_findings(hooked, calls), *_not_imported(config, calls)]
        lines += _watched(config)
        lines += _libraries(config)
    problems = (f"{place}: {finding.text}" for place, finding in calls.items() if finding.wrong)
    return CheckedConfig(tuple(lines), tuple(problems))


def _fleet_lines(config: Config) -> Iterator[str]:
    is_fleet = bool(config.stream.url or config.stream.url_file)
    if is_fleet and config.privacy.key_file is None:
        yield "\nNot enough for a fleet: forward and serve --source=stream also need privacy.key_file, the same for all"
    elif is_fleet and config.privacy.show_ids:
        yield "\nNot for a fleet: forward and serve --source=stream need privacy.show_ids: false"


def _find_calls(config: Config) -> dict[str, Finding]:
    with importing_as_the_application():
        return {f"calls[{number}]": find_call(call) for number, call in enumerate(config.calls)}


def _with_findings(hooked: Iterable[str], calls: dict[str, Finding]) -> Iterator[str]:
    for line in hooked:
        yield f"  {line}"
        place = line.partition(":")[0]
        if place in calls:
            yield f"    {'WRONG: ' if calls[place].wrong else ''}{calls[place].text}"


def _not_imported(config: Config, calls: dict[str, Finding]) -> Iterator[str]:
    if config.calls and not calls:
        modules = sorted({call.call.partition(":")[0] for call in config.calls})
        yield f"  not imported: {', '.join(modules)}; --import does, and looks whether the functions of calls exist"


def _watched(config: Config) -> list[str]:
    lines = [f"  {line}" for line in watched_lines(config)]
    return ["", "What would be watched:", *lines] if lines else []


def _libraries(config: Config) -> list[str]:
    lines = [f"  {line}" for line in library_lines(config)]
    return ["", f"Libraries of this Python ({sys.prefix}):", *lines] if lines else []
