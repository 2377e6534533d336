"""Long work of the page on a thread that does not keep the process from ending."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Does one piece of work after the other."""

    def __init__(self, name: str):
        self._pending: queue.SimpleQueue[tuple[Future, Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> Future:
        """The future result of a call."""
        future: Future = Future()
        self._pending.put((future, call))
        return future

    def _run(self) -> None:
        while True:
            future, call = self._pending.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whoever waits for it gets it
                future.set_exception(error)
