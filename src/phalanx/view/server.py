"""Serves the page on this machine alone."""

import logging
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from ..config import Config
from ..errors import ConfigError
from ..review.evaluate_options import EvaluateOptions
from ..review.evaluated import Evaluated
from ..review.scene_source import PredictOptions, SceneSource
from ..runtime.stopping import SIGNALS
from .app import Page, make_app
from .attempt import Attempts
from .decisions import Decisions
from .library import Library
from .options import PORT, ViewOptions
from .pictures import Pictures
from .suspects import read_suspects

ADDRESS = "127.0.0.1"
PATIENCE = 1  # seconds for answers that are on their way when the page is ended


class _Server(uvicorn.Server):
    """As uvicorn's, but Ctrl-C is how it is meant to end, and not an error."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Within, signals end the server."""
        import signal

        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends, without complaints about answers that nobody waits for any more."""
        logging.getLogger("uvicorn.error").disabled = True
        await super().shutdown(sockets)


def make_page(
    names: Sequence[str], config: Config, scenes: SceneSource,
    evaluate: Callable[[str, EvaluateOptions], Evaluated], options: ViewOptions, folder: Path,
) -> Page:  # fmt: skip
    """The page of runs and CSVs, before any of them is evaluated.

    Args:
        config: a recipe with the data set, whose root is known.
        evaluate: as ``TaskCommands.evaluate``.
        folder: for temporary files.

    Raises:
        ConfigError, DataError, OutputError: a file or folder that cannot be used.
    """
    decisions = Decisions(options.decisions_file)
    doubts = read_suspects(options.suspects, scenes.classes) if options.suspects is not None else None
    library = Library(names, config, scenes, evaluate, options)
    pictures = Pictures(colour=bool(getattr(config.data, "colour", False)))
    predicting = PredictOptions(config.data.root, options.runs, options.device)
    attempts = Attempts(scenes, pictures, predicting, folder)
    return Page(library, pictures, decisions, attempts, doubts, options.quarantine)


def serve(
    names: Sequence[str], config: Config, scenes: SceneSource,
    evaluate: Callable[[str, EvaluateOptions], Evaluated], options: ViewOptions,
) -> None:  # fmt: skip
    """Serves until Ctrl-C, which ends this process. Arguments and errors as :func:`make_page`."""
    with _bound(options.port) as listening, tempfile.TemporaryDirectory() as folder:
        page = make_page(names, config, scenes, evaluate, options, Path(folder))
        port = int(listening.getsockname()[1])
        url = f"http://{ADDRESS}:{port}/"
        server = _Server(
            uvicorn.Config(
                make_app(page, port), log_level="error", access_log=False, lifespan="off", ws="none",
                server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=PATIENCE,
            )
        )  # fmt: skip
        threading.Thread(target=page.load, name="evaluations", daemon=True).start()
        print(f"{url}  {len(page.library.pictures)} images; Ctrl-C ends it", flush=True)
        if options.open:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        server.run(sockets=[listening])
    print("ended", flush=True)
    sys.stderr.flush()
    os._exit(0)  # not after a prediction or an evaluation that is still at work, and may be in the middle of C++


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """A socket on the loopback interface. Raises ConfigError if the port is not free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
        except OSError as error:
            raise ConfigError(
                f"port={port}: {error.strerror}; is another phalanx view running (port {PORT} by default)? Give "
                "another, or port=0 for any that is free"
            ) from None
        listening.listen(64)  # before the address is printed
        yield listening
    finally:
        listening.close()
