"""The context of a unit of work, made of whatever the application gives: what is unusable is counted and left out."""

import os
from collections.abc import Mapping
from typing import Any, Final

from session_exporter.core.context import RequestContext
from session_exporter.identity import IdError, canonical_id
from session_exporter.patches import OnFailure

REQUEST_ID_BYTES: Final = 8


def make_context(given: Mapping[str, Any], outer: RequestContext | None, on_failure: OnFailure) -> RequestContext:
    """A context of everything given that is usable, with an id in any case.

    Args:
        given: Fields of a `RequestContext`; None stands for one that is not given.
        outer: Of the unit of work that this one is begun in: what is not given is taken from there.
        on_failure: Told what is unusable.
    """
    try:
        return _joined({name: _canonical(name, value) for name, value in given.items() if value is not None}, outer)
    except Exception:  # noqa: BLE001 - what is unusable is found, and counted, one by one
        usable = _usable({name: value for name, value in given.items() if value is not None}, on_failure)
    try:
        return _joined(usable, outer)
    except Exception as error:  # noqa: BLE001 - counted by the tracker
        on_failure(error)
        return _joined({}, None)


def _usable(fields: Mapping[str, Any], on_failure: OnFailure) -> dict[str, Any]:
    usable: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            canonical = _canonical(name, value)
            RequestContext(**{name: canonical})
        except IdError as error:
            on_failure(error)
        except Exception:  # noqa: BLE001 - its text may hold the value, which is not for logs
            on_failure(IdError(f"{name} of a request is empty, a placeholder, or cannot be copied"))
        else:
            usable[name] = canonical
    return usable


def _canonical(name: str, value: object) -> Any:
    return value if name == "metadata" else canonical_id(value, name)


def _joined(fields: dict[str, Any], outer: RequestContext | None) -> RequestContext:
    """The context of these fields, begun by an outer one unless that is another user's."""
    if "request_id" not in fields:
        fields["request_id"] = os.urandom(REQUEST_ID_BYTES).hex()
    user_id = fields.get("user_id")
    if outer is None or (user_id and outer.user_id and user_id != outer.user_id):
        return RequestContext(**fields)
    begun = outer.child(**{name: value for name, value in fields.items() if name != "user_id"})
    return begun.with_user(user_id) if user_id else begun
