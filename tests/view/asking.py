"""Requests to an ASGI application within this process, byte for byte as given."""

import asyncio
from typing import NamedTuple

PORT = 8765
HOST = f"127.0.0.1:{PORT}"
OWN = f"http://{HOST}"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def raw(text):
    return text.encode("latin-1", "replace")


async def asked(app, method, path, headers, body):
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path.partition("?")[0], "raw_path": path.encode("utf-8", "replace"),
        "query_string": path.partition("?")[2].encode("utf-8", "replace"), "root_path": "",
        "headers": [(raw(name.lower()), raw(value)) for name, value in headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
    }  # fmt: skip
    sent, given = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return given.pop() if given else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    head = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], head, b"".join(one.get("body", b"") for one in sent[1:]))


def ask(app, path, method="GET", headers=(), body=b"", host=HOST):
    """The answer to one request; a POST names the page's origin unless another is given."""
    own = [("host", host)] if host is not None else []
    given = [*own, *headers]
    if method == "POST" and not any(name.lower() == "origin" for name, _ in headers):
        given.append(("origin", OWN))
    return asyncio.run(asked(app, method, path, given, body))
