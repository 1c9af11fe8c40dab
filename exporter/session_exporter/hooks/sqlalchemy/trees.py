"""What an expression of SQLAlchemy's own language says about the rows that a query reads."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from sqlalchemy import Column, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    ColumnElement,
    False_,
    Label,
    Null,
    TextClause,
    True_,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CTE, AliasedReturnsRows, Join, Select

from session_exporter.hooks.sqlalchemy.readings import Pin, Source, StatementReading, Where, constant, parameter
from session_exporter.hooks.sqlalchemy.sqltext import condition

# By column, the columns that are always equal to it.
Twins: TypeAlias = Mapping[Any, AbstractSet[Any]]

_NESTED_MAX: Final = 8
_AGGREGATES: Final = frozenset({"count", "max", "min", "sum", "avg", "array_agg", "string_agg", "aggregate_strings"})


class Compilation:
    """A compiled statement: names of its parameters, and the columns of its result.

    Args:
        compiled: By SQLAlchemy.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.names = frozenset(compiled.binds)

    def value(self, element: Any) -> Source | None:
        """Where the value of an expression comes from; None when only the database knows."""
        element = _bare(element)
        if isinstance(element, BindParameter):
            name = self.name(element)
            return None if name is None else parameter(name)
        if isinstance(element, Null):
            return constant(None)
        if isinstance(element, True_ | False_):
            return constant(isinstance(element, True_))
        return None

    def name(self, bind: Any) -> str | None:
        """Under which name the parameters have the value of a bind; None when they have not."""
        name = self.compiled.bind_names.get(bind, bind.key)
        return str(name) if name in self.names else None

    def outputs(self, table: Table) -> dict[str, int | str]:
        """Which columns of the result are columns of a table."""
        outputs: dict[str, int | str] = {}
        for place, entry in enumerate(self.compiled._result_columns):  # noqa: SLF001 - nothing public tells
            column = next((found for found in map(base_column, entry[2]) if found is not None), None)
            if column is not None and column.table is table:
                outputs.setdefault(column.name.lower(), place)
        return outputs

    def aggregates(self) -> bool:
        """Whether the result has a column that sums up many rows."""
        for entry in self.compiled._result_columns:  # noqa: SLF001 - nothing public tells
            for each in entry[2]:
                element = getattr(each, "element", each)
                if isinstance(element, FunctionElement) and getattr(element, "name", "") in _AGGREGATES:
                    return True
        return False


def base_column(element: Any) -> Any:
    """The table's column that an expression stands for, through labels, aliases and subqueries; None for others."""
    if isinstance(element, str):
        return None
    for _ in range(_NESTED_MAX):
        if isinstance(element, Label) or type(element).__name__ == "_CompileLabel":
            element = element.element
            continue
        if not isinstance(element, ColumnElement) or getattr(element, "table", None) is None:
            return None
        break
    bases = [base for base in element.base_columns if isinstance(base, Column)]
    # An annotated column is a copy; the table it belongs to has the column itself.
    return (
        original(bases[0].table).c.get(bases[0].key) if len(bases) == 1 and isinstance(bases[0].table, Table) else None
    )


def _bare(element: Any) -> Any:
    """The value inside of brackets, casts and coercions."""
    for _ in range(_NESTED_MAX):
        if type(element).__name__ in {"Grouping", "Cast", "TryCast", "TypeCoerce", "AnnotatedGrouping"}:
            element = getattr(element, "element", None) if hasattr(element, "element") else element.clause
        else:
            break
    return element


def read_select(select: Any, compilation: Compilation, note: Callable[[Any], None]) -> Iterator[StatementReading]:
    """Read a query, once for each table that it takes rows of; `note` is told of the tables."""
    tables: list[Table] = []
    selects: list[Any] = []
    joins: list[Any] = []
    if not _walk(select, tables, selects, joins) or compilation.aggregates():
        return
    twins = _twins(joins)
    for table in tables:
        note(table)
        if tables.count(table) > 1:
            continue
        criteria = [criterion for each in selects for criterion in each._where_criteria]  # noqa: SLF001 - as below
        where = read_where(criteria, table, compilation, twins)
        is_alone = len(tables) == 1 and all(each._offset_clause is None for each in selects)  # noqa: SLF001 - as below
        yield StatementReading(
            "select",
            table.name.lower(),
            (table.schema or "").lower(),
            where=Where(where.pins, where.is_only_pins and is_alone),
            outputs=compilation.outputs(table),
        )


def _walk(select: Any, tables: list[Table], selects: list[Any], joins: list[Any], depth: int = 0) -> bool:
    """Collect the tables that rows come from, and the queries with their conditions; False when rows are not theirs.

    `joins` get the conditions that tables are joined by, where rows have all of them.
    """
    if not isinstance(select, Select) or depth > _NESTED_MAX:
        return False
    if select._group_by_clauses or select._having_criteria:  # noqa: SLF001 - nothing public tells
        return False
    selects.append(select)
    froms = list(select.get_final_froms())
    while froms:
        each = froms.pop()
        if isinstance(each, Join):
            froms += [each.left, each.right]
            joins += [] if each.isouter or each.full else [each.onclause]
        elif isinstance(each, Table):
            tables.append(original(each))
        elif isinstance(each, AliasedReturnsRows) and isinstance(each.element, Table):
            tables.append(original(each.element))
        elif isinstance(each, AliasedReturnsRows) and not isinstance(each, CTE):
            inside = _bare(each.element)
            if isinstance(inside, Select) and not _walk(inside, tables, selects, joins, depth + 1):
                return False
    return True


def _twins(joins: Iterable[Any]) -> Twins:
    """Which keys are the same in several tables: a class that inherits from another has a table of its own."""
    twins: dict[Any, set[Any]] = {}
    for criterion in _conjuncts(joins):
        if getattr(criterion, "operator", None) is operators.eq:
            pair = {base_column(_bare(criterion.left)), base_column(_bare(criterion.right))}
            if all(column is not None and column.primary_key for column in pair):
                same = pair.union(*(twins.get(column, ()) for column in pair))
                twins.update(dict.fromkeys(same, same))
    return twins


def original(table: Any) -> Any:
    """The table itself, when the statement has a copy of it with notes for the mapper."""
    return getattr(table, "_Annotated__element", table)


def read_where(
    criteria: Iterable[Any], table: Table, compilation: Compilation, twins: Twins = MappingProxyType({})
) -> Where:
    """Read what conditions, all of which must be met, pin of a table's columns, or of the `twins` of its key."""
    pins: dict[str, Pin] = {}
    is_only_pins = True
    for criterion in _conjuncts(criteria):
        if isinstance(criterion, TextClause):
            where = condition(criterion.text, table.name.lower())
            pins.update(where.pins)
            is_only_pins &= where.is_only_pins
        elif (pin := _pin(criterion, table, compilation, twins)) is not None:
            pins[pin[0]] = pin[1]
        else:
            is_only_pins = False
    return Where(pins, is_only_pins)


def _conjuncts(criteria: Iterable[Any]) -> Iterator[Any]:
    for criterion in criteria:
        bare = _bare(criterion)
        if isinstance(bare, BooleanClauseList) and bare.operator is operators.and_:
            yield from _conjuncts(bare.clauses)
        else:
            yield bare


def _pin(criterion: Any, table: Table, compilation: Compilation, twins: Twins) -> tuple[str, Pin] | None:
    operator = getattr(criterion, "operator", None)
    left, right = getattr(criterion, "left", None), getattr(criterion, "right", None)
    if operator is operators.eq or operator is operators.is_:
        for one, other in ((left, right), (right, left)):
            column = _column_of(table, one, twins)
            value = None if column is None else compilation.value(other)
            if column is not None and value is not None:
                return column.name.lower(), Pin((value,))
    elif operator is operators.in_op:
        column = _column_of(table, left, twins)
        pin = _listed(_bare(right), compilation)
        if column is not None and pin is not None:
            return column.name.lower(), pin
    return None


def _column_of(table: Table, element: Any, twins: Twins) -> Any:
    """The table's column that an expression stands for; None for others."""
    column = base_column(_bare(element))
    if column is None or column.table is table:
        return column
    return next((twin for twin in twins.get(column, ()) if twin.table is table), None)


def _listed(right: Any, compilation: Compilation) -> Pin | None:
    if isinstance(right, BindParameter):
        name = compilation.name(right)
        return Pin(expanding=name) if name is not None and right.expanding else None
    values = [compilation.value(each) for each in getattr(right, "clauses", ())]
    sources = tuple(value for value in values if value is not None)
    return Pin(sources) if sources and len(sources) == len(values) else None
