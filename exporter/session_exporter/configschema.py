"""The format of the configuration: every key, what kind of value it takes, and where the value goes.

The attributes are those of `Config`; of `ScopeRules` in a scope; in an entry of a list, of a class of
`session_exporter.mappings` or of `WatchSettings`. The reference for people, docs/configuration.md, is tested against
this.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from session_exporter import mappingkinds, mappings
from session_exporter import yamlkinds as kinds
from session_exporter.core.scopes import END_REASONS, TOP_USERS_MAX
from session_exporter.core.shares import PARTITIONS_MAX
from session_exporter.yamlschema import Key

# The pattern of every scope.
SCOPE: Final = "scopes.<name>"

_NAME: Final = mappingkinds.NAME
_PATH: Final = kinds.Text(500)
_COLUMNS: Final = mappingkinds.NameList("column")
# An application's own URL will do, whatever its driver.
_DATABASE_URL: Final = kinds.ServerUrl("postgresql://", "postgresql+", "postgres://", "sqlite:///", "sqlite+")
_SCOPE_NAME: Final = mappingkinds.ScopeName()

SCHEMA: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "journal.directory": Key("journal.directory", kinds.AbsolutePath()),
        # Two segments at least: one that is written, one that is read.
        "journal.worker_limit": Key("journal.worker_limit_bytes", kinds.Size("512KiB", "16GiB")),
        "journal.directory_limit": Key("journal.directory_limit_bytes", kinds.Size("512KiB", "1TiB")),
        "state.directory": Key("state.directory", kinds.AbsolutePath()),
        "lateness": Key("lateness_us", kinds.Duration("100ms", "1m")),
        "scopes.<name>.sessions_per_user": Key("sessions_per_user", kinds.Choice(("one", "many"))),
        "scopes.<name>.duplicate_window": Key("duplicate_window_us", kinds.Duration("100ms", "1h")),
        "scopes.<name>.idle_timeout": Key("idle_timeout_us", kinds.Duration("200ms", "30d")),
        "scopes.<name>.reuse_target": Key("reuse_target", kinds.Ratio()),
        "scopes.<name>.end_reasons": Key("end_reasons", kinds.Words(END_REASONS)),
        "scopes.<name>.id_format": Key("id_formats", mappingkinds.IdFormats()),
        "limits.max_tracked_sessions": Key("limits.max_tracked_sessions", kinds.Number(1, 100_000_000)),
        "limits.max_db_session_lifetime": Key("limits.max_db_session_lifetime_us", kinds.Duration("100ms", "1d")),
        "limits.max_incidents": Key("limits.max_incidents", kinds.Number(1, 1_000_000)),
        "limits.incident_retention": Key("limits.incident_retention_us", kinds.Duration("1m", "3650d")),
        "limits.known_ids.retention": Key("limits.known_ids_retention_us", kinds.Duration("1m", "3650d")),
        "limits.known_ids.max": Key("limits.known_ids_max", kinds.Number(1, 1_000_000_000)),
        "audit_trail.events_per_user": Key("limits.trail_events_per_user", kinds.Number(0, 200)),
        "audit_trail.retention": Key("limits.trail_retention_us", kinds.Duration("1s", "1d")),
        "per_user.top": Key("limits.top_users", kinds.Number(0, TOP_USERS_MAX)),
        "privacy.show_ids": Key("privacy.show_ids", kinds.Boolean()),
        "privacy.key_file": Key("privacy.key_file", kinds.AbsolutePath()),
        "stream.url": Key("stream.url", kinds.ServerUrl("redis://", "rediss://", "unix://")),
        "stream.url_file": Key("stream.url_file", kinds.AbsolutePath()),
        "stream.partitions": Key("stream.partitions", kinds.Number(1, PARTITIONS_MAX)),
        # Consumers take a forwarder for silent that says nothing for three seconds.
        "stream.send_every": Key("stream.send_every_us", kinds.Duration("100ms", "1s")),
        "stream.max_entries": Key("stream.max_entries", kinds.Number(100, 1_000_000_000)),
        "stream.tail": Key("stream.tail_us", kinds.Duration("1s", "1d")),
        "stream.patience": Key("stream.patience_us", kinds.Duration("1s", "10m")),
        "replica": Key("replica", kinds.Text(253)),
        "tables[].table": Key("table", _NAME),
        "tables[].scope": Key("scope", _SCOPE_NAME),
        "tables[].id": Key("id", _COLUMNS),
        "tables[].id_prefix": Key("id_prefix", _NAME),
        "tables[].user": Key("user", _NAME),
        "tables[].user_path": Key("user_path", _PATH),
        "tables[].key": Key("key", _COLUMNS),
        "tables[].active": Key("active", mappingkinds.ActiveValues()),
        "tables[].created_at": Key("created_at", _NAME),
        "tables[].updated_at": Key("updated_at", _NAME),
        "tables[].end_reason": Key("end_reason", _NAME),
        "tables[].rows": Key("rows", kinds.Choice(mappings.ROWS)),
        "tables[].restart_on": Key("restart_on", _COLUMNS),
        "tables[].hook": Key("hook", kinds.Boolean()),
        "calls[].call": Key("call", _PATH),
        "calls[].kind": Key("kind", kinds.Choice(mappings.CALL_KINDS)),
        "calls[].scope": Key("scope", _SCOPE_NAME),
        "calls[].session": Key("session", _PATH),
        "calls[].user": Key("user", _PATH),
        "calls[].key": Key("key", _PATH),
        "calls[].created_at": Key("created_at", _PATH),
        "calls[].reason": Key("reason", kinds.Choice(END_REASONS)),
        "stores[].kind": Key("kind", kinds.Choice(("redis",))),
        "stores[].pattern": Key("pattern", _PATH),
        "stores[].scope": Key("scope", _SCOPE_NAME),
        "stores[].user_path": Key("user_path", _PATH),
        "stores[].empty_is_end": Key("empty_is_end", kinds.Boolean()),
        "stores[].reads_first": Key("reads_first", kinds.Boolean()),
        "middleware[].framework": Key("framework", kinds.Choice(mappings.FRAMEWORKS)),
        "middleware[].expect": Key("expect", mappingkinds.Expectations()),
        "middleware[].user": Key("user", _PATH),
        "watch[].name": Key("name", mappingkinds.WatchName()),
        "watch[].url": Key("url", _DATABASE_URL),
        "watch[].url_file": Key("url_file", kinds.AbsolutePath()),
        "watch[].tables": Key("tables", mappingkinds.NameList("table")),
        "watch[].interval": Key("interval_us", kinds.Duration("500ms", "1h")),
        "watch[].grace": Key("grace_us", kinds.Duration("1s", "1h")),
        "watch[].longest_transaction": Key("longest_transaction_us", kinds.Duration("1s", "1d")),
        "watch[].sweep": Key("sweep_us", kinds.Duration("1m", "7d")),
        "watch[].sweep_every": Key("sweep_every_us", kinds.Duration("10s", "1d")),
        "watch[].census_every": Key("census_every_us", kinds.Duration("1s", "1d")),
        "db_sessions": Key("db_sessions", kinds.Boolean()),
    }
)
