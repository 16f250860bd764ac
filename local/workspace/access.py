"""Who may come in: a bearer token for programs; for people a cookie that stands for having known that token.

The cookie holds a random part and its signature, never the token. A form carries a second signature of the same random
part, so a page of another origin, which can make the browser send the cookie but cannot read it, cannot post one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True)
class Gate:
    """Checks tokens, cookies and forms of one server; comparisons take constant time."""

    token: str
    port: int

    @property
    def cookie_name(self) -> str:
        """A browser sends cookies to every port of a host, so two stacks need two names."""
        return f"fitness_workspace_{self.port}"

    def knows_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self.token.encode(), f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    def new_cookie(self) -> str:
        part = secrets.token_urlsafe(24)
        return f"{part}.{self._sign('cookie', part)}"

    def _part(self, request: Request) -> str | None:
        part, _, signature = request.cookies.get(self.cookie_name, "").rpartition(".")
        good = part and hmac.compare_digest(signature.encode(), self._sign("cookie", part).encode())
        return part if good else None

    def has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.knows_token(given.strip())

    def has_cookie(self, request: Request) -> bool:
        return self._part(request) is not None

    def form_token(self, request: Request) -> str:
        """What a form on a page for this request must carry."""
        return self._sign("form", self._part(request) or "")

    def may_post_form(self, request: Request, given: str) -> bool:
        part = self._part(request)
        return part is not None and hmac.compare_digest(given.encode(), self._sign("form", part).encode())
