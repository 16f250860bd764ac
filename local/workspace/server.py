"""Puts the parts together: one FastAPI application over one engine."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.home import Home
from local.workspace import jobs_api, pages, platform_api, sql_api
from local.workspace.access import Gate
from local.workspace.dashboard import Dashboard
from local.workspace.engine import Engine, Limits
from local.workspace.errors import ApiError
from local.workspace.sessions import release_session
from local.workspace.warehouse import Warehouse

log = logging.getLogger("workspace")

MAX_BODY_BYTES = 20 * 1024 * 1024
MAX_LOGIN_BYTES = 16 * 1024  # anybody may send one
OPEN_PATHS = ("/healthz", "/login", "/static/", "/.well-known/")


def body_limit(path: str) -> int:
    return MAX_LOGIN_BYTES if path == "/login" else MAX_BODY_BYTES


class CountedBody:
    """Refuses a body that grows beyond its limit without having said how long it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > body_limit(scope["path"]):
                raise HTTPException(413)
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)


def application(home: Home, token: str, limits: Limits) -> FastAPI:
    """The workspace of `home`; whoever shows `token` may do everything."""
    gate = Gate(token, home.port("workspace"))
    engine = Engine(home, limits, functools.partial(release_session, home))
    warehouse = Warehouse(home)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        engine.stop()

    app = FastAPI(title="Fitness workspace", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(CountedBody)  # first, so inside: only from there the refusal becomes an answer

    @app.middleware("http")
    async def let_in(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        if not path.startswith(OPEN_PATHS) and not gate.has_token(request):
            if path.startswith("/api/"):  # programs only: a cookie would let another page's script post here
                return refusal(401, "UNAUTHENTICATED", "Send the workspace's token as a bearer token.")
            if not gate.has_cookie(request):
                return RedirectResponse(_login_for(request), 303)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > body_limit(path):
            return too_long(path)
        return await call_next(request)

    @app.exception_handler(413)
    async def grown_too_long(request: Request, error: Exception) -> Response:
        return too_long(request.url.path)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return refusal(error.status, error.error_code, error.message)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(400, "INVALID_PARAMETER_VALUE", f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> Response:
        return refusal(404, "ENDPOINT_NOT_FOUND", f"No API found for {request.method} {request.url.path}.")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return refusal(500, "INTERNAL_ERROR", "The workspace server has an error; its log says which.")

    @app.get("/.well-known/databricks-config")
    def about_host() -> dict[str, str]:
        """What databricks-sdk asks a host before anything else."""
        return {"workspace_id": "1", "oidc_endpoint": f"{home.workspace_url}/oidc"}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:  # answers also while all threads that answer requests are busy
        if engine.is_stuck:
            raise ApiError(503, "TEMPORARILY_UNAVAILABLE", "The engine does not run, or hangs.")
        return {"status": "ok"}

    app.include_router(jobs_api.routes(engine, home.workspace_url))
    app.include_router(platform_api.routes(engine))
    app.include_router(sql_api.routes(sql_api.Statements(warehouse)))
    app.include_router(pages.routes(engine, gate, Dashboard(home, warehouse)))
    app.mount("/static", StaticFiles(directory=pages.FOLDER / "static"))
    return app


def _login_for(request: Request) -> str:
    """Where to sign in and come back from; a token in the address signs in on the way, and is not in the way back."""
    query = dict(request.query_params)
    token = {"token": query.pop("token")} if "token" in query else {}
    back = request.url.path + (f"?{urlencode(query)}" if query else "")
    return f"/login?{urlencode({'next': back, **token})}"


def too_long(path: str) -> Response:
    return refusal(413, "REQUEST_LIMIT_EXCEEDED", f"A request to {path} may have {body_limit(path)} bytes.")


def refusal(status: int, error_code: str, message: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error_code": error_code, "message": message}, status, headers)
