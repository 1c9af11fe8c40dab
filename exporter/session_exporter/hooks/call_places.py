"""Where a function stands in the application, and putting a wrapped one in its place everywhere.

A function of a module is also replaced where other modules have imported it by name. Importing this imports `wrapt`.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from inspect import Signature, isclass, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wrapt import BoundFunctionWrapper, FunctionWrapper

from session_exporter.errors import SessionExporterError
from session_exporter.hooks.call_judgement import CallPlan
from session_exporter.hooks.call_running import Calls
from session_exporter.mappings import CallMapping
from session_exporter.outlet import Shield
from session_exporter.reporter import Reporter

if TYPE_CHECKING:
    _BoundWrapper = BoundFunctionWrapper[..., Any]
    _Wrapper = FunctionWrapper[..., Any]
else:
    _BoundWrapper, _Wrapper = BoundFunctionWrapper, FunctionWrapper

_MISSING: Final = object()


class PlaceError(SessionExporterError, AttributeError):
    """There is no such function; the message says what there is."""


class Place(NamedTuple):
    """An attribute of a module, class or object.

    Attributes:
        owner: Whose attribute.
        name: Its name.
        value: As it stands there, not bound.
        inherited: Whether the owner has it from a class.
    """

    owner: Any
    name: str
    value: Any
    inherited: bool = False


def find_place(module: ModuleType, path: str) -> Place:
    """Find what a path names in a module; nothing is imported for it.

    Raises:
        PlaceError: It names nothing, or nothing that is a function.
    """
    place = Place(None, "", module)
    for name in path.split("."):
        place = _attribute(place.value, name)
        if place.value is _MISSING:
            raise PlaceError(f"the module has no {path}")
    if isclass(place.value):
        raise PlaceError("it is a class: name its __init__, or another function of it")
    if not callable(place.value) and not isinstance(place.value, classmethod | staticmethod | partialmethod):
        raise PlaceError("it is no function")
    return place


def signature_at(place: Place) -> Signature | None:
    """The signature of a function as it is called: without the instance of a method; None when it has none."""
    owner, name, value, _ = place
    in_class = isclass(owner)
    try:
        known = signature(getattr(owner, name) if in_class else value)
    except (TypeError, ValueError):  # made of C, say
        return None
    is_method = hasattr(type(value), "__get__") and not isinstance(value, classmethod | staticmethod)
    if not in_class or not is_method:
        return known
    return known.replace(parameters=list(known.parameters.values())[1:])


class Target(Calls):
    """A wrapped function in its place.

    Args:
        place: Where the function stands.
        shield: Of the hook.
    """

    def __init__(self, place: Place, shield: Shield) -> None:
        super().__init__(place.value, shield)
        self._place = place
        self._told: tuple[CallPlan, ...] = ()

    def add(self, plan: CallPlan) -> None:
        """Judge calls by this plan, too; what is told by several names of the function is judged once."""
        if all(each.mapping != plan.mapping for each in self._told):
            self._judge_by(*self._told, plan)

    def remove(self, mapping: CallMapping) -> None:
        """Judge calls by this mapping no longer; the last one puts the function back."""
        self._judge_by(*(plan for plan in self._told if plan.mapping != mapping))
        if not self._told:
            self._restore()

    def _judge_by(self, *told: CallPlan) -> None:
        distinct: dict[CallMapping, CallPlan] = {}
        for plan in told:
            distinct.setdefault(replace(plan.mapping, call="shared:by_all"), plan)
        self._told, self.plans = told, tuple(distinct.values())

    def put(self) -> None:
        """Put the wrapped function in the place of the function."""
        wrapped = _Wrapped(self._place.value, self)
        if isinstance(self._place.owner, ModuleType):
            for namespace, name in _names(lambda value: value is self._place.value):
                namespace[name] = wrapped
        else:
            setattr(self._place.owner, self._place.name, wrapped)

    def _restore(self) -> None:
        owner, name, value, inherited = self._place
        if isinstance(owner, ModuleType):
            for namespace, each in _names(self._is_in):
                namespace[each] = value
        elif self._is_in(vars(owner).get(name)):
            if inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def _is_in(self, value: Any) -> bool:
        return type(value) is _Wrapped and value._self_target is self  # noqa: SLF001 - the prefix that proxies want


def watch(module: ModuleType, mapping: CallMapping, reporter: Reporter) -> Target:
    """Wrap the function of a mapping, or have it judged by this mapping as well where it is wrapped.

    Raises:
        PlaceError: The module has no such function.
        PathError: A path of the mapping begins with nothing that the function has.
    """
    place = find_place(module, mapping.call.partition(":")[2])
    plan = CallPlan(mapping, signature_at(place), reporter)
    if type(place.value) is _Wrapped and not place.inherited:
        known: Target = place.value._self_target  # noqa: SLF001 - as above
        known.add(plan)
        return known
    target = Target(place, reporter.shield)
    target.add(plan)
    target.put()
    return target


def _attribute(owner: Any, name: str) -> Place:
    # As they stand, for getting an attribute binds it, or makes a module load another one.
    for place in owner.__mro__ if isclass(owner) else (owner,):
        attributes = _namespace(place)
        if name in attributes:
            return Place(owner, name, attributes[name], inherited=place is not owner)
    if isclass(owner) or isinstance(owner, ModuleType):
        return Place(owner, name, _MISSING)
    return Place(owner, name, getattr(owner, name, _MISSING), inherited=True)


def _namespace(owner: Any) -> Any:
    if isclass(owner):
        return vars(owner)
    try:
        return object.__getattribute__(owner, "__dict__")  # modules that load themselves late do so when they are asked
    except AttributeError:
        return {}


def _names(is_meant: Callable[[Any], bool]) -> list[tuple[dict[str, Any], str]]:
    """The names in all modules that stand for what is meant."""
    namespaces = [_namespace(module) for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return [(namespace, name) for namespace in namespaces for name, value in list(namespace.items()) if is_meant(value)]


def _by_name(function: Any) -> Any:
    """How a method is pickled: as an attribute of its object, or of its class."""
    owner = getattr(function, "__self__", None)
    if owner is None:
        owner = sys.modules[function.__module__]
        for name in function.__qualname__.split(".")[:-1]:
            owner = getattr(owner, name)
    return getattr, (owner, function.__name__)


class _Unique:
    """What copies and pickles of a wrapped function have in common with those of a function: there is only one."""

    __slots__ = ()  # or it would bring a `__dict__` of its own, where that of the function belongs

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _memo: Any) -> Any:
        return self


class _Bound(_Unique, _BoundWrapper):
    """A wrapped function as attribute of an object or class."""

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _by_name(self.__wrapped__)


class _Wrapped(_Unique, _Wrapper):
    """A wrapped function, which looks and behaves like the function."""

    __bound_function_wrapper__ = _Bound

    def __init__(self, function: Any, target: Target) -> None:
        super().__init__(function, target.call)
        self._self_target = target

    def __reduce_ex__(self, protocol: Any) -> Any:
        function = self.__wrapped__
        if getattr(function, "__self__", None) is not None:
            return _by_name(function)
        return getattr(function, "__qualname__", None) or function.__reduce_ex__(protocol)
