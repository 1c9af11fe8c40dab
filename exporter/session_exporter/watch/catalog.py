"""What a database says of a table: its columns, and its indexes."""

from typing import TYPE_CHECKING, Final, NamedTuple

from session_exporter.errors import TableUnusable

from sqlalchemy import text  # isort: skip

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# What the types of columns come to.
AWARE, NAIVE, INTEGER, NUMBER, BOOLEAN, TEXT, UUID_TEXT, OTHER = (
    "timestamp with time zone",
    "timestamp",
    "integer",
    "number",
    "boolean",
    "text",
    "UUID as text",
    "other",
)
# Tables and materialised views; a partitioned table has no index that is made concurrently.
_WITH_INDEXES: Final = ("r", "m", "p", "table")
_CONCURRENT: Final = ("r", "m")

_POSTGRESQL_TYPES: Final = {
    "timestamptz": AWARE,
    "timestamp": NAIVE,
    **dict.fromkeys(("int2", "int4", "int8"), INTEGER),
    **dict.fromkeys(("float4", "float8", "numeric"), NUMBER),
    "bool": BOOLEAN,
    **dict.fromkeys(("text", "varchar"), TEXT),
}
_RELATION: Final = text(
    "SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(:name)"
)
_COLUMNS: Final = text(
    "SELECT a.attname AS name, coalesce(b.typname, t.typname)::text AS type FROM pg_attribute a "
    "JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0) "
    "WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped"
)
_INDEXES: Final = text(
    "SELECT c.relname AS name, i.indisunique AS is_unique, pg_get_expr(i.indpred, i.indrelid) AS predicate, "
    "(SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) "
    "LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts) "
    "AS columns FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = :oid AND i.indisvalid"
)

_SQLITE_TABLE: Final = text(
    "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = :name"
)
_SQLITE_COLUMNS: Final = text("SELECT name, type, pk FROM pragma_table_info(:name)")
_SQLITE_INDEXES: Final = text(
    'SELECT l.name, l."unique" AS is_unique, l.partial, s.sql FROM pragma_index_list(:name) AS l '
    "LEFT JOIN sqlite_master AS s ON s.type = 'index' AND s.name = l.name"
)
_SQLITE_INDEX: Final = text("SELECT name FROM pragma_index_info(:name) ORDER BY seqno")


class TableIndex(NamedTuple):
    """An index.

    Attributes:
        name: Its name.
        columns: Their names in order; None for an expression.
        is_unique: Whether it refuses a second row.
        predicate: Which rows it is about, as SQL; `""` for all.
    """

    name: str
    columns: tuple[str | None, ...]
    is_unique: bool
    predicate: str = ""


class TableShape(NamedTuple):
    """A table as the database has it.

    Attributes:
        schema: Its schema; `""` on SQLite.
        name: Its name.
        columns: What the type of each column comes to, by its name: `AWARE` and so on.
        indexes: Those that are valid.
        may_have_indexes: Not a view.
        is_concurrent: Whether an index can be made while rows are written.
    """

    schema: str
    name: str
    columns: dict[str, str]
    indexes: tuple[TableIndex, ...]
    may_have_indexes: bool = True
    is_concurrent: bool = False


def shape_of_table(connection: "Connection", table: str) -> TableShape:
    """Ask for it.

    Args:
        connection: Where.
        table: Its name, or `schema.name`, as the configuration has it; lower case will do for names that SQL does not
            quote.

    Raises:
        TableUnusable: There is none of this name.
        SQLAlchemyError: As the connection; `Database.reading` translates it.
    """
    shape = (_of_postgresql if connection.dialect.name == "postgresql" else _of_sqlite)(connection, table)
    if shape is None:
        raise TableUnusable(f"table {table}: the database has none of this name that we may see")
    return shape


def _of_postgresql(connection: "Connection", table: str) -> TableShape | None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    found = None
    for name in dict.fromkeys((table, table.lower())):
        words = name.rpartition(".")
        quoted = ".".join(quote(word) for word in (words[0], words[2]) if word)
        found = found or connection.execute(_RELATION, {"name": quoted}).first()
    if found is None:
        return None
    columns = {
        each.name: _POSTGRESQL_TYPES.get(each.type, OTHER) for each in connection.execute(_COLUMNS, {"oid": found.oid})
    }
    indexes = tuple(
        TableIndex(each.name, tuple(each.columns), each.is_unique, each.predicate or "")
        for each in connection.execute(_INDEXES, {"oid": found.oid})
    )
    return TableShape(
        found.schema, found.name, columns, indexes, found.kind in _WITH_INDEXES, found.kind in _CONCURRENT
    )


def _of_sqlite(connection: "Connection", table: str) -> TableShape | None:
    bare = table.rpartition(".")[2]
    found = connection.execute(_SQLITE_TABLE, {"name": bare.lower()}).first()
    if found is None:
        return None
    rows = connection.execute(_SQLITE_COLUMNS, {"name": found.name}).all()
    keys = [each.name for each in sorted(rows, key=lambda row: int(row.pk)) if each.pk]
    # The key of most tables is no index of its own, but the order in which they are kept.
    indexes = [TableIndex("", tuple(keys), is_unique=True)] if keys else []
    for each in connection.execute(_SQLITE_INDEXES, {"name": found.name}).all():
        columns = tuple(row.name for row in connection.execute(_SQLITE_INDEX, {"name": each.name}))
        predicate = str(each.sql).upper().partition(" WHERE ")[2] if each.partial else ""
        indexes.append(TableIndex(each.name, columns, bool(each.is_unique), predicate))
    columns_by_name = {each.name: _sqlite_type(str(each.type).upper()) for each in rows}
    return TableShape("", found.name, columns_by_name, tuple(indexes), found.type in _WITH_INDEXES)


def _sqlite_type(declared: str) -> str:
    """As https://www.sqlite.org/datatype3.html has it; CHAR(32) is what ORMs make of a UUID there."""
    if declared.replace(" ", "") == "CHAR(32)":
        return UUID_TEXT
    if "BOOL" in declared:
        return BOOLEAN
    if "INT" in declared:
        return INTEGER
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return TEXT
    return OTHER
