"""Values inside of the application's objects, as far as they are loaded: looking never makes an object load more.

Lazy objects of Django, its models and sessions, and objects that SQLAlchemy maps would query the database when they are
asked for what they have not loaded. That is the application's to decide.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

_DJANGO_LAZY: Final = "django.utils.functional"
# A path is short; one that goes round in circles through lazy objects ends here.
_LAZY_DEPTH_MAX: Final = 8


def loaded_value(root: object, words: Sequence[str]) -> Any:
    """Follow keys, attributes and indices from an object on; None where there is nothing, or nothing yet.

    Raises:
        Exception: Whatever the application's own properties raise, but for those that say that there is nothing
            (AttributeError, NotImplementedError).
    """
    value = _settled(root)
    for word in words:
        if value is None:
            return None
        value = _settled(_step(value, word))
    return value


def _step(value: object, word: str) -> object:
    # `isinstance` asks an object that stands for another one for its class, which loads that one.
    kind = type(value)
    if issubclass(kind, dict):
        return dict.get(cast("dict[str, object]", value), word)
    if issubclass(kind, Mapping) and (entry := cast("Mapping[str, object]", value).get(word)) is not None:
        return entry
    if issubclass(kind, list | tuple) and word.isdecimal():
        return _item(value, int(word))
    for (module, name), look in _GUARDED.items():
        if _is_of(kind, module, name):
            return look(value, word)
    return (_of_mapped if "_sa_instance_state" in _own(value) else _of_any)(value, word)


def _of_any(value: object, word: str) -> object:
    try:
        found: object = getattr(value, word)
    except (AttributeError, NotImplementedError):  # Starlette's users without an identity raise the latter
        return None
    return _known_user(value) if word == "user" and _is_unloaded(found) else found


def _settled(value: object) -> object:
    """What a lazy object of Django stands for, once that is there."""
    for _ in range(_LAZY_DEPTH_MAX):
        if not _is_of(type(value), _DJANGO_LAZY, "LazyObject"):
            return value
        if _is_unloaded(value):
            return None
        value = object.__getattribute__(value, "_wrapped")
    return None


def _is_unloaded(value: object) -> bool:
    if not _is_of(type(value), _DJANGO_LAZY, "LazyObject"):
        return False
    return object.__getattribute__(value, "_wrapped") is sys.modules[_DJANGO_LAZY].empty


def _known_user(request: object) -> object:
    """The user whom Django has loaded without `request.user`, as its asynchronous views do."""
    own = _own(request)
    return own.get("_cached_user", own.get("_acached_user"))


def _of_model(value: Any, word: str) -> object:
    own = _own(value)
    name = value._meta.pk.attname if word == "pk" else word  # noqa: SLF001 - Django's public name for it
    return own[name] if name in own else own["_state"].fields_cache.get(word)


def _of_mapped(value: Any, word: str) -> object:
    own = _own(value)
    if word in own:
        return own[word]
    # A commit makes objects forget all but their identity.
    state = own["_sa_instance_state"]
    mapper = state.manager.mapper
    for column, part in zip(mapper.primary_key, state.key[1] if state.key else (), strict=False):
        if mapper.get_property_by_column(column).key == word:
            return part
    return None


def _of_session(value: Any, word: str) -> object:
    if word == "session_key":  # what the cookie said, or what was made; it loads nothing
        return value.session_key
    return _own(value).get("_session_cache", {}).get(word)


def _item(value: Any, index: int) -> object:
    return value[index] if index < len(value) else None


def _own(value: object) -> dict[str, Any]:
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots
        return {}
    return own


def _is_of(kind: type, module: str, name: str) -> bool:
    """Whether a class is one of a framework's, which is then imported."""
    ancestor = getattr(sys.modules.get(module), name, None)
    return isinstance(ancestor, type) and issubclass(kind, ancestor)


_GUARDED: Final[Mapping[tuple[str, str], Callable[[Any, str], object]]] = {
    ("django.contrib.sessions.backends.base", "SessionBase"): _of_session,
    ("django.db.models.base", "Model"): _of_model,
}
