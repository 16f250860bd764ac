"""The Statement Execution API (2.0): submit, poll, cancel, fetch; results INLINE as JSON_ARRAY.

Statements live in this process, results for an hour, if not too many or too large ones end after them; a restart
forgets them, as a warehouse's would be.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import Field, StringConstraints

from local.workspace.bodies import Arguments
from local.workspace.errors import ApiError, invalid, unknown
from local.workspace.payloads import Payload, parse
from local.workspace.platform_api import WAREHOUSE_ID
from local.workspace.warehouse import (
    CATALOG,
    Parameter,
    ResultTooLarge,
    SparkUnavailable,
    Table,
    Warehouse,
    close,
    query,
)

log = logging.getLogger("workspace.sql")

CHUNK_ROWS = 10_000
LOOK_SECONDS = 0.05
KEEP_SECONDS, KEEP_STATEMENTS, KEEP_BYTES = 3600, 200, 100 * 1024 * 1024
IDENTIFIER = r"^\w+$"


class ParameterItem(Payload):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
    value: str | None = None
    type: Annotated[str, StringConstraints(pattern=Parameter.TYPE.pattern)] = "STRING"


class Execute(Payload):
    statement: Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024 * 1024)]
    warehouse_id: str
    catalog: Annotated[str, StringConstraints(pattern=IDENTIFIER)] | None = None
    schema_: Annotated[str, StringConstraints(pattern=IDENTIFIER)] | None = Field(None, alias="schema")
    parameters: list[ParameterItem] = Field(default_factory=list)
    row_limit: Annotated[int, Field(ge=1)] | None = None
    byte_limit: Annotated[int, Field(ge=1)] | None = None
    wait_timeout: Annotated[str, StringConstraints(pattern=r"^\d+s$")] = "10s"
    on_wait_timeout: Literal["CONTINUE", "CANCEL"] = "CONTINUE"
    disposition: Literal["INLINE"] = "INLINE"
    format: Literal["JSON_ARRAY"] = "JSON_ARRAY"

    @property
    def wait_seconds(self) -> int:
        seconds = int(self.wait_timeout[:-1])
        if seconds and not 5 <= seconds <= 50:
            raise invalid("wait_timeout must be 0s or from 5s to 50s.")
        return seconds


@dataclass
class Statement:
    id: str
    request: Execute
    state: str = "PENDING"
    error_code: str = ""
    error: str = ""
    sql_state: str = ""
    table: Table | None = None
    session: Any = None
    ended_at: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish(self, state: str, error_code: str = "", error: str = "", sql_state: str = "") -> None:
        """The first ending counts: a cancelled statement does not fail afterwards."""
        with self.lock:
            if not self.ended.is_set():
                self.state, self.error_code, self.error, self.sql_state = state, error_code, error, sql_state
                self.ended_at = time.monotonic()
                self.ended.set()


class Statements:
    """All statements of this server; four run at once, the rest waits."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="sql")
        self.known: dict[str, Statement] = {}
        self.lock = threading.Lock()

    def submit(self, request: Execute) -> Statement:
        statement = Statement(str(uuid.uuid4()), request)
        with self.lock:
            self._forget()
            self.known[statement.id] = statement
        self.pool.submit(self._run, statement)
        return statement

    def get(self, statement_id: str) -> Statement:
        with self.lock:
            statement = self.known.get(statement_id)
        if statement is None:
            raise unknown(f"The statement {statement_id}")
        return statement

    def cancel(self, statement: Statement) -> None:
        statement.finish("CANCELED")
        if statement.session is not None:
            try:
                statement.session.interruptAll()
            except Exception as error:
                log.info("Statement %s could not be interrupted: %s", statement.id, error)

    def _forget(self) -> None:
        """Ended statements that are old, and of the others those that ended first, if they are more than is kept."""
        ended = [one for one in self.known.values() if one.ended.is_set()]
        size = 0
        for newer, one in enumerate(reversed(ended)):
            size += one.table.size if one.table else 0
            if newer >= KEEP_STATEMENTS or size > KEEP_BYTES or time.monotonic() - one.ended_at > KEEP_SECONDS:
                self.known.pop(one.id)

    def _run(self, statement: Statement) -> None:
        request = statement.request
        try:
            if statement.ended.is_set():
                return
            statement.session = session = self.warehouse.session()
            with statement.lock:
                if statement.ended.is_set():
                    return
                statement.state = "RUNNING"
            if request.catalog and request.catalog != CATALOG:
                raise ValueError(f"There is one catalog here, {CATALOG}; {request.catalog} does not exist.")
            if request.schema_:
                session.sql(f"USE SCHEMA `{request.schema_}`").collect()
            parameters = [Parameter(one.name, one.value, one.type) for one in request.parameters]
            statement.table = query(session, request.statement, parameters, request.row_limit, request.byte_limit)
            statement.finish("SUCCEEDED")
        except SparkUnavailable as error:
            statement.finish("FAILED", "TEMPORARILY_UNAVAILABLE", str(error))
        except ResultTooLarge as error:
            statement.finish("FAILED", "RESOURCE_EXHAUSTED", str(error))
        except Exception as error:
            message = str(error).split("JVM stacktrace:")[0].strip()
            sql_state = re.search(r"SQLSTATE: (\w{5})", message)
            statement.finish("FAILED", "BAD_REQUEST", message, sql_state.group(1) if sql_state else "")
        finally:
            if statement.session is not None:
                close(statement.session)
                statement.session = None
            with self.lock:
                if self.known.pop(statement.id, None):
                    self.known[statement.id] = statement  # in the order in which they end
                self._forget()


TYPE_NAMES = {
    "tinyint": "BYTE", "smallint": "SHORT", "int": "INT", "bigint": "LONG", "float": "FLOAT", "double": "DOUBLE",
    "boolean": "BOOLEAN", "string": "STRING", "binary": "BINARY", "date": "DATE", "timestamp": "TIMESTAMP",
    "timestamp_ntz": "TIMESTAMP", "void": "NULL",
}  # fmt: skip


def type_text(kind: Any) -> str:
    """A type as Databricks spells it; field names keep their case."""
    match kind.typeName():
        case "array":
            return f"ARRAY<{type_text(kind.elementType)}>"
        case "map":
            return f"MAP<{type_text(kind.keyType)}, {type_text(kind.valueType)}>"
        case "struct":
            return f"STRUCT<{', '.join(f'{one.name}: {type_text(one.dataType)}' for one in kind.fields)}>"
    return str(kind.simpleString()).upper()


def column_json(position: int, name: str, kind: Any) -> dict[str, Any]:
    text = kind.simpleString()
    base = re.split(r"[(<]", text)[0].split(" ")[0]
    said: dict[str, Any] = {
        "name": name,
        "position": position,
        "type_name": TYPE_NAMES.get(base, base.upper()),
        "type_text": type_text(kind),
    }
    if match := re.fullmatch(r"decimal\((\d+),(\d+)\)", text):
        said |= {"type_precision": int(match.group(1)), "type_scale": int(match.group(2))}
    return said


def chunk_json(statement: Statement, index: int) -> dict[str, Any]:
    rows = statement.table.rows if statement.table else []
    start = index * CHUNK_ROWS
    if index and start >= len(rows):
        raise invalid(f"The statement has no chunk {index}.")
    part = rows[start : start + CHUNK_ROWS]
    said: dict[str, Any] = {"chunk_index": index, "row_offset": start, "row_count": len(part), "data_array": part}
    if start + CHUNK_ROWS < len(rows):
        link = f"/api/2.0/sql/statements/{statement.id}/result/chunks/{index + 1}"
        said |= {"next_chunk_index": index + 1, "next_chunk_internal_link": link}
    return said


def statement_json(statement: Statement) -> dict[str, Any]:
    status: dict[str, Any] = {"state": statement.state}
    if statement.state == "FAILED":
        status["error"] = {"error_code": statement.error_code, "message": statement.error}
        if statement.sql_state:
            status["sql_state"] = statement.sql_state
    said: dict[str, Any] = {"statement_id": statement.id, "status": status}
    if statement.state == "SUCCEEDED" and statement.table is not None:
        table = statement.table
        count = max(-(-len(table.rows) // CHUNK_ROWS), 1) if table.schema.fields else 0
        columns = [column_json(n, one.name, one.dataType) for n, one in enumerate(table.schema.fields)]
        said["manifest"] = {
            "format": "JSON_ARRAY",
            "schema": {"column_count": len(columns), "columns": columns},
            "total_chunk_count": count,
            "total_row_count": len(table.rows),
            "truncated": table.truncated,
            "chunks": [
                {
                    "chunk_index": n,
                    "row_offset": n * CHUNK_ROWS,
                    "row_count": min(CHUNK_ROWS, len(table.rows) - n * CHUNK_ROWS),
                }
                for n in range(count)
            ],
        }
        said["result"] = chunk_json(statement, 0)
    return said


def routes(statements: Statements) -> APIRouter:
    router = APIRouter()

    for path in ("/api/2.0/sql/statements", "/api/2.0/sql/statements/"):

        @router.post(path)
        async def execute(given: Arguments) -> Response:
            """Waits without a thread, of which there are few for all requests."""
            request = parse(Execute, given)
            if request.warehouse_id != WAREHOUSE_ID:
                raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"SQL warehouse {request.warehouse_id} does not exist.")
            seconds = request.wait_seconds
            statement = statements.submit(request)
            give_up = time.monotonic() + seconds
            while not statement.ended.is_set() and time.monotonic() < give_up:
                await asyncio.sleep(LOOK_SECONDS)
            if seconds and not statement.ended.is_set() and request.on_wait_timeout == "CANCEL":
                await run_in_threadpool(statements.cancel, statement)
            return await run_in_threadpool(lambda: JSONResponse(statement_json(statement)))

    @router.get("/api/2.0/sql/statements/{statement_id}")
    def get(statement_id: str) -> dict[str, Any]:
        return statement_json(statements.get(statement_id))

    @router.post("/api/2.0/sql/statements/{statement_id}/cancel")
    def cancel(statement_id: str) -> dict[str, Any]:
        statements.cancel(statements.get(statement_id))
        return {}

    @router.get("/api/2.0/sql/statements/{statement_id}/result/chunks/{index}")
    def chunk(statement_id: str, index: int) -> dict[str, Any]:
        statement = statements.get(statement_id)
        if statement.state != "SUCCEEDED":
            raise ApiError(400, "INVALID_STATE", f"The statement is {statement.state} and has no result.")
        return chunk_json(statement, index)

    return router
