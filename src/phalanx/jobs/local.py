"""Folds side by side: a process for each device, which takes the next fold when it is free."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from ..config import Config
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..engine.loader import loader_workers
from ..engine.time_limit import is_over
from ..runs.folder import fold_folder
from ..runs.reader import FoldRun, Result
from ..runtime.device import open_device
from ..runtime.processes import Child, cause, cores

Train = Callable[[Sequence[str]], Any]


class Row(NamedTuple):
    """What became of a fold: its result, or what went wrong."""

    fold: int | None
    device: str
    seconds: float
    result: Result | None = None
    error: str = ""


class Running(NamedTuple):
    """A fold on its device, since when, and the thread that passes on what it prints."""

    child: Child
    fold: int | None
    device: str
    began: float
    echo: threading.Thread


def side_by_side(
    train: Train,
    pairs: dict[str, str],
    folds: Sequence[int | None],
    config: Config,
    deadline: float | None = None,
) -> int:
    """Trains folds on ``config.devices``, as many at once; prints what each says behind its name, and a table.

    Args:
        train: the command, called for a fold each.
        pairs: the words of the call but ``fold``.
        deadline: moment of ``time.monotonic()`` from which no fold is begun; each child stops by then.

    Returns:
        the exit code: 0, or 1 where a fold failed. The others went on to their ends.
    """
    for device in set(config.devices):
        open_device(device, config.precision)
    config.data = resolve_root(config.data)
    kept_records(config.data)  # made, or refused, once and not by each
    waiting, idle = deque(folds), deque(config.devices)
    running: dict[Any, Running] = {}
    rows: list[Row] = []
    try:
        while waiting or running:
            while waiting and idle:
                if is_over(deadline):
                    rows += [Row(fold, "-", 0, error="not begun: max_hours are over") for fold in waiting]
                    waiting.clear()
                    break
                if deadline is not None:
                    pairs = pairs | {"max_hours": str((deadline - time.monotonic()) / 3600)}
                one = start(train, pairs, waiting.popleft(), idle.popleft(), config)
                running[one.child.process.sentinel] = one
            for sentinel in wait(list(running)):
                one = running.pop(sentinel)
                rows.append(end(one, config))
                idle.append(one.device)
    finally:
        for one in running.values():
            one.child.end()
    print(table(rows), flush=True)
    return int(any(row.error for row in rows))


def start(train: Train, pairs: dict[str, str], fold: int | None, device: str, config: Config) -> Running:
    """The process of a fold. It sees its GPU alone, or has its share of the cores."""
    name, count = "all" if fold is None else f"{fold}", len(config.devices)
    environment = {}
    if device == "cpu":
        environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // count))
    else:
        number = int(device.partition(":")[2])
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = seen[number].strip() if seen[0] else str(number)
    kind = device.partition(":")[0]
    words = {key: value for key, value in pairs.items() if key not in ("devices", "device", "ddp")}
    words |= {"fold": name, "device": kind}
    words.setdefault("workers", str(loader_workers(config, torch.device(kind), count)))
    out, theirs = Pipe(duplex=False)
    child = Child(
        f"fold {name} on {device}", _call, train, [f"{key}={value}" for key, value in words.items()], theirs,
        environment=environment,
    )  # fmt: skip
    theirs.close()
    echo = threading.Thread(target=pass_on, args=(out, f"fold {name} {device} | "), daemon=True)
    echo.start()
    return Running(child, fold, device, time.monotonic(), echo)


def end(one: Running, config: Config) -> Row:
    """What became of a fold whose process has ended, after the rest of what it said."""
    row = Row(one.fold, one.device, time.monotonic() - one.began)
    one.child.process.join()
    error = cause([one.child]) if one.child.process.exitcode else None
    one.child.end()
    one.echo.join(5)
    if error is not None:
        say(f"{one.child.name}: {error}", sys.stderr)
        return row._replace(error=str(error).strip().splitlines()[-1])
    return row._replace(result=FoldRun(fold_folder(config, one.fold)).result)


def table(rows: Sequence[Row]) -> str:
    """Rows by fold, to print.

    >>> from ..runtime.metric import Metric
    >>> done = Result(Metric("auc"), 0.9712, 40, 50.0, 11.2)
    >>> print(table([Row(1, "cuda:0", 61.2, done), Row(0, "cuda:1", 3.0, error="step 3: no memory")]))
    fold  device   seconds  auc
    0     cuda:1         3  failed: step 3: no memory
    1     cuda:0        61  0.9712
    """
    name = next((row.result.metric.name for row in rows if row.result), "metric")
    lines = [f"fold  device   seconds  {name}"]
    for row in sorted(rows, key=lambda row: row.fold or 0):
        done = f"failed: {row.error}" if row.error else row.result.text if row.result else "-"
        lines.append(f"{'all' if row.fold is None else row.fold:<4}  {row.device:<7}  {row.seconds:>7.0f}  {done}")
    return "\n".join(lines)


def pass_on(out: Connection, name: str) -> None:
    """Prints the lines of a process, each behind its name, as they come; a progress bar's states are lines."""
    rest = b""
    with suppress(OSError):
        while piece := os.read(out.fileno(), 65536):
            *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                if line.strip():
                    say(name + line.decode(errors="replace").rstrip())
    if rest.strip():
        say(name + rest.decode(errors="replace"))


def say(line: str, where: Any = None) -> None:
    """A line in one piece, whichever thread prints it."""
    stream = where or sys.stdout
    stream.write(line + "\n")
    stream.flush()


def _call(train: Train, words: list[str], out: Connection) -> None:
    for stream in (1, 2):
        os.dup2(out.fileno(), stream)
    out.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    train(words)
