"""What the page asks, and its answers. Files are named by ids that this session gave; no path comes from the page."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import PhalanxError
from ..runtime.reading import parse_json
from .attempt import Attempts
from .decisions import VERDICTS, Decisions, write_accepted
from .guard import Guard
from .library import Library, Source
from .pictures import SIDES, Pictures
from .suspects import Doubt, doubts_json, worst_images
from .wire import PREDICTED, TRUTH, heat_bytes, scene_bytes
from .worker import Worker

MAX_UPLOAD = 64 << 20  # bytes of a dropped image
MAX_JSON = 1 << 16  # bytes of a decision
OPENING = 5  # seconds in which a page is usually opened
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
BINARY = "application/octet-stream"
LASTING = {"cache-control": "private, max-age=3600"}  # of what does not change while the page is served


class Refused(Exception):
    """A request that has no answer: status and text."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class Page:
    """The handlers of one session.

    Args:
        doubts: annotations in doubt; None: the worst images of the first run, once there are any.
        folder: for temporary files.
    """

    def __init__(
        self, library: Library, pictures: Pictures, decisions: Decisions, attempts: Attempts,
        doubts: list[Doubt] | None, quarantine: Path,
    ):  # fmt: skip
        self.library, self.pictures, self.decisions, self.attempts = library, pictures, decisions, attempts
        self.given, self.quarantine = doubts, quarantine
        self.statics = {one.name: one.read_bytes() for one in (files(__package__) / "static").iterdir()}
        self.worker = Worker("predictions")
        self.seen = Event()  # the page has its list of images

    @property
    def doubts(self) -> list[Doubt]:
        """Annotations to review."""
        return worst_images(self.library) if self.given is None else self.given

    async def index(self, request: Request) -> Response:
        """The page."""
        return self._static("index.html")

    async def static(self, request: Request) -> Response:
        """A file of the page."""
        return self._static(request.path_params["name"])

    def _static(self, name: str) -> Response:
        if name not in self.statics:
            raise Refused(404, "no such file of the page")
        return Response(self.statics[name], media_type=TYPES[Path(name).suffix], headers={"cache-control": "no-cache"})

    async def session(self, request: Request) -> Response:
        """Classes, images, sources."""
        answer = _json({**self.library.session(), "suspects": self.given is not None, "max_upload": MAX_UPLOAD})
        self.seen.set()
        return answer

    def load(self) -> None:
        """Evaluates the sources, once the page is there or nobody opens it: a thread at work delays every answer."""
        self.seen.wait(OPENING)
        self.library.load()

    async def state(self, request: Request) -> Response:
        """How far the sources are."""
        return _json(self.library.states())

    async def numbers(self, request: Request) -> Response:
        """Figures of a source."""
        return _json(self._ready(request).numbers)

    async def image(self, request: Request) -> Response:
        """An image as JPEG."""
        picture, side = self._picture(request), request.path_params["side"]
        if side not in SIDES:
            raise Refused(404, "no such size")
        made = await run_in_threadpool(self.pictures.jpeg, picture.record.image, side)
        return Response(made, media_type="image/jpeg", headers=LASTING)

    async def truth(self, request: Request) -> Response:
        """The annotation of an image."""
        picture = self._picture(request)
        if picture.record.labels is None:
            raise Refused(404, "this image has no annotation")
        made = await run_in_threadpool(lambda: scene_bytes(self.library.scenes.truth(picture.record), (TRUTH,)))
        return Response(made, media_type=BINARY, headers=LASTING)

    async def scene(self, request: Request) -> Response:
        """What a source predicted of an image, with the ground truth if it is known."""
        picture, source = self._picture(request), self._ready(request)
        if not source.has(picture.record.name):
            raise Refused(404, "it did not predict this image")

        def made() -> bytes:
            scene, known = source.scene(picture)
            return scene_bytes(scene, (TRUTH, PREDICTED) if known else (PREDICTED,))

        return Response(await run_in_threadpool(made), media_type=BINARY, headers=LASTING)

    async def heat(self, request: Request) -> Response:
        """Grad-CAM of a class."""
        picture, source, c = self._picture(request), self._ready(request), request.path_params["number"]
        if not source.has(picture.record.name):
            raise Refused(404, "it did not predict this image")
        found = await asyncio.wrap_future(self.worker.submit(lambda: self.library.heat(source, picture, c)))
        if found is None:
            raise Refused(404, "there is no heat map of it")
        return Response(heat_bytes(found), media_type=BINARY, headers=LASTING)

    async def review(self, request: Request) -> Response:
        """Annotations in doubt, with the decisions about them."""
        return _json({
            "doubts": doubts_json(self.doubts, self.library.of_name),
            "verdicts": {key: values["verdict"] for key, values in self.decisions.verdicts.items()},
            "file": self.decisions.path.name, "quarantine": self.quarantine.name,
        })  # fmt: skip

    async def decide(self, request: Request) -> Response:
        """Records a decision."""
        try:
            values = parse_json((await _body(request, MAX_JSON)).decode())
            suspect, verdict = str(values["suspect"]), values["verdict"]
        except (ValueError, TypeError, KeyError):
            raise Refused(400, "not a decision") from None
        one = next((one for one in self.doubts if one.id == suspect), None)
        if one is None or verdict not in VERDICTS:
            raise Refused(400, "no such annotation or decision")
        await run_in_threadpool(self.decisions.decide, one.id, one.image, verdict, one.reason)
        return _json({"saved": True})

    async def write_quarantine(self, request: Request) -> Response:
        """Writes the accepted images into the quarantine."""
        count = await run_in_threadpool(write_accepted, self.quarantine, self.decisions, self.library.trained)
        return _json({"count": count, "file": str(self.quarantine)})

    async def attempt(self, request: Request) -> Response:
        """Predicts a dropped image."""
        source = self.library.sources.get(request.path_params["source"])
        if source is None or source.kind != "run":
            raise Refused(404, "no such run")
        name = unquote(request.headers.get("x-file-name", ""), errors="replace")
        content = await _body(request, MAX_UPLOAD)
        own, made = await asyncio.wrap_future(
            self.worker.submit(lambda: self.attempts.predict(source.name, name, content))
        )
        return _json({"id": own, "name": made.name, **made.about})

    async def attempted(self, request: Request) -> Response:
        """A part of a predicted image: scene, picture or csv."""
        made = self.attempts.made.get(request.path_params["attempt"])
        part = request.path_params["part"]
        if made is None or part not in ("scene", "picture", "csv"):
            raise Refused(404, "no such attempt; drop the image again")
        if part == "csv":
            attached = {"content-disposition": 'attachment; filename="prediction.csv"'}
            return Response(made.csv, media_type="text/csv", headers=attached)
        if part == "picture":
            return Response(made.picture, media_type="image/jpeg", headers=LASTING)
        return Response(made.scene, media_type=BINARY, headers=LASTING)

    def _picture(self, request: Request) -> Any:
        found = self.library.pictures.get(request.path_params["image"])
        if found is None:
            raise Refused(404, "no such image")
        return found

    def _ready(self, request: Request) -> Source:
        found = self.library.sources.get(request.path_params["source"])
        if found is None or found.state != "ready":
            raise Refused(404, "no such run or CSV, or it is not ready")
        return found


def make_app(page: Page, port: int) -> Guard:
    """The ASGI application behind its guard."""

    def get(path: str, call: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, _answering(call), methods=["GET"])

    def post(path: str, call: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, _answering(call), methods=["POST"])

    routes = [
        get("/", page.index),
        get("/static/{name}", page.static),
        get("/api/session", page.session),
        get("/api/state", page.state),
        get("/api/numbers/{source}", page.numbers),
        get("/api/review", page.review),
        get("/image/{image}/{side}", page.image),
        get("/truth/{image}", page.truth),
        get("/scene/{image}/{source}", page.scene),
        get("/heat/{image}/{source}/{number:int}", page.heat),
        get("/try/{attempt}/{part}", page.attempted),
        post("/api/decide", page.decide),
        post("/api/quarantine", page.write_quarantine),
        post("/api/try/{source}", page.attempt),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, port=port)


def _answering(call: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler with its errors as answers in one line."""

    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except Refused as error:
            return _text(error.status, str(error))
        except PhalanxError as error:
            return _text(422, str(error))
        except OSError as error:  # a disk that is full, an image that was moved
            return _text(500, f"{error.strerror or type(error).__name__}")

    return answer


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises Refused if it is longer than ``limit`` bytes."""
    too_long = Refused(413, f"more than {limit / (1 << 20):g} MiB")
    if (
        not request.headers.get("content-length", "0").isdigit()
        or int(request.headers.get("content-length", "0")) > limit
    ):
        raise too_long
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > limit:
            raise too_long
    return bytes(found)


def _json(value: Any) -> Response:
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


def _text(status: int, text: str) -> Response:
    return Response(text + "\n", status, media_type="text/plain")
