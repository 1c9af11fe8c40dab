"""Running a wrapped function as its caller would: the same results, errors and kinds of object, and measured.

Each step of ours is shielded, and adds one frame to a traceback.
"""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from inspect import CO_ITERABLE_COROUTINE, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from session_exporter.hooks.call_invocation import Invocation
from session_exporter.outlet import Shield

if TYPE_CHECKING:
    from session_exporter.hooks.call_judgement import CallPlan

# What `@contextmanager` makes of a generator; it runs its attribute `gen`.
_MANAGERS: Final = (_GeneratorContextManager, _AsyncGeneratorContextManager)
_LATER: Final = frozenset((CoroutineType, GeneratorType, AsyncGeneratorType, *_MANAGERS))


class Several:
    """One call of a function that has several plans, as if it were one `Invocation`.

    Args:
        calls: One per plan, the outermost first.
        shield: Counts what fails in one of them.
    """

    def __init__(self, calls: Sequence[Invocation], shield: Shield) -> None:
        self._calls = calls
        self._shield = shield

    def enter(self) -> None:
        """Begin."""
        for call in self._calls:
            with self._shield:
                call.enter()

    def resumed(self) -> "Several":
        """Leave it for another one."""
        later = []
        for call in reversed(self._calls):
            with self._shield:
                later.append(call.resumed())
        return Several(later[::-1], self._shield)

    def detach(self) -> None:
        """Leave it running on its own."""
        for call in reversed(self._calls):
            with self._shield:
                call.detach()

    def finish(self, result: Any) -> None:
        """End it with a result."""
        for call in reversed(self._calls):
            with self._shield:
                call.finish(result)

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        for call in reversed(self._calls):
            with self._shield:
                call.fail(error)


Run: TypeAlias = Invocation | Several


class Calls:
    """The calls of a wrapped function, and the plans by which they are judged.

    Args:
        function: What is wrapped.
        shield: Of the hook.

    Attributes:
        plans: None of them means that calls go through untouched.
    """

    def __init__(self, function: object, shield: Shield) -> None:
        self.plans: tuple[CallPlan, ...] = ()
        self._shield = shield
        plain = getattr(function, "__func__", function)
        self._deferred = iscoroutinefunction(plain) or isgeneratorfunction(plain) or isasyncgenfunction(plain)

    def call(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function on behalf of its caller; what `wrapt` asks of a wrapper."""
        plans = self.plans
        run: Run | None = None
        try:
            if plans:
                one = len(plans) == 1
                run = Invocation(plans[0], instance, args, kwargs) if one else self._several(instance, args, kwargs)
                if not self._deferred:
                    run.enter()
        except Exception:
            with self._shield:  # which takes long to enter when nothing is wrong
                raise
            run = None
        if run is None:
            return wrapped(*args, **kwargs)
        if self._deferred:
            return self._later(run, wrapped(*args, **kwargs))
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            with self._shield:
                run.fail(error)
            raise
        kind = type(result)
        if kind in _LATER or hasattr(kind, "__await__"):
            return self._awaitable(run, result)
        try:
            run.finish(result)
        except Exception:
            with self._shield:
                raise
        return result

    def _several(self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
        return Several([Invocation(plan, instance, args, kwargs) for plan in self.plans], self._shield)

    def _awaitable(self, run: Run, result: Any) -> Any:
        """What to return for something that only now begins to run."""
        with self._shield:
            if hasattr(type(result), "_asyncio_future_blocking"):
                run.detach()
                result.add_done_callback(_Settled(run, self._shield))
            elif type(result) in _LATER or _is_coroutine(type(result)):
                return self._later(run.resumed(), result)
            else:
                run.finish(result)
        return result

    def _later(self, run: Run, result: Any) -> Any:
        with self._shield:
            if isinstance(result, _MANAGERS):
                result.gen = self._later(run, result.gen)
            elif isinstance(result, GeneratorType) and not result.gi_code.co_flags & CO_ITERABLE_COROUTINE:
                return _named(_generated(run, self._shield, result), result)
            elif isinstance(result, AsyncGeneratorType):
                return _named(_streamed(run, self._shield, result), result)
            else:
                begun = _Begun(result)
                coroutine = _named(_awaited(run, self._shield, begun), result)
                begun.owned = self._deferred
                return coroutine
        return result


def _is_coroutine(kind: type) -> bool:
    """Whether another coroutine does for it; not where `async with` is meant to enter it, as with aiohttp's client."""
    return hasattr(kind, "throw") and not hasattr(kind, "__aenter__")


class _Begun:
    """A coroutine that nobody has awaited yet; it is closed when nobody ever does, for then another one complains."""

    __slots__ = ("_coroutine", "owned")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self.owned = False  # whether nobody else has it

    def take(self) -> Awaitable[Any]:
        coroutine, self._coroutine = self._coroutine, None
        assert coroutine is not None  # noqa: S101 - taken once
        return coroutine

    def __del__(self) -> None:
        if self.owned and self._coroutine is not None:
            self._coroutine.close()


class _Settled:
    """Told when a future is done, in whose place nothing else could be returned."""

    def __init__(self, run: Run, shield: Shield) -> None:
        self._run = run
        self._shield = shield

    def __call__(self, future: Any) -> None:
        with self._shield:
            if future.cancelled():
                return
            # Asking for it in public would hide from asyncio that nobody else has.
            error = getattr(future, "_exception", None)
            if error is None:
                self._run.finish(future.result())
            else:
                self._run.fail(error)


async def _awaited(run: Run, shield: Shield, begun: _Begun) -> Any:
    coroutine = begun.take()
    with shield:
        run.enter()
    try:
        result = await coroutine
    except BaseException as error:
        with shield:
            run.fail(error)
        raise
    with shield:
        run.finish(result)
    return result


def _generated(run: Run, shield: Shield, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    with shield:
        run.enter()
    try:
        value = next(generator)
    except StopIteration as stop:
        with shield:
            run.finish(None)
        return stop.value
    except BaseException as error:
        with shield:
            run.fail(error)
        raise
    with shield:
        run.finish(value)
    del run
    # `yield from` would need an object that has the first value, and that one's frame in each traceback. What is thrown
    # in is thrown on outside of the handler, or it became the context of whatever the generator raises.
    while True:
        thrown = None
        try:
            sent = yield value
        except BaseException as error:  # noqa: BLE001 - the generator's to handle, as GeneratorExit is
            thrown = error
        try:
            if thrown is not None:
                value = generator.throw(thrown)
            else:
                value = next(generator) if sent is None else generator.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            del thrown


async def _streamed(run: Run, shield: Shield, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    with shield:
        run.enter()
    try:
        value = await _first_of(generator)
    except StopAsyncIteration:
        with shield:
            run.finish(None)
        return
    except BaseException as error:
        with shield:
            run.fail(error)
        raise
    with shield:
        run.finish(value)
    del run
    while True:
        thrown = None
        try:
            sent = yield value
        except BaseException as error:  # noqa: BLE001 - as above
            thrown = error
        try:
            if thrown is not None:
                value = await generator.athrow(thrown)
            else:
                value = await (anext(generator) if sent is None else generator.asend(sent))
        except StopAsyncIteration:
            return
        finally:
            del thrown


def _first_of(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Begin a generator without the event loop's knowledge: it closes the one around it, which closes this one."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return anext(generator)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _named(ours: Any, theirs: Any) -> Any:
    ours.__name__ = getattr(theirs, "__name__", ours.__name__)
    ours.__qualname__ = getattr(theirs, "__qualname__", ours.__qualname__)
    return ours
