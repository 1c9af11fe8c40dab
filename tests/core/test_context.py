"""A request's context is frozen, deeply, and never made of ids that are none."""

import copy
import dataclasses
import json
import pickle
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from session_exporter.core import context, model
from session_exporter.core.model import RequestContext

IDS = ["user_id", "request_id", "thread_id", "run_id", "session_id"]


def test_there_is_one_context() -> None:
    assert model.RequestContext is context.RequestContext


def test_fields_are_positional_in_their_order() -> None:
    given = RequestContext("u1", "r1", "t1", "n1", "s1", {"a": 1})
    assert [getattr(given, name) for name in IDS] == ["u1", "r1", "t1", "n1", "s1"]
    assert given.metadata == {"a": 1}


def test_what_is_not_known_is_none_and_the_request_has_an_id_of_its_own() -> None:
    one, two = RequestContext(), RequestContext(request_id=None)  # type: ignore[arg-type]  # as untyped code does
    assert [getattr(one, name) for name in IDS if name != "request_id"] == [None] * 4
    assert one.request_id != two.request_id
    assert str(UUID(one.request_id)) == one.request_id


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("value", ["", "  ", "None", "null", "undefined", "{user_id}", "[object Object]"], ids=repr)
def test_empty_ids_and_placeholders_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must "):
        RequestContext(**{name: value})


@pytest.mark.parametrize("name", IDS)
def test_ids_are_free_text_and_become_text(name: str) -> None:
    id_ = UUID("7d444840-9dc0-41d1-b245-5ffdce74fad2")
    for given, kept in (("any text/ü ", "any text/ü "), (17, "17"), (0, "0"), (id_, str(id_))):
        assert getattr(RequestContext(**{name: given}), name) == kept
    with pytest.raises(TypeError, match="an id must be text"):
        RequestContext(**{name: 1.5})


@pytest.mark.parametrize("name", [*IDS, "metadata"])
def test_nothing_can_be_set_or_deleted(name: str) -> None:
    given = RequestContext("u1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(given, name, "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(given, name)


def test_metadata_does_not_follow_its_source() -> None:
    source: dict[str, Any] = {"tags": ["a"], "deep": {"list": [{"x": 1}]}, "set": {1}, "pair": ([1], 2)}
    given = RequestContext("u1", metadata=source)
    expected = copy.deepcopy(source)
    source["tags"].append("b")
    source["deep"]["list"][0]["x"] = 2
    source["pair"][0].append(2)
    source["new"] = 1
    assert given.metadata == expected


CHANGES = [
    lambda data: data.__setitem__("x", 1),
    lambda data: data.__delitem__("d"),
    lambda data: data.__ior__({"x": 1}),
    lambda data: data.clear(),
    lambda data: data.pop("d"),
    lambda data: data.popitem(),
    lambda data: data.setdefault("x", 1),
    lambda data: data.update(x=1),
    lambda data: data["d"].update(x=1),
    lambda data: data["l"].append(1),
    lambda data: data["l"].extend([1]),
    lambda data: data["l"].insert(0, 1),
    lambda data: data["l"].__iadd__([1]),
    lambda data: data["l"].__imul__(2),
    lambda data: data["l"].__setitem__(0, 1),
    lambda data: data["l"].__delitem__(0),
    lambda data: data["l"].pop(),
    lambda data: data["l"].remove(3),
    lambda data: data["l"].clear(),
    lambda data: data["l"].sort(),
    lambda data: data["l"].reverse(),
    lambda data: data["l"][1].update(x=1),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
@pytest.mark.parametrize("made", [lambda given: given, copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_metadata_is_read_only_through_and_through(change: Any, made: Any) -> None:
    given = made(RequestContext("u1", metadata={"d": {}, "l": [3, {}]}))
    with pytest.raises(TypeError, match="cannot be changed"):
        change(given.metadata)
    assert given.metadata == {"d": {}, "l": [3, {}]}


def test_metadata_is_json_and_any_mapping_will_do() -> None:
    given = RequestContext("u1", metadata=MappingProxyType({"a": [1, {"b": None}]}))
    assert json.loads(json.dumps(given.metadata)) == {"a": [1, {"b": None}]}


def test_metadata_that_contains_itself_or_cannot_be_copied_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    for metadata in (loop, {"generator": (item for item in ())}):
        with pytest.raises(ValueError, match="metadata cannot be copied"):
            RequestContext("u1", metadata=metadata)


@pytest.mark.parametrize("metadata", [[("a", 1)], "a=1", 7])
def test_metadata_that_is_no_mapping_is_refused(metadata: Any) -> None:
    with pytest.raises(TypeError, match="metadata must be a mapping"):
        RequestContext("u1", metadata=metadata)


def test_equal_contexts_are_equal_in_sets() -> None:
    one, two = (RequestContext("u1", "r1", metadata={"a": [1]}) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1
    assert dataclasses.asdict(one)["metadata"] == {"a": [1]}


def test_a_child_is_another_unit_of_work_of_the_same_user() -> None:
    parent = RequestContext("u1", "r1", "t1", "n1", "s1", {"app": "chat"})
    child = parent.child(metadata={"message": 2})
    assert child.request_id != "r1"
    assert (child.user_id, child.thread_id, child.run_id, child.session_id) == ("u1", "t1", "n1", "s1")
    assert child.metadata == {"app": "chat", "parent_request_id": "r1", "message": 2}
    assert parent.metadata == {"app": "chat"}


def test_a_child_takes_what_it_is_given_and_checks_it() -> None:
    parent = RequestContext("u1", "r1", "t1")
    child = parent.child("r2", thread_id="t2", run_id="n2", session_id="s2")
    assert (child.request_id, child.thread_id, child.run_id, child.session_id) == ("r2", "t2", "n2", "s2")
    with pytest.raises(ValueError, match="request_id must not be empty"):
        parent.child("")
    with pytest.raises(ValueError, match="session_id must be an id"):
        parent.child(session_id="None")


def test_a_user_who_becomes_known_leaves_the_rest_as_it_was() -> None:
    anonymous = RequestContext(request_id="r1", session_id="s1", metadata={"a": [1]})
    known = anonymous.with_user("u1")
    assert known == dataclasses.replace(anonymous, user_id="u1")
    assert (anonymous.user_id, known.request_id) == (None, "r1")


@pytest.mark.parametrize("user", ["", "None", None])
def test_a_user_who_is_none_is_refused(user: Any) -> None:
    with pytest.raises(ValueError, match="user_id must"):
        RequestContext("u1").with_user(user)
