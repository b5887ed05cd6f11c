"""FastAPI, imported here alone, or an error that names the extra."""

from __future__ import annotations

from imdiffusion.errors import MissingExtraError

try:
    from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response, StreamingResponse
except ImportError as error:
    raise MissingExtraError("fastapi", extra="serve") from error

__all__ = [
    "APIRouter",
    "Depends",
    "FastAPI",
    "HTTPException",
    "JSONResponse",
    "Path",
    "Query",
    "Request",
    "RequestValidationError",
    "Response",
    "StreamingResponse",
]
