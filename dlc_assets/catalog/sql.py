"""SQL over the lab: the catalog's tables as they are now, and every pose, read and never written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.catalog.schema import FILTERED_POSES, KINEMATICS, POSES, TABLES, VIEWS, CatalogTable
from dlc_assets.catalog.tables import catalog_tables
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.lab import Lab

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

TABLE_NAMES = tuple(table.name for table in (*TABLES, *VIEWS))
_ALLOWED = "one SELECT, WITH, FROM, PIVOT, EXPLAIN, DESCRIBE, SHOW or SUMMARIZE"
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\((\s*(analyze|format\s+\w+)\s*,?)+\))?", re.IGNORECASE)
# DuckDB's words for a name it does not know; its other complaints of this kind are of a wrong query.
_UNKNOWN = re.compile(r"does not exist|not found|does not have a column")
_SETTINGS = {
    # Nothing is fetched from the network, and Python variables of whoever calls are no tables.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


@dataclass(frozen=True)
class SqlResult:
    """The result of a query; two columns may have the same name."""

    table: pa.Table

    @property
    def columns(self) -> list[str]:
        return list(self.table.schema.names)

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python values."""
        if not self.table.num_columns:
            return []
        return list(zip(*(column.to_pylist() for column in self.table.columns), strict=True))

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a DataFrame."""
        return self.table.to_pandas()

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self.table


def query(lab: Lab, sql: str) -> SqlResult:
    """Run one reading statement of DuckDB's SQL over the catalog's tables and the views `poses`, `filtered_poses` and `kinematics`.

    Times are shown in the lab's time zone.

    Raises
    ------
    InputError
        The statement is no SQL, would change something, or reads a file that is not a pose table of this lab.
    NotFoundError
        There is no such table, column or function.
    """
    import duckdb

    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        try:
            statement = _one_statement(connection, sql)
            _register(connection, lab, statement)
            _check_reads_only(connection, statement)
            relation = connection.sql(statement)
            if relation is None:
                raise InputError(_refusal(statement))
            return SqlResult(relation.to_arrow_table())
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            kind = NotFoundError if _UNKNOWN.search(str(error)) else InputError
            raise kind(f"{error}\nTables: {', '.join(TABLE_NAMES)}.") from error
        except duckdb.PermissionException as error:
            raise InputError(
                f"{error}\nA query reads the tables of this lab only: {', '.join(TABLE_NAMES)}. Read "
                "other files yourself, and put them together in Python."
            ) from error
        except duckdb.Error as error:
            raise InputError(str(error)) from error


def _one_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the one statement that *sql* is, without its semicolon."""
    import duckdb

    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InputError(f"Expected {_ALLOWED} statement, got {len(statements)}: {sql.strip()[:200]!r}.")
    # PIVOT is several statements inside, hence MULTI; whether it only reads is checked with the rest.
    kinds = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
    if statements[0].type not in kinds:
        raise InputError(_refusal(sql))
    text = statements[0].query.encode()  # the tokens' places are counted in bytes
    ends = [
        place
        for place, kind in duckdb.tokenize(statements[0].query)
        if kind == duckdb.token_type.operator and text[place : place + 1] == b";"
    ]
    return text[: ends[0]].decode() if ends else statements[0].query


def _check_reads_only(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Refuse what is not a query: only a query can be another's table, and DuckDB then allows it no writing.

    The kind of statement does not say so: ``EXPLAIN ANALYZE COPY`` and ``WITH x AS (COPY ...) SELECT`` write files.
    """
    import duckdb

    explained = _EXPLAIN.match(statement)
    body = statement[explained.end() :] if explained is not None else statement
    try:
        connection.execute(f"EXPLAIN SELECT * FROM (\n{body}\n)").fetchall()
    except duckdb.ParserException:
        raise InputError(_refusal(statement)) from None
    except duckdb.BinderException as error:
        if "WITH clause containing" in str(error):
            raise InputError(_refusal(statement)) from None
        raise


def _refusal(sql: str) -> str:
    return f"Expected {_ALLOWED} statement, which changes nothing; got {sql.strip()[:200]!r}."


def _register(connection: duckdb.DuckDBPyConnection, lab: Lab, statement: str) -> None:
    """Give *connection* the tables that *statement* may need, then shut it off from everything else."""
    for name, table in catalog_tables(lab, names=_named(statement)).items():
        connection.register(name, table)
    folders = {
        POSES.name: lab.layout.poses,
        FILTERED_POSES.name: lab.layout.derived("filtered_pose_table"),
        KINEMATICS.name: lab.layout.derived("kinematics"),
    }
    for view in VIEWS:
        named = re.search(rf"\b{view.name}\b", statement, re.IGNORECASE) is not None
        files = pose_table_files(folders[view.name]) if named else []
        if view is KINEMATICS:
            _make_kinematics_view(connection, files)
        else:
            _make_pose_view(connection, view, files)
    connection.execute(f"SET TimeZone = {_quoted(lab.settings.timezone)}")
    allowed = ", ".join(_quoted(folder.as_posix() + "/") for folder in folders.values())
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _named(statement: str) -> list[str]:
    """Return the tables to build: all take a while in a large lab, and most queries name what they need."""
    text = statement.casefold()
    named = [table.name for table in TABLES if table.name in text]
    return named if named or any(view.name in text for view in VIEWS) else [table.name for table in TABLES]


def _make_pose_view(connection: duckdb.DuckDBPyConnection, view: CatalogTable, files: list[Path]) -> None:
    """Make the *view* of *files*; without ``union_by_name``, which would open every file to learn its columns."""
    first = next((path for path in files if _is_parquet(path)), None)  # DuckDB takes the columns from the first file
    if first is None and not files:
        connection.register(view.name, view.schema().empty_table())
        return
    if first is None:
        raise InputError(f"{files[0]} cannot be read as Parquet, and no other pose table either. Make them again.")
    ordered = [first, *(path for path in files if path != first)]
    names = ", ".join(f'"{column.name}"' for column in view.columns)
    connection.execute(f"SET VARIABLE {view.name}_files = ?", [[path.as_posix() for path in ordered]])
    connection.execute(
        f"CREATE VIEW {view.name} AS SELECT {names} FROM read_parquet(getvariable('{view.name}_files'), "
        "hive_partitioning = true, hive_types_autocast = false)"
    )


def _make_kinematics_view(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> None:
    """Make the view `kinematics` of *files*, whose columns differ: each is opened to learn its own."""
    if not files:
        connection.register(KINEMATICS.name, KINEMATICS.schema().empty_table())
        return
    first = ", ".join(f'"{column.name}"' for column in KINEMATICS.columns)
    connection.execute(f"SET VARIABLE {KINEMATICS.name}_files = ?", [[path.as_posix() for path in files]])
    connection.execute(
        f"CREATE VIEW {KINEMATICS.name} AS SELECT {first}, * EXCLUDE ({first}) FROM "
        f"read_parquet(getvariable('{KINEMATICS.name}_files'), union_by_name = true, hive_partitioning = true, "
        "hive_types_autocast = false)"
    )


def _is_parquet(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def pose_table_files(place: Path) -> list[Path]:
    """Return the files of every finished pose table in *place*: those beside a manifest, which is written last."""
    folders = sorted(path.parent for path in place.glob("model=*/version=*/session=*/manifest.json"))
    return [path for folder in folders for path in sorted(folder.glob("[!.]*.parquet"))]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
