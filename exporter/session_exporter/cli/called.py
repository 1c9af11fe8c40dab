"""Whether the functions that a configuration wraps exist, and have the parameters that its paths name.

Looking means to import the application's modules, and so to run what they do when they are imported.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Final, NamedTuple

from session_exporter.cli.plain import inert
from session_exporter.mappings import CallMapping

# Paths that start at the result when their first word is no parameter.
_OF_THE_RESULT: Final = ("session", "created_at")
_PATHS: Final = ("session", "user", "key", "created_at")
_DISABLED: Final = "SESSION_EXPORTER_DISABLED"
_ERROR_CHARS_MAX: Final = 300


class Finding(NamedTuple):
    """What was found of a call.

    Attributes:
        text: In words.
        wrong: Whether the hook could not work so.
    """

    text: str
    wrong: bool = False


@contextmanager
def importing_as_the_application() -> Iterator[None]:
    """Import as the application does that is started in this directory, and record nothing meanwhile."""
    path, disabled = sys.path[:], os.environ.get(_DISABLED)
    sys.path.insert(0, str(Path.cwd()))
    os.environ[_DISABLED] = "1"
    try:
        yield
    finally:
        sys.path[:] = path
        del os.environ[_DISABLED]
        if disabled is not None:
            os.environ[_DISABLED] = disabled


def find_call(call: CallMapping) -> Finding:
    """Import a call's module, find the function, and compare its parameters with the paths.

    Whatever the module raises when it is imported becomes a finding, an attempt to exit among it.
    """
    module_name, _, name = call.call.partition(":")
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the application's own code runs here
        return Finding(f"{module_name} cannot be imported: {type(error).__name__}: {_line_of(error)}", wrong=True)
    place = module_name
    for word in name.split("."):
        try:
            found = getattr(found, word)
        except Exception:  # noqa: BLE001 - an attribute may be computed by the application's own code
            return Finding(f"{place} has no {word}{_near(word, dir(found))}", wrong=True)
        place = f"{place}.{word}"
    if not callable(found):
        return Finding(f"{place} is a {type(found).__name__}: expected a function", wrong=True)
    return _compare(call, found)


def _line_of(error: BaseException) -> str:
    try:
        return inert(" ".join(str(error).split()), _ERROR_CHARS_MAX)
    except Exception:  # noqa: BLE001 - a foreign error may fail to describe itself
        return "it does not say why"


def _compare(call: CallMapping, function: Callable[..., Any]) -> Finding:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Finding("exists; which parameters it has is not known")
    kind = "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""
    findings = [_path_finding(name, getattr(call, name), signature) for name in _PATHS if getattr(call, name)]
    texts = [f"exists: {kind}({', '.join(signature.parameters)})", *(finding.text for finding in findings)]
    return Finding("; ".join(texts), any(finding.wrong for finding in findings))


def _path_finding(name: str, path: str, signature: Signature) -> Finding:
    first = path.partition(".")[0]
    if first in signature.parameters:
        return Finding(f"{name} is {_the_rest(path)}the parameter {first}")
    if first in {"self", "result"}:
        return Finding(f"{name} is {_the_rest(path)}{first}")
    if name in _OF_THE_RESULT:
        return Finding(f"{name} is {path} of the result")
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return Finding(f"{name} is {_the_rest(path)}{first}, when a caller gives that")
    return Finding(f"{name} names no parameter: {first}{_near(first, list(signature.parameters))}", wrong=True)


def _the_rest(path: str) -> str:
    rest = path.partition(".")[2]
    return f"{rest} of " if rest else ""


def _near(name: str, names: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only a mistake needs it

    near = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {near[0]}?" if near else ""
