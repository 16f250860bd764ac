"""Errors in the shape that Databricks documents: an HTTP status, an `error_code` and a sentence."""

from __future__ import annotations

from pydantic import ValidationError


class ApiError(Exception):
    """Refuses a request; becomes `{"error_code": ..., "message": ...}` with `status`."""

    def __init__(self, status: int, error_code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message


def invalid(message: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def invalid_state(message: str) -> ApiError:
    return ApiError(400, "INVALID_STATE", message)


def unknown(what: str) -> ApiError:
    """`what` names the thing, e.g. `Run 12`."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"{what} does not exist.")


def from_validation(error: ValidationError) -> ApiError:
    """The first complaint of a model, as one sentence that names the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "request"
    message = str(first["msg"]).removeprefix("Value error, ")
    return invalid(f"{field}: {message}")
