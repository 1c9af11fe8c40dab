"""Looking into the application's objects finds what is there, and makes none of them load anything."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from django_site import DjangoSite
from sqlalchemy.orm import Session, declarative_base, relationship

from session_exporter.loaded import loaded_value


class Slotted:
    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id = 7


class Request(Mapping[str, Any]):
    """As aiohttp's: keys and attributes."""

    def __init__(self) -> None:
        self.name = "attribute"

    def __getitem__(self, key: str) -> Any:
        return {"key": "entry"}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["key"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("root", "path", "found"),
    [
        ({"user": {"id": 7}}, "user.id", 7),
        (MappingProxyType({"user": SimpleNamespace(id=7)}), "user.id", 7),
        ({"users": [{"id": 7}]}, "users.0.id", 7),
        ({"users": ({"id": 7},)}, "users.1.id", None),
        ({"users": []}, "users.first", None),
        (SimpleNamespace(user=Slotted()), "user.id", 7),
        (Request(), "key", "entry"),
        (Request(), "name", "attribute"),
        ({"user": None}, "user.id", None),
        ({}, "user.id", None),
        (SimpleNamespace(), "user.id", None),
        ({"user": "anna"}, "user.0", None),
    ],
)
def test_keys_attributes_and_indices_are_followed(root: Any, path: str, found: Any) -> None:
    assert loaded_value(root, path.split(".")) == found


def test_a_dictionary_that_notes_who_looks_at_it_notes_nothing() -> None:
    class Watched(dict[str, Any]):
        looked_at = False

        def __getitem__(self, key: str) -> Any:
            self.looked_at = True
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            self.looked_at = True
            return super().get(key, default)

    session = Watched(user="anna")
    assert loaded_value({"session": session}, ("session", "user")) == "anna"
    assert not session.looked_at


def test_what_a_property_raises_is_raised_unless_it_says_that_there_is_nothing() -> None:
    class User:
        @property
        def missing(self) -> str:
            raise NotImplementedError

        @property
        def broken(self) -> str:
            raise ZeroDivisionError

    assert loaded_value(User(), ("missing",)) is None
    with pytest.raises(ZeroDivisionError):
        loaded_value(User(), ("broken",))


Base: Any = declarative_base()


class Team(Base):
    __tablename__ = "team"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)


class User(Base):
    __tablename__ = "user"
    number = sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True)
    name = sqlalchemy.Column(sqlalchemy.String)
    team_id = sqlalchemy.Column(sqlalchemy.ForeignKey("team.id"))
    team = relationship(Team)


def test_an_object_of_sqlalchemy_loads_nothing_and_its_identity_is_always_known(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'users.db'}")
    Base.metadata.create_all(engine)
    statements: list[str] = []
    with Session(engine, future=True) as session:
        user = User(number=7, name="anna", team=Team(id=1))
        assert loaded_value(user, ("number",)) == 7
        session.add(user)
        session.commit()
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        root = {"user": user}
        assert [loaded_value(root, ("user", *words)) for words in (("number",), ("name",), ("team", "id"))] == [
            7,
            None,
            None,
        ]
        assert statements == []
        assert (user.name, user.team.id) == ("anna", 1)
        assert [loaded_value(root, ("user", *words)) for words in (("name",), ("team", "id"))] == ["anna", 1]
        assert len(statements) == 2
        assert loaded_value(User(), ("number",)) is None
    engine.dispose()


def test_a_model_of_django_loads_nothing(django_site: DjangoSite) -> None:
    from django.contrib.auth.models import Permission, User
    from django.db import connection

    statements: list[str] = []

    def note(execute: Any, sql: str, *arguments: Any) -> Any:
        statements.append(sql)
        return execute(sql, *arguments)

    user, permission = User.objects.only("pk").get(), Permission.objects.first()
    with connection.execute_wrapper(note):
        assert str(loaded_value(user, ("pk",))) == django_site.user_id == str(loaded_value(user, ("id",)))
        assert loaded_value(user, ("username",)) is None
        assert loaded_value(permission, ("content_type", "pk")) is None
        assert loaded_value(permission, ("content_type_id",)) is not None
        assert statements == []
        assert permission is not None
        number = permission.content_type.pk
        assert loaded_value(permission, ("content_type", "pk")) == number
        assert len(statements) <= 1


def test_a_session_of_django_loads_nothing(django_site: DjangoSite) -> None:
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connection

    def refuse(*_arguments: Any) -> Any:
        raise AssertionError("a query")

    made = SessionStore()
    made["user"] = "anna"
    made.save()
    session = SessionStore(made.session_key)
    with connection.execute_wrapper(refuse):
        assert loaded_value({"session": session}, ("session", "user")) is None
        assert not session.accessed
    assert session["user"] == "anna"
    session.accessed = False
    assert loaded_value({"session": session}, ("session", "user")) == "anna"
    assert not session.accessed


def test_a_lazy_object_of_django_is_what_it_stands_for_once_that_is_there(django_site: DjangoSite) -> None:
    from django.utils.functional import SimpleLazyObject

    lazy = SimpleLazyObject(lambda: made.append(1) or SimpleNamespace(id=7))
    made: list[int] = []
    nested = SimpleLazyObject(lambda: lazy)
    assert loaded_value(nested, ("id",)) is None
    assert loaded_value({"user": lazy}, ("user", "id")) is None
    assert loaded_value({"user": lazy}, ("user",)) is None
    assert made == []
    assert nested.id == 7
    assert loaded_value(nested, ("id",)) == 7
