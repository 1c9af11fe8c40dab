"""The one configuration file: YAML to frozen dataclasses, and back to the lines that `check-config` prints.

The format stands in `SCHEMA`; the defaults are those of the dataclasses, of an entry of a list those of its class.
Nothing is read at import, and no environment variable is read at all.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from session_exporter.configschema import SCHEMA, SCOPE
from session_exporter.core.scopes import DEFAULT_SCOPE, Limits, ScopeRules
from session_exporter.errors import ConfigError
from session_exporter.mappingkinds import scope_problem
from session_exporter.mappinglists import LISTS, check_watches, describe_entries, make_mappings
from session_exporter.mappings import CallMapping, MiddlewareMapping, StoreMapping, TableMapping
from session_exporter.watchsettings import WatchSettings
from session_exporter.yamlschema import DocumentReading, Schema, pattern_of
from session_exporter.yamlsource import DOCUMENT_BYTES_MAX, Problems, Value, compose

# Every scope is a label value of most metrics.
SCOPES_MAX: Final = 100
REQUIRED: Final = "required"
_SCHEMA: Final = Schema(SCHEMA)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where workers write events, and how much they may.

    Attributes:
        directory: None when the file names none: option, environment or built-in default decide.
        worker_limit_bytes: Unread bytes of one worker beyond which it drops events.
        directory_limit_bytes: Bytes of the whole directory beyond which events are dropped.
    """

    directory: Path | None = None
    worker_limit_bytes: int = 16 << 20
    directory_limit_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where the sidecar keeps its state; None when the file names no directory."""

    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Whether ids leave the sidecar as they are, and the key of the digests that leave it otherwise.

    Attributes:
        show_ids: True shows plain ids.
        key_file: None for the key that the sidecar makes on its first start.
    """

    show_ids: bool = False
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Where events of many machines meet; needed by `forward` and by `serve --source=stream`.

    Attributes:
        url: Of the Redis or Valkey, with `${VARIABLE}` where the environment is to be put in; `""` for none.
        url_file: A file that holds the URL instead; None for none.
        partitions: How many streams the users are spread over; the same for all who share the Redis.
        send_every_us: How long forwarders collect what they send; the more of them there are, the longer.
        max_entries: Of each stream; what is beyond it is cut, the oldest first, and counted.
        tail_us: For how long entries are kept after they were committed, for an owner whose state was lost.
        patience_us: For how long verdicts wait for a forwarder that is known, but silent.
    """

    url: str = ""
    url_file: Path | None = None
    partitions: int = 16
    send_every_us: int = 500_000
    max_entries: int = 1_000_000
    tail_us: int = 60_000_000
    patience_us: int = 15_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of application and sidecar; without arguments, the defaults.

    Attributes:
        journal: The transport.
        state: The sidecar's memory.
        privacy: What becomes of ids.
        stream: Where events of many machines meet.
        limits: What bounds the ledger.
        lateness_us: How long an event may be under way before its neighbours are judged; microseconds.
        scopes: Rules by scope name, read-only; `default` and every scope that a mapping names are always there,
            `other` (for undeclared scopes) never.
        tables: Tables that keep sessions.
        calls: Functions to wrap.
        stores: Key-value stores that keep sessions.
        middleware: Frameworks whose applications get the middleware.
        watch: Databases that the sidecar reads itself.
        db_sessions: Whether the SQLAlchemy sessions of the application are watched.
        replica: The host or pod name; `""` when the file has none and the caller decides.
    """

    journal: JournalSettings = JournalSettings()
    state: StateSettings = StateSettings()
    privacy: PrivacySettings = PrivacySettings()
    stream: StreamSettings = StreamSettings()
    limits: Limits = field(default_factory=Limits)
    lateness_us: int = 2_000_000
    scopes: Mapping[str, ScopeRules] = field(default_factory=dict)
    tables: tuple[TableMapping, ...] = ()
    calls: tuple[CallMapping, ...] = ()
    stores: tuple[StoreMapping, ...] = ()
    middleware: tuple[MiddlewareMapping, ...] = ()
    watch: tuple[WatchSettings, ...] = ()
    db_sessions: bool = False
    replica: str = ""

    def __post_init__(self) -> None:
        mappings: tuple[TableMapping | CallMapping | StoreMapping, ...] = (*self.tables, *self.calls, *self.stores)
        implied = {name: ScopeRules(name) for name in (DEFAULT_SCOPE, *(mapping.scope for mapping in mappings))}
        object.__setattr__(self, "scopes", MappingProxyType({**implied, **self.scopes}))

    def watched_tables(self, watch: WatchSettings) -> tuple[TableMapping, ...]:
        """The tables that a watch reads: those it names, else all, but none that does not say `created_at`."""
        return tuple(
            table for table in self.tables if table.created_at and (not watch.tables or table.table in watch.tables)
        )

    @property
    def hooked_tables(self) -> tuple[TableMapping, ...]:
        """The tables whose statements are followed in the application."""
        return tuple(table for table in self.tables if table.hook)

    def describe(self) -> list[str]:
        """Write the effective configuration as sorted `key: value` lines, defaults included.

        An entry of a list is one line, with the keys that differ from their defaults.
        """
        lines = [f"{section}: []" for section in LISTS if not getattr(self, section)]
        for pattern, (attribute, kind) in SCHEMA.items():
            read = attrgetter(attribute)
            if pattern.startswith(SCOPE):
                names = {pattern.replace("<name>", name): rules for name, rules in self.scopes.items()}
                lines += [f"{path}: {kind.show(read(rules))}" for path, rules in names.items()]
            elif pattern.partition("[")[0] not in LISTS:
                lines.append(f"{pattern}: {kind.show(read(self))}")
        entries = [line for section in LISTS for line in describe_entries(section, getattr(self, section))]
        return sorted(lines) + entries


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: It cannot be read, is no UTF-8, or `parse` refuses it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: the byte 0x{content[error.start]:02x} is not allowed") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Read a configuration.

    Args:
        text: A YAML document; an empty one gives the defaults.
        source: What messages call it, usually a path.

    Raises:
        ConfigError: The text is no YAML or no configuration; all problems are named, up to 20, one per line, as
            `SOURCE:LINE: key.path: value …: expected …`.
    """
    document = compose(text, source)
    if document is None:
        return Config()
    reading = DocumentReading(_SCHEMA, Problems(source))
    reading.section(document)
    lists = {section: make_mappings(section, reading) for section in LISTS}
    scopes = _scopes(reading)
    _check_sums(reading, scopes)
    check_watches(reading)
    reading.problems.raise_any()
    return _config(reading, scopes, lists)


def default_text(pattern: str) -> str:
    """The default of a key of `SCHEMA` as a file would write it; `REQUIRED` when it has none."""
    section, _, name = pattern.partition("[].")
    default = LISTS[section].default(name) if section in LISTS else _default(pattern)
    return REQUIRED if default is MISSING else SCHEMA[pattern].kind.show(default)


def _default(pattern: str) -> Any:
    return attrgetter(SCHEMA[pattern].attribute)(ScopeRules() if pattern.startswith(SCOPE) else Config())


def _scopes(reading: DocumentReading) -> list[str]:
    """Check the names of the scopes, those that only mappings name among them; returns the declared ones."""
    declared: dict[str, Value] = {}
    for name, entry in reading.members[SCOPE]:
        problem = scope_problem(name)
        if problem:
            reading.problems.add(entry.line, entry.path, problem)
        else:
            declared[name] = entry
    named = dict(declared)
    for name, entry in _scopes_of_mappings(reading):
        named.setdefault(name, entry)
    for entry in list(named.values())[SCOPES_MAX : SCOPES_MAX + 1]:
        reading.problems.add(entry.line, "scopes", f"too many scopes: expected at most {SCOPES_MAX}")
    return list(declared)


def _scopes_of_mappings(reading: DocumentReading) -> Iterator[tuple[str, Value]]:
    for section in LISTS:
        for _, item in reading.members[f"{section}[]"]:
            name, entry = reading.found.get(f"{item.path}.scope", (DEFAULT_SCOPE, item))
            if name != DEFAULT_SCOPE:
                yield name, entry


def _check_sums(reading: DocumentReading, scopes: list[str]) -> None:
    """Check what one value demands of another, when each is right by itself."""
    _check_least(reading, "journal.directory_limit", ("journal.worker_limit",), "journal.worker_limit")
    urls = [reading.found[path] for path in ("stream.url", "stream.url_file") if path in reading.found]
    if all(url for url, _ in urls) and len(urls) > 1:
        reading.problems.add(urls[1][1].line, "stream.url_file", "expected either this or stream.url, not both")
    for name in scopes:
        terms = (f"scopes.{name}.duplicate_window", "lateness")
        _check_least(reading, f"scopes.{name}.idle_timeout", terms, "duplicate_window + lateness")


def _check_least(reading: DocumentReading, path: str, terms: tuple[str, ...], meaning: str) -> None:
    paths = (path, *terms)
    entries = [reading.found[each][1] for each in paths if each in reading.found]
    if not entries or not reading.problems.paths.isdisjoint(paths):
        return
    value, *addends = (
        reading.found[each][0] if each in reading.found else _default(pattern_of(each, "scopes")) for each in paths
    )
    least = sum(addends)
    if value < least:
        kind = SCHEMA[pattern_of(path, "scopes")].kind
        shown = entries[0].shown if path in reading.found else f"{kind.show(value)} (the default)"
        problem = f"value {shown}: expected at least {meaning}, {kind.show(least)}"
        reading.problems.add(entries[0].line, path, problem)


def _config(reading: DocumentReading, scopes: list[str], lists: Mapping[str, Any]) -> Config:
    """Build the configuration from what was found; to be called only when there are no problems."""
    parts: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, (value, _) in reading.found.items():
        pattern = pattern_of(path, "scopes")
        if pattern not in SCHEMA:
            continue  # of an entry of a list, which has been made
        section, _, name = SCHEMA[pattern].attribute.rpartition(".")
        parts[path.rpartition(".")[0] if pattern.startswith(SCOPE) else section][name] = value
    return Config(
        journal=JournalSettings(**parts["journal"]),
        state=StateSettings(**parts["state"]),
        privacy=PrivacySettings(**parts["privacy"]),
        stream=StreamSettings(**parts["stream"]),
        limits=Limits(**parts["limits"]),
        scopes={name: ScopeRules(name=name, **parts[f"scopes.{name}"]) for name in scopes},
        **lists,
        **parts[""],
    )
