"""Damages files at random and reads them: each must be read, or refused by one line that names it.

A format is a list of good files and the reader that the commands use. Case ``number`` of ``seed`` is always the same
file, so that a finding is repeated by its number. A finding is any exception that is not the product's own, a message
without the file's name, a case that takes more than ``SLOW`` seconds or ends the process, and, for
formats with a digest, an altered file that is accepted with another content.
"""

import faulthandler
import json
import mmap
import multiprocessing
import os
import random
import resource
import shutil
import struct
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError

SLOW = 10.0  # seconds that a case may take
MEMORY = 6 << 30  # bytes of address space above those at the start
NUMBERS = [
    "-1", "0", "1", "2", "7", "127", "255", "256", "32767", "65535", "65536", "2147483647", "2147483648", "4294967295",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e308", "1e999", "-1e999", "1e-320", "0.1",
    "NaN", "Infinity", "-Infinity", "1" * 40, "9" * 5000, "0x7f", "0b1", "1_0", "٣", "１",
]  # fmt: skip
WORDS = [
    "null", "true", "false", '""', '"a"', "[]", "{}", "[[[]]]", '{"a":1}', '"\\ud800"', '"\\u0000"', "'", '"', "\\",
    "\n", "\r", "\r\n", "\t", ",", ";", ":", "#", "=", "\0", "\ufeff", "é", "환자", "\u1112\u1161\u11ab", "\x1b[31m",
    "!!python/object/apply:os.system", "&a", "*a", "<<", "|", "..", "/", "../../x", "${oc.env:HOME}", "[" * 3000,
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        files: good files by name, all of which are written into the case's folder; one of ``damaged`` is altered.
        read: the reader of the commands: gets the folder, returns the content. Several commands may read one after
            another.
        damaged: names of the files that are altered; by default all.
        sealed: whether a digest protects the content, so that what is accepted must equal what the good files contain.
        text: whether to alter words and numbers too, and not only bytes.
        names: whether every refusal must contain the name of an altered file.
    """

    name: str
    files: Mapping[str, bytes]
    read: Callable[[Path], Any]
    damaged: Sequence[str] = ()
    sealed: bool = False
    text: bool = False
    names: bool = True
    same: Callable[[Any, Any], bool] = field(default=lambda one, other: bool(one == other))


@dataclass
class Report:
    """Numbers of one format. ``findings``: case number and what happened, the first of each kind."""

    name: str
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)


def damage(content: bytes, rng: random.Random, *, text: bool) -> bytes:
    """The content with one to four alterations."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        kind = rng.randrange(10 if text else 7)
        place = rng.randrange(len(data) + 1)
        length = min(len(data) - place, rng.choice((1, 2, 4, 8, 64, 1024)))
        if kind == 0 and data:  # a bit
            data[place - 1] ^= 1 << rng.randrange(8)
        elif kind == 1:  # other bytes
            data[place : place + length] = rng.randbytes(length)
        elif kind == 2:  # cut off, at the end or the beginning
            data = data[:place] if rng.randrange(4) else data[place:]
        elif kind == 3:  # left out
            del data[place : place + length]
        elif kind == 4:  # doubled, once or often
            data[place:place] = data[place : place + length] * rng.choice((1, 1, 2, 300))
        elif kind == 5:  # from elsewhere in the file
            other = rng.randrange(len(data) + 1)
            data[place : place + length] = data[other : other + length]
        elif kind == 6 and len(data) >= 8:  # a number of the header, in either byte order
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2, 127, 128, 255, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1))
            place = rng.randrange(min(len(data), 512) if rng.randrange(2) else len(data))
            data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
        elif kind == 7:  # a word more
            data[place:place] = rng.choice(WORDS + NUMBERS).encode("utf-8", "surrogatepass")
        elif kind >= 8 and data:  # another value in place of one
            _replace_token(data, rng)
    return bytes(data)


def _replace_token(data: bytearray, rng: random.Random) -> None:
    marks = b' ,:;[]{}()"\n\r\t=|'
    begin = rng.randrange(len(data))
    while begin > 0 and data[begin - 1] not in marks:
        begin -= 1
    end = begin
    while end < len(data) and data[end] not in marks:
        end += 1
    data[begin:end] = rng.choice(WORDS + NUMBERS).encode("utf-8", "surrogatepass")


def case(form: Format, seed: int, number: int, folder: Path) -> tuple[list[str], bool]:
    """Writes a case into an empty folder; returns the names of the altered files and whether any differs."""
    rng = random.Random(f"{form.name} {seed} {number}")
    names = list(form.damaged or form.files)
    altered = [rng.choice(names)] if rng.randrange(8) else rng.sample(names, min(2, len(names)))
    differs = False
    for name, content in form.files.items():
        found = damage(content, rng, text=form.text) if name in altered else content
        differs |= found != content
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found)
    return altered, differs


def run_case(form: Format, seed: int, number: int, folder: Path, good: Any = None) -> tuple[str, str]:
    """Reads a case: ("accepted" or "refused" or "finding", what happened)."""
    altered, differs = case(form, seed, number, folder)
    began = time.monotonic()
    try:
        found = form.read(folder)
    except PhalanxError as error:
        kind, text = "refused", str(error)
        if form.names and not any(Path(name).name in text or str(folder) in text for name in altered):
            return "finding", f"a message without the file's name: {text[:300]!r}"
    except BaseException:
        lines = traceback.format_exc().strip().splitlines()
        return "finding", " | ".join(line.strip() for line in lines[-9:])[-900:]
    else:
        kind, text = "accepted", ""
        if form.sealed and differs and not form.same(found, good):
            return "finding", "an altered file was accepted with another content"
    took = time.monotonic() - began
    if took > SLOW:
        return "finding", f"took {took:.0f} s"
    return kind, text


def _where(text: str) -> str:
    """What makes two findings one: the last place in a traceback, without its numbers."""
    return "".join(letter for letter in text[-300:] if not letter.isdigit())


def fuzz(form: Format, place: Path, *, seconds: float, seed: int = 0, first: int = 0) -> Report:
    """Runs cases for some seconds of a core, each in a folder made for it; those of findings stay in ``place``.

    The cases run in a process of their own, so that one that ends its process, or hangs, is a finding too.
    """
    report, number = Report(form.name), first
    kinds: set[str] = set()
    while seconds > 0 and len(report.findings) < 20:
        number, used = _in_child(form, place, report, kinds, seed, number, seconds)
        seconds -= used
    return report


def _in_child(
    form: Format, place: Path, report: Report, kinds: set[str], seed: int, first: int, seconds: float
) -> tuple[int, float]:
    """Runs cases in a fork until the time is over or the fork ends; the number of the next case and the time used."""
    shared = mmap.mmap(-1, 16)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    shared.write(struct.pack("qd", first, time.monotonic()))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            receiver.close()
            _cases(form, place, seed, first, seconds, shared, sender)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    sender.close()
    why = ""
    while True:
        try:
            if receiver.poll(1.0):
                key, value, seconds = receiver.recv()
                _note(report, kinds, key, value, seconds)
                continue
        except EOFError:
            break
        number, began = struct.unpack("qd", shared[:16])
        if time.monotonic() - began > 3 * SLOW:
            why = f"hangs for more than {3 * SLOW:.0f} s"
            os.kill(child, 9)
            break
    _, status, usage = os.wait4(child, 0)
    used = 3 * SLOW if why else usage.ru_utime + usage.ru_stime
    number, _ = struct.unpack("qd", shared[:16])
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        _note(report, kinds, "finding", f"{number}: {why or f'the process ended with {code}'}", 0.0)
        return number + 1, used
    return number, used


def _note(report: Report, kinds: set[str], key: str, value: Any, seconds: float) -> None:
    report.slowest = max(report.slowest, seconds)
    if key == "finding":
        report.cases += 1
        if _where(value) not in kinds:
            kinds.add(_where(value))
            report.findings.append(value)
    else:
        report.cases += sum(value)
        report.accepted += value[0]
        report.refused += value[1]


def _cases(form: Format, place: Path, seed: int, first: int, seconds: float, shared: Any, sender: Any) -> None:
    with (place / f"{form.name.replace(' ', '_')}.crash").open("w") as crash:
        faulthandler.enable(crash)
        _limit_memory()
        os.environ["TMPDIR"] = str(place)
        good_place = place / f"{form.name.replace(' ', '_')}.good"
        shutil.rmtree(good_place, ignore_errors=True)
        for name, content in form.files.items():
            path = good_place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        good = form.read(good_place)
        counts, slowest, sent = [0, 0], 0.0, time.monotonic()
        number, start = first, time.process_time()  # what the first reading imports does not count
        while time.process_time() - start < seconds:
            folder = place / f"{form.name.replace(' ', '_')}.{seed}.{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            began = time.monotonic()
            shared[:16] = struct.pack("qd", number, began)
            kind, text = run_case(form, seed, number, folder, good)
            slowest = max(slowest, time.monotonic() - began)
            number += 1
            if kind == "finding":
                sender.send(("finding", f"{number - 1}: {text}", 0.0))
            else:
                counts[kind == "refused"] += 1
                shutil.rmtree(folder, ignore_errors=True)
            if time.monotonic() - sent > 0.5:
                sender.send(("counts", counts, slowest))
                counts, sent = [0, 0], time.monotonic()
        sender.send(("counts", counts, slowest))
        shared[:16] = struct.pack("qd", number, time.monotonic())


def _limit_memory() -> None:
    """Memory that a damaged header asks for must be refused by the reader; here the system would, with an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))


def seconds_of_a_test(slow: bool) -> float:
    """Seconds of a core for which a format is tried: ``FUZZ_SECONDS``, else 0.3 by default and 180 under ``slow``."""
    return float(os.environ.get("FUZZ_SECONDS", 180.0 if slow else 0.3))


def summary(reports: Sequence[Report]) -> str:
    """Reports as JSON lines, then their sum."""
    lines = [json.dumps(vars(report), ensure_ascii=False) for report in reports]
    total = sum(report.cases for report in reports)
    return "\n".join([*lines, f"{total} cases, {sum(len(r.findings) for r in reports)} kinds of findings"])
