"""The exceptions of this package, by culprit.

SessionExporterError
├── ConfigError            the person who wrote the configuration
├── JournalError           the directory, disk or file the journal lives in
│   ├── JournalUnavailable     it cannot be created, opened or written
│   └── SegmentVanished        a file was removed or cut short while it was read
├── StateError             the sidecar's state directory
│   ├── StateLocked            another sidecar owns it
│   └── StateIncompatible      it was written by a newer version, or is no state at all
├── StreamError            the Redis between forwarders and consumers
│   ├── StreamUnavailable      it cannot be reached, or does not answer now
│   ├── StreamRefused          it does not let us in, or lacks what is needed: trying again is of no use
│   └── PartitionTaken         another consumer owns a partition
├── DatabaseError          a database that is read: not there, not letting us in, or not as expected
│   ├── DatabaseUnavailable    it cannot be reached, or does not answer in time
│   ├── DatabaseRefused        it does not let us in, or not there
│   └── TableUnusable          a table is not as the configuration says
├── ListenError            the address the sidecar is told to listen on
├── QueryError             whoever asks the sidecar's HTTP interface
└── PeerError              a server we asked: not there, too slow, or not what it should be
"""


class SessionExporterError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(SessionExporterError, ValueError):
    """The configuration is wrong; the message names file, line, key path, value and what was expected."""


class JournalError(SessionExporterError):
    """Something is wrong with the journal's directory or files."""


class JournalUnavailable(JournalError):
    """The journal cannot be created, opened or written; the message names the path and the reason."""


class SegmentVanished(JournalError):
    """A segment was removed or cut short while it was read."""


class StateError(SessionExporterError):
    """Something is wrong with the sidecar's state."""


class StateLocked(StateError):
    """Another sidecar owns this state or journal directory; the message names it."""


class StateIncompatible(StateError):
    """The state was written by a newer version, or is no state of this product."""


class StreamError(SessionExporterError):
    """Something is wrong with the Redis that events travel through; no message shows its URL's password."""


class StreamUnavailable(StreamError):
    """It cannot be reached, or does not answer now; the message names host, port and the reason."""


class StreamRefused(StreamError):
    """It refuses us, for a reason that does not pass: password, permissions, TLS, another layout of the fleet."""


class PartitionTaken(StreamError):
    """Another consumer owns a partition; the message names both."""


class DatabaseError(SessionExporterError):
    """Something is wrong with a database that is read; no message shows its URL's password, or a parameter.

    Attributes:
        reason: What counts it: `connection`, `refused`, `timeout`, `table` or `other`.
    """

    reason = "other"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.reason


class DatabaseUnavailable(DatabaseError):
    """It cannot be reached, or does not answer in time; the message names where it is and the reason."""

    reason = "connection"


class DatabaseRefused(DatabaseError):
    """It refuses us: user, password, permissions, TLS."""

    reason = "refused"


class TableUnusable(DatabaseError):
    """A table, or a column of it, is not there, or is not what it is taken for; the message names it."""

    reason = "table"


class ListenError(SessionExporterError):
    """The sidecar cannot listen on an address; the message names the address and the reason."""


class QueryError(SessionExporterError, ValueError):
    """A question to the HTTP interface is wrong; the message names parameter, value and what was expected."""


class PeerError(SessionExporterError):
    """A server that was asked did not answer as it should."""
