"""What an INSERT, UPDATE or DELETE in SQLAlchemy's own language does to its table."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.sql.elements import BindParameter, ClauseElement, Label

from session_exporter.hooks.sqlalchemy.readings import Conflict, Source, StatementReading, constant, parameter, unknown
from session_exporter.hooks.sqlalchemy.trees import Compilation, original, read_where

Row = Mapping[str, Source]

# What the row that was to be inserted is called where it is said what to do about the one that is there.
_PROPOSED: Final = frozenset({"excluded", "inserted", "new"})


def read_insert(statement: Any, compilation: Compilation) -> StatementReading:
    """Read an INSERT."""
    table: Table = original(statement.table)
    rows, from_query = _rows(statement, table, compilation)
    conflict, columns, sets = _conflict(statement, table, compilation, rows)
    if conflict is Conflict.REFUSE and from_query:
        conflict = Conflict.NOTHING
    return StatementReading(
        "insert",
        table.name.lower(),
        (table.schema or "").lower(),
        rows=rows,
        conflict=conflict,
        conflict_columns=columns,
        sets=sets,
        outputs=compilation.outputs(table) if statement._returning else {},  # noqa: SLF001 - nothing public tells
        primary_key=tuple(column.name.lower() for column in table.primary_key),
    )


def read_change(statement: Any, compilation: Compilation) -> StatementReading:
    """Read an UPDATE or DELETE."""
    table: Table = original(statement.table)
    is_update = bool(compilation.compiled.isupdate)
    return StatementReading(
        "update" if is_update else "delete",
        table.name.lower(),
        (table.schema or "").lower(),
        sets=_sets(statement, table, compilation) if is_update else {},
        where=read_where(statement._where_criteria, table, compilation),  # noqa: SLF001 - nothing public tells
        outputs=compilation.outputs(table) if statement._returning else {},  # noqa: SLF001 - nothing public tells
    )


def _given(statement: Any, compilation: Compilation) -> dict[str, Any]:
    """What `.values(...)` was given, by the column's key."""
    state = compilation.compiled.compile_state
    values = getattr(state, "_dict_parameters", None) or getattr(statement, "_values", None) or {}
    ordered = getattr(statement, "_ordered_values", None) or ()
    return {_key(column): value for column, value in (*values.items(), *ordered)}


def _key(column: Any) -> str:
    return column if isinstance(column, str) else str(column.key)


def _rows(statement: Any, table: Table, compilation: Compilation) -> tuple[tuple[Row, ...], bool]:
    if statement.select is not None:
        return ((_selected(statement, table, compilation),), True) if _is_plain(statement.select) else ((), True)
    several = getattr(compilation.compiled.compile_state, "_multi_parameters", None)
    if several:
        rows = tuple(_one_of_many(table, row, place, compilation) for place, row in enumerate(several))
        return rows, False
    given = _given(statement, compilation)
    return ({column.name.lower(): _inserted(column, given, compilation) for column in table.c},), False


def _inserted(column: Any, given: Mapping[str, Any], compilation: Compilation) -> Source:
    key = column.key
    if key in given:
        value = given[key]
        if isinstance(value, BindParameter) and value.unique and key in compilation.names:
            return parameter(key)  # the compiler names it for the column
        return compilation.value(value) or unknown
    if key in compilation.names:
        return parameter(key)
    return unknown if _has_default(column) else constant(None)


def _has_default(column: Any) -> bool:
    return bool(column.server_default is not None or column.default is not None or column.primary_key)


def _one_of_many(table: Table, row: Mapping[Any, Any], place: int, compilation: Compilation) -> Row:
    """A row of `.values([...])`, whose parameters are numbered; those of defaults are not in the first row."""
    keys = {_key(column): value for column, value in row.items()}
    sources: dict[str, Source] = {}
    for column in table.c:
        name = f"{column.key}_m{place}"
        if name in compilation.names:
            sources[column.name.lower()] = parameter(name)
        elif isinstance(keys.get(column.key), ClauseElement):
            sources[column.name.lower()] = compilation.value(keys[column.key]) or unknown
        elif place == 0:
            sources[column.name.lower()] = _inserted(column, {}, compilation)
        else:
            sources[column.name.lower()] = unknown if _has_default(column) else constant(None)
    return sources


def _is_plain(select: Any) -> bool:
    return getattr(select, "_raw_columns", None) is not None


def _selected(statement: Any, table: Table, compilation: Compilation) -> Row:
    """The columns of INSERT..SELECT that are the same for all rows, because they are parameters."""
    sources: dict[str, Source] = {column.name.lower(): unknown for column in table.c}
    names = statement._select_names or ()  # noqa: SLF001 - nothing public tells
    for name, element in zip(names, statement.select._raw_columns, strict=False):  # noqa: SLF001 - as above
        column = table.c.get(_key(name))
        value = compilation.value(element.element if isinstance(element, Label) else element)
        if column is not None and value is not None:
            sources[column.name.lower()] = value
    return sources


def _sets(statement: Any, table: Table, compilation: Compilation) -> Row:
    given = _given(statement, compilation)
    sources: dict[str, Source] = {}
    for column in table.c:
        if column.key in given or (column.key in compilation.names and _is_set(column, compilation)):
            sources[column.name.lower()] = _inserted(column, given, compilation)
    return sources


def _is_set(column: Any, compilation: Compilation) -> bool:
    """Whether a parameter of the column's name is the value it gets, and none of the condition's."""
    keys = compilation.compiled.column_keys
    return bool(keys is not None and column.key in keys) or any(
        each is column for each in compilation.compiled.update_prefetch
    )


def _conflict(
    statement: Any, table: Table, compilation: Compilation, rows: tuple[Row, ...]
) -> tuple[Conflict, frozenset[str] | None, Row]:
    prefixes = " ".join(str(getattr(prefix, "text", prefix)).upper() for prefix, _ in statement._prefixes)  # noqa: SLF001
    if "REPLACE" in prefixes:
        return Conflict.REPLACE, None, {}
    clause = getattr(statement, "_post_values_clause", None)
    for each in (clause, *getattr(clause, "clauses", ())):
        kind = getattr(each, "__visit_name__", "")
        if kind == "on_conflict_do_nothing":
            return Conflict.NOTHING, _decided_by(each, table), {}
        if kind == "on_conflict_do_update":
            sets = dict(each.update_values_to_set)
            return Conflict.UPDATE, _decided_by(each, table), _updated(sets, table, compilation, rows)
        if kind == "on_duplicate_key_update":
            return Conflict.UPDATE, None, _updated(dict(each.update), table, compilation, rows)
    return (Conflict.NOTHING if "IGNORE" in prefixes else Conflict.REFUSE), None, {}


def _decided_by(clause: Any, table: Table) -> frozenset[str] | None:
    elements = clause.inferred_target_elements
    if elements is not None:
        keys = [_key(each) for each in elements]
        return frozenset(str(getattr(table.c.get(key), "name", key)).lower() for key in keys)
    target = getattr(clause, "constraint_target", None)  # which SQLite does not have
    if target is None:
        return None
    name = getattr(target, "name", target)
    if name is not None and name == table.primary_key.name:
        return frozenset(column.name.lower() for column in table.primary_key)
    return frozenset({f"constraint {str(name).lower()}"})


def _updated(sets: Mapping[Any, Any], table: Table, compilation: Compilation, rows: tuple[Row, ...]) -> Row:
    sources: dict[str, Source] = {}
    for key, value in sets.items():
        column = table.c.get(_key(key))
        if column is None:
            continue
        sources[column.name.lower()] = _updated_value(value, compilation, rows) or unknown
    return sources


def _updated_value(value: Any, compilation: Compilation, rows: tuple[Row, ...]) -> Source | None:
    if not isinstance(value, ClauseElement):
        return constant(value)
    if getattr(getattr(value, "table", None), "name", "") in _PROPOSED:
        return rows[0].get(str(getattr(value, "name", "")).lower()) if rows else None
    return compilation.value(value)
