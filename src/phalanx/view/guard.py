"""Who may ask: only the page itself. Pages of other origins, and names that lead here, are refused."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
READING = ("GET", "HEAD")


class Guard:
    """ASGI middleware: refuses another Host (DNS rebinding), another Origin, and adds the headers of security.

    Args:
        port: that the page is served on.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], *, port: int):
        self.app = app
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        if port == 80:
            self.hosts |= {"127.0.0.1", "localhost"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        if (why := self.refusal(scope)) is not None:
            status, text = why
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *_raw(HEADERS)]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = {"cache-control": "no-store", **HEADERS}
                message["headers"] = [*message["headers"], *(h for h in _raw(added) if h[0] not in there)]
            await send(message)

        await self.app(scope, receive, guarded)

    def refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and text of a refused request; None of one that may pass."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host, origin = given.get("host", []), given.get("origin", [])
        if len(host) != 1 or host[0] not in self.hosts:
            return 421, "this page is only served under 127.0.0.1 and localhost\n"
        own = f"http://{host[0]}"
        if any(one != own for one in origin):
            return 403, "asked by a page of another origin\n"
        if scope["method"] not in READING and origin != [own]:
            return 403, "a change must name the page's own origin\n"
        if given.get("sec-fetch-site", ["none"])[0] not in ("none", "same-origin") and given.get("sec-fetch-mode") != [
            "navigate"
        ]:
            return 403, "asked by a page of another site\n"
        return None


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
