"""The landing page: name, version, verdict and links; no script, nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from session_exporter._version import __version__

_VERDICTS: Final[Mapping[bool | None, str]] = {
    True: "Sessions are healthy (last hour)",
    False: "Sessions are UNHEALTHY (last hour)",
    None: "Cannot tell: no session was created or reused in the last hour",
}
_DOUBTFUL: Final = "Cannot tell whether sessions are healthy (last hour)"
_LINKS: Final = {
    "/api/v1/summary": "summary of the last hour",
    "/api/v1/incidents": "incidents of the last hour",
    "/api/v1/lookups": "lookups of the last hour",
    "/api/v1/hooks": "hooks",
    "/api/v1/db-sessions": "database sessions",
    "/-/healthy": "healthy",
    "/-/ready": "ready",
}


def verdict(summary: Mapping[str, Any]) -> str:
    """Put a summary's judgement in words."""
    if summary.get("healthy") is None and summary.get("total", {}).get("operations"):
        return _DOUBTFUL
    return _VERDICTS.get(summary.get("healthy"), _VERDICTS[None])


def page(telemetry_path: str, judgement: str, problems: Iterable[str] = ()) -> str:
    """Write the page of a sidecar; all texts are escaped here."""
    return written(judgement, {telemetry_path: "metrics", **_LINKS}, problems)


def written(judgement: str, links: Mapping[str, str], problems: Iterable[str] = ()) -> str:
    """Write a page with links; all texts are escaped here."""
    listed = "\n".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return _template().substitute(
        version=escape(__version__),
        verdict=escape(judgement),
        problems=f"<ul>\n{listed}\n</ul>" if listed else "",
        links="\n".join(f'<li><a href="{escape(path)}">{text}</a></li>' for path, text in links.items()),
    )


@cache
def content_security_policy() -> str:
    """Allow the page its one style sheet, by digest, and nothing else."""
    style = _template().template.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _template() -> Template:
    return Template(files(__package__).joinpath("landing.html").read_text(encoding="utf-8"))
