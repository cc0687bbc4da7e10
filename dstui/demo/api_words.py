"""The shapes of the made-up API: errors, cards and chunks as vLLM writes them, its documentation page and schema."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL
from dstui.demo.web import Response

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
NOT_FOUND = Response(b'{"detail":"Not Found"}', JSON, 404)
UNAUTHORIZED = Response(b'{"error":"Unauthorized"}', JSON, 401, {"WWW-Authenticate": "Bearer"})
PATHS: Mapping[str, tuple[str, ...]] = {
    "/health": ("GET",),
    "/version": ("GET",),
    "/load": ("GET",),
    "/metrics": ("GET",),
    "/docs": ("GET",),
    "/openapi.json": ("GET",),
    "/v1/models": ("GET",),
    "/v1/chat/completions": ("POST",),
    "/v1/completions": ("POST",),
    "/tokenize": ("POST",),
    "/detokenize": ("POST",),
}
"""Everything that is answered, and by which methods."""
_WITHOUT_SCHEMA = frozenset({"/docs", "/openapi.json"})


def told(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), JSON, status)


def wrong_method(path: str) -> Response:
    return Response(b'{"detail":"Method Not Allowed"}', JSON, 405, {"Allow": ", ".join(PATHS[path])})


def refused(message: str, param: str | None = None, status: int = 400, kind: str = "BadRequestError") -> Response:
    """An error of vLLM's own."""
    return told({"error": {"message": message, "type": kind, "param": param, "code": status}}, status)


def too_large() -> Response:
    """A body over the limit."""
    return refused("The request body is larger than 10 MiB.", None, 413, "RequestEntityTooLarge")


def invalid(kind: str, place: str, message: str, given: object = None) -> Response:
    """A body that is not of the shape that is asked for."""
    detail = {"type": kind, "loc": place, "msg": message, "input": f"<{type(given).__name__}>"}
    return refused(f"1 validation error:\n  {detail}", place, kind="Bad Request")


def models(created: float) -> Response:
    permission = {
        "id": "modelperm-simulated", "object": "model_permission", "created": int(created),
        "allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False,
        "allow_view": True, "allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False,
    }  # fmt: skip
    card = {"id": MODEL, "object": "model", "created": int(created), "owned_by": "vllm", "root": MODEL, "parent": None,
            "max_model_len": MAX_MODEL_LEN, "permission": [permission]}  # fmt: skip
    return told({"object": "list", "data": [card]})


def event(value: object) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def docs(assets: str) -> Response:
    """The page of Swagger UI, whose scripts are at `assets`, an address."""
    page = f"""
    <!DOCTYPE html>
    <html>
    <head>
    <meta name="viewport" content="width=device-width, initial-scale=1.0">
    <link type="text/css" rel="stylesheet" href="{assets}/npm/swagger-ui-dist@5/swagger-ui.css">
    <title>vLLM (simulated) - Swagger UI</title>
    </head>
    <body>
    <div id="swagger-ui">
    </div>
    <script src="{assets}/npm/swagger-ui-dist@5/swagger-ui-bundle.js"></script>
    <script>
    const ui = SwaggerUIBundle({{
        url: '/openapi.json',
    "dom_id": "#swagger-ui",
    "layout": "BaseLayout",
    }})
    </script>
    </body>
    </html>
    """
    return Response(page.encode(), "text/html; charset=utf-8")


def schema(version: str) -> Response:
    paths = {
        path: {method.lower(): {"summary": path, "responses": {"200": {"description": "Successful Response"}}}
               for method in methods}
        for path, methods in PATHS.items() if path not in _WITHOUT_SCHEMA
    }  # fmt: skip
    return told({"openapi": "3.1.0", "info": {"title": "vLLM (simulated)", "version": version}, "paths": paths})
