"""What a request says, its query and its JSON body, read in one place; what could not be kept or shown is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Request

from local.workspace.errors import ApiError, invalid

MAX_DEPTH = 50
HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON can spell half a surrogate pair; UTF-8 cannot


def levels(document: Any) -> Iterator[list[Any]]:
    """The values of a JSON document, level by level; the keys of an object are on the level below it."""
    level = [document]
    while level:
        yield level
        inner: list[Any] = []
        for one in level:
            if isinstance(one, list):
                inner += one
            elif isinstance(one, dict):
                inner += [*one, *one.values()]
        level = inner


def complaint(document: Any) -> str | None:
    """What is wrong with a JSON document, as a sentence; None when nothing is."""
    for depth, level in enumerate(levels(document)):
        if depth > MAX_DEPTH:
            return f"The body is nested more than {MAX_DEPTH} levels deep."
        for one in level:
            if isinstance(one, str) and HALF_CHARACTER.search(one):
                return f"The text {one[:100]!r} holds half a surrogate pair, which is no character."
            if isinstance(one, float) and not math.isfinite(one):
                return f"The number {one} is not finite."
    return None


async def arguments(request: Request) -> dict[str, Any]:
    """Query string and JSON body together; a GET may bring either. Refuses with 400 what `complaint` complains of."""
    given: dict[str, Any] = dict(request.query_params)
    if text := await request.body():
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise ApiError(400, "MALFORMED_REQUEST", "The body is not valid JSON, or nested too deep.") from None
        if not isinstance(body, dict):
            raise ApiError(400, "MALFORMED_REQUEST", "The body must be a JSON object.")
        if wrong := complaint(body):
            raise ApiError(400, "MALFORMED_REQUEST", wrong)
        given |= body
    return given


Arguments = Annotated[dict[str, Any], Depends(arguments)]


def without_nul(given: Arguments) -> None:
    """Refuses with 400 what cannot be an argument or a variable of a process."""
    for level in levels(given):
        for one in level:
            if isinstance(one, str) and "\0" in one:
                raise invalid(f"The text {one[:100]!r} holds a NUL character.")
