"""session-exporter audit code: what in a code base makes sessions race."""

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from session_exporter.audit.code.rules import RULES
from session_exporter.audit.code.sources import EXCLUDED, MAX_FILES, MAX_S

if TYPE_CHECKING:
    from session_exporter.audit.code.auditing import CodeAudit

EXIT_FOUND: Final = 1

_EXAMPLES: Final = """\b
Examples:
  session-exporter audit code src
  session-exporter audit code . --exclude 'legacy/*' --ignore SE105
  session-exporter audit code src --json | jq '.findings[].path'
"""


def _rules(_context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> frozenset[str]:
    ids = frozenset(word for text in value for word in text.replace(",", " ").split())
    unknown = sorted(ids - RULES.keys())
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}: expected {', '.join(RULES)}", param=option)
    return ids


@click.command(epilog=_EXAMPLES)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--select", multiple=True, callback=_rules, metavar="RULES", help="These rules only: SE103,SE104.")
@click.option("--ignore", multiple=True, callback=_rules, metavar="RULES", help="All rules but these.")
@click.option("--exclude", multiple=True, metavar="GLOB", help=f"Leave out, besides {', '.join(EXCLUDED)}.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document; the keys are in docs/howto/audit-your-code.md."
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github: annotations.",
)
@click.option("--max-files", type=click.IntRange(1), default=MAX_FILES, show_default=True, help="Read no more.")
@click.option("--max-seconds", type=click.FloatRange(0.1), default=MAX_S, show_default=True, help="Read no longer.")
def code(
    *,
    paths: tuple[Path, ...],
    select: frozenset[str],
    ignore: frozenset[str],
    exclude: tuple[str, ...],
    as_json: bool,
    layout: str,
    max_files: int,
    max_seconds: float,
) -> None:
    """Look for what makes sessions race, in Python source.

    Files are read, never imported, and nothing is changed. A comment keeps a line from being reported:
    # session-exporter: ignore[SE103]

    Exit code 0 when nothing was found, 1 when something was, 2 when it cannot be told: a wrong argument, no Python
    file, or more files than it may read.
    """
    from session_exporter.audit.code.auditing import audit_code  # noqa: PLC0415 - only this command needs it
    from session_exporter.audit.code.sources import SourceLimits, SourceTree  # noqa: PLC0415
    from session_exporter.cli.asking import CannotTell, emit  # noqa: PLC0415

    limits = SourceLimits(files=max_files, seconds=max_seconds)
    tree = SourceTree(limits, (*EXCLUDED, *exclude))
    with _nothing_collected():
        audited = audit_code(paths, tree, (select or frozenset(RULES)) - ignore)
    with suppress(BrokenPipeError):
        emit(_rendered(audited, "json" if as_json else layout))
    if not audited.files:
        raise CannotTell(f"{', '.join(map(str, paths))}: expected Python files")
    if audited.stopped:
        raise CannotTell(f"stopped {audited.stopped}: expected to read all files; see --max-files and --max-seconds")
    sys.exit(EXIT_FOUND if audited.faults else 0)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Syntax trees have no cycles: looking for some in them takes a quarter of the time, and finds nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _rendered(audited: "CodeAudit", layout: str) -> str:
    from session_exporter.audit.code import rendering  # noqa: PLC0415 - only this command needs it

    if layout == "json":
        return json.dumps(rendering.document(audited), indent=2)
    return "\n".join(rendering.github_lines(audited) if layout == "github" else rendering.text_lines(audited))
