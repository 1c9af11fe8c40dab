"""What the sidecar is told of a database whose session tables it reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_NAME: Final = "main"


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """A database, and how often it is asked.

    Attributes:
        name: What metrics and messages call it.
        url: As SQLAlchemy has it, with `${VARIABLE}` where the environment is to be put in; `""` for none.
        url_file: A file that holds the URL instead; None for none.
        tables: The tables of the configuration's `tables` that it has; empty for all that name `created_at`.
        interval_us: How often it is asked for new rows.
        grace_us: For how long after a row was found its hook may still report it; at least twice the interval.
        longest_transaction_us: How long a transaction may have been open that inserts a row, where the database does
            not tell.
        sweep_us: How far back it is looked, from time to time, for rows that came up later than that.
        sweep_every_us: How often.
        census_every_us: How often active rows are counted.

    Raises:
        ValueError: A value is none of these.
    """

    name: str = DEFAULT_NAME
    url: str = ""
    url_file: Path | None = None
    tables: tuple[str, ...] = ()
    interval_us: int = 5_000_000
    grace_us: int = 15_000_000
    longest_transaction_us: int = 60_000_000
    sweep_us: int = 3_600_000_000
    sweep_every_us: int = 300_000_000
    census_every_us: int = 60_000_000

    def __post_init__(self) -> None:
        if not self.url and self.url_file is None:
            raise ValueError("url: expected the URL of a database, or url_file")
        if self.url and self.url_file is not None:
            raise ValueError("url_file: expected either this or url, not both")
        if self.grace_us < 2 * self.interval_us:
            raise ValueError("grace, interval: expected a grace of at least twice the interval")
