"""What a call does to the rows of a model or table.

SQLAlchemy, SQLModel, Flask-SQLAlchemy and Django, SQL as text, PostgREST's chains (`table("chats").insert(...)`), and
MongoDB's collections.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from session_exporter.audit.code.flow import STEPS_MAX, Occurrence
from session_exporter.audit.code.naming import dotted, tail, text_of

_TABLE: Final = r"[`\"\[]?(?:\w+[`\"\]]?\.[`\"\[]?)?(\w+)"
_SELECTED: Final = re.compile(rf"\s*SELECT\b.*?\bFROM\s+{_TABLE}", re.IGNORECASE | re.DOTALL)
_DELETED: Final = re.compile(rf"\s*(?:DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+{_TABLE}", re.IGNORECASE)
_INSERTED: Final = re.compile(rf"\s*INSERT\s+INTO\s+{_TABLE}", re.IGNORECASE)
_READING: Final = frozenset({"query", "select"})
_ADDING: Final = frozenset({"add", "add_all", "bulk_save_objects", "save"})
_INSERTING: Final = frozenset({"insert", "bulk_insert_mappings"})
_CREATING: Final = frozenset({"create", "bulk_create", "acreate", "abulk_create"})
_MANAGERS: Final = frozenset({"objects", "query"})
# Methods of tables and collections; whether the method is one of collections only.
_SELECTING_METHODS: Final = {"select": False, "find_one": True}
_INSERTING_METHODS: Final = {"insert": False, "insert_one": True, "insert_many": True}
_DELETING_METHODS: Final = {"delete": False, "delete_one": True, "delete_many": True}
_BY_SIZE: Final = (ast.Lt, ast.Gt, ast.LtE, ast.GtE)
_LOOKUPS: Final = ("__lt", "__lte", "__gt", "__gte", "__in")
_CHOOSING: Final = frozenset({"in_", "not_in", "notin_", "offset", "order_by", "limit", "exclude"})
_CHOOSING_SQL: Final = re.compile(r"[<>]|\bIN\s*\(|\bLIMIT\b", re.IGNORECASE)


class TableUse(NamedTuple):
    """A statement on the rows of a model (`Chat`) or of a table, in lower case (`chats`)."""

    table: str
    at: Occurrence


def deleted(found: Sequence[Occurrence]) -> Iterator[TableUse]:
    """Deletions of rows, but not of chosen ones: `expires_at < now` is housekeeping."""
    deletions = list(islice(((table, each) for each in found if (table := _deleted_by(each.node))), STEPS_MAX))
    whole = _whole_chains(found) if deletions else {}
    named = _named(found) if deletions else {}
    for table, each in deletions:
        statement = whole.get(id(each.node), each)
        name = named.get(id(statement.node))
        at = _first_use(name, statement, found) if name else statement
        if at is not None and not _chooses(statement.node):
            yield TableUse(table, at)


def _deleted_by(call: ast.AST) -> str:
    if not isinstance(call, ast.Call):
        return ""
    name = tail(call.func)
    if name in {"delete", "adelete"} and isinstance(call.func, ast.Attribute) and (model := model_of(call.func.value)):
        return model
    if name == "delete" and len(call.args) == 1 and _is_model(call.args[0]):
        return tail(call.args[0])
    return _table_of(call, _DELETED) or _collection_of(call, _DELETING_METHODS)


def _whole_chains(found: Sequence[Occurrence]) -> dict[int, Occurrence]:
    """Of each call that others are chained to, the last of them: `delete(Chat).where(...)` of `delete(Chat)`."""
    whole: dict[int, Occurrence] = {}
    for each in found:
        node = each.node
        while isinstance(node, ast.Call | ast.Attribute):
            whole.setdefault(id(node), each)
            node = node.func if isinstance(node, ast.Call) else node.value
    return whole


def _named(found: Sequence[Occurrence]) -> dict[int, str]:
    """The names that statements are given, to be executed later."""
    return {
        id(each.node.value): dotted(each.node.targets[0])
        for each in found
        if isinstance(each.node, ast.Assign) and isinstance(each.node.value, ast.Call)
    }


def _first_use(name: str, statement: Occurrence, found: Sequence[Occurrence]) -> Occurrence | None:
    for each in islice(found, statement.order + 1, None):
        if isinstance(each.node, ast.Name) and each.node.id == name and isinstance(each.node.ctx, ast.Load):
            return each
    return None


def inserted(found: Sequence[Occurrence]) -> Iterator[TableUse]:
    """Insertions of rows."""
    made: dict[str, str] = {}
    for each in found:
        if isinstance(each.node, ast.Assign) and (model := _constructed(each.node.value)):
            made.update((name, model) for name in map(dotted, each.node.targets) if name)
        if isinstance(each.node, ast.Call):
            yield from (TableUse(table, each) for table in _inserted_by(each.node, made))


def selected(found: Sequence[Occurrence]) -> Iterator[TableUse]:
    """Readings of rows."""
    for each in found:
        if not isinstance(each.node, ast.Call):
            continue
        call = each.node
        if (tail(call.func) in _READING and call.args and _is_model(call.args[0])) or (
            tail(call.func) == "get" and len(call.args) > 1 and _is_model(call.args[0])
        ):
            yield TableUse(tail(call.args[0]), each)
        elif isinstance(call.func, ast.Attribute) and tail(call.func.value) in _MANAGERS and (model := model_of(call)):
            yield TableUse(model, each)
        elif table := _table_of(call, _SELECTED) or _collection_of(call, _SELECTING_METHODS):
            yield TableUse(table, each)


def model_of(node: ast.AST) -> str:
    """The model at the root of a chain: `session.query(Chat).filter(...)`, `Chat.objects.all()`, `Chat.__table__`."""
    while True:
        if isinstance(node, ast.Call):
            if tail(node.func) == "query" and node.args and _is_model(node.args[0]):
                return tail(node.args[0])
            node = node.func
        elif isinstance(node, ast.Attribute):
            if node.attr in {*_MANAGERS, "__table__"} and _is_model(node.value):
                return tail(node.value)
            node = node.value
        else:
            return ""


def _inserted_by(call: ast.Call, made: dict[str, str]) -> Iterator[str]:
    name = tail(call.func)
    if name == "save" and isinstance(call.func, ast.Attribute):
        yield from filter(None, [_made_by(call.func.value, made)])
    elif name in _ADDING:
        for node in (node for argument in call.args for node in ast.walk(argument)):
            if model := _made_by(node, made):
                yield model
    elif name in _INSERTING and call.args and _is_model(call.args[0]):
        yield tail(call.args[0])
    elif name in _CREATING and isinstance(call.func, ast.Attribute) and tail(call.func.value) == "objects":
        yield from filter(None, [model_of(call.func.value)])
    elif table := _table_of(call, _INSERTED) or _collection_of(call, _INSERTING_METHODS):
        yield table


def _made_by(node: ast.AST, made: dict[str, str]) -> str:
    return _constructed(node) or (made.get(dotted(node), "") if isinstance(node, ast.Name) else "")


def _constructed(node: ast.AST | None) -> str:
    return tail(node.func) if isinstance(node, ast.Call) and _is_model(node.func) else ""


def _is_model(node: ast.AST) -> bool:
    """Whether a name is written as classes are: `Chat`, `models.Chat`."""
    name = tail(node)
    return bool(dotted(node)) and name[:1].isupper() and not name.isupper()


def _table_of(call: ast.Call, statement: re.Pattern[str]) -> str:
    if isinstance(call.func, ast.Name | ast.Attribute):
        for argument in [*call.args[:1], *(each.value for each in call.keywords)]:
            if isinstance(argument, ast.Call):
                continue  # `execute(text("..."))`: the inner call is looked at itself
            if (text := text_of(argument)) and (match := statement.match(text)):
                return match[1].lower()
    return ""


def _collection_of(call: ast.Call, methods: Mapping[str, bool]) -> str:
    """The table of `client.table("chats").insert(...)`, the collection of `db.chats.insert_one(...)`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in methods:
        return ""
    receiver = call.func.value
    if isinstance(receiver, ast.Call) and tail(receiver.func) in {"table", "from_"}:
        return text_of(receiver.args[0]).lower() if len(receiver.args) == 1 else ""
    if not methods[call.func.attr]:
        return ""
    return (text_of(receiver.slice) if isinstance(receiver, ast.Subscript) else tail(receiver)).lower()


def _chooses(statement: ast.AST) -> bool:
    """Whether rows are chosen by their age, number, or from a list: this tidies up, and clears nothing."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Compare) and any(isinstance(each, _BY_SIZE) for each in node.ops):
            return True
        if isinstance(node, ast.keyword) and node.arg and node.arg.endswith(_LOOKUPS):
            return True
        if isinstance(node, ast.Attribute) and node.attr in _CHOOSING:
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CHOOSING_SQL.search(node.value):
            return True
    return False
