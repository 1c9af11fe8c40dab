"""What a client accepts: media types of a scrape and content codings, by quality, in the words of RFC 9110."""

import re
from typing import Final, NamedTuple

OPENMETRICS: Final = "application/openmetrics-text"
PLAIN: Final = "text/plain"

_QUALITY: Final = re.compile(r"[01](\.[0-9]*)?")


class Preference(NamedTuple):
    """One member of an Accept header: the value in lower case, its parameters, its quality from 0 to 1."""

    value: str
    parameters: dict[str, str]
    quality: float


def preferences(header: str) -> list[Preference]:
    """Read an Accept or Accept-Encoding header, most wanted first; a malformed quality counts as 1."""
    members = [_preference(member) for member in header.split(",") if member.strip()]
    return sorted(members, key=lambda member: -member.quality)


def _preference(member: str) -> Preference:
    value, *rest = (part.strip() for part in member.split(";"))
    pairs = (part.partition("=") for part in rest)
    parameters = {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs}
    quality = parameters.pop("q", "1")
    return Preference(value.lower(), parameters, min(1.0, float(quality)) if _QUALITY.fullmatch(quality) else 1.0)


def metrics_format(accept: str) -> str:
    """Reduce an Accept header to the one media range a scrape is answered with.

    The client library's `choose_encoder` echoes whatever version it is sent and looks at no quality, so it is asked
    with one of three texts: OpenMetrics 1.0.0, text 1.0.0, or text 0.0.4, which everybody understands.
    """
    for value, parameters, quality in preferences(accept):
        version = parameters.get("version", "")
        if not quality:
            break
        if value == OPENMETRICS and version in {"", "1.0.0"}:
            return f"{OPENMETRICS}; version=1.0.0"
        if value == PLAIN and version == "1.0.0":
            return f"{PLAIN}; version=1.0.0"
        if value in {PLAIN, "text/*", "*/*"} and version in {"", "0.0.4"}:
            break
    return f"{PLAIN}; version=0.0.4"


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether a client takes gzip, and does not like the plain body better."""
    qualities = {value: quality for value, _, quality in reversed(preferences(accept_encoding))}
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)
