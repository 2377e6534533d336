"""Attempts of one run where the system's locks are dropped, as on a mount with ``nolock``, killed at random moments.

A library that is loaded before all others grants every lock of the operating system at once. In each try, two or three
attempts begin at nearly the same time, and all but the last are killed by SIGKILL at a random moment of taking, having
or releasing the folder; then the same command must have it. In the tries with an orphan, the attempt that holds the
folder lives on when a later attempt of the same job begins, and writes as fast as it can.

    python bench/locks.py [--quick] [--tries N] [--seed S] [--json FILE]
"""

import mmap
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common import flags, keep, machine

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
int flock(int file, int how) { return 0; }
int lockf(int file, int how, off_t size) { return 0; }
static int pass(const char *name, int file, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW) return 0;
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, name))(file, command, argument);
}
#define FUNCTION(name) int name(int file, int command, ...) { \\
    va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list); \\
    return pass(#name, file, command, argument); }
FUNCTION(fcntl)
FUNCTION(fcntl64)
"""
MOST = 4  # attempts of a try
UNTIL_KILLED = 1_000_000  # rounds of writing
PATIENCE = 60  # seconds for which the last attempt of a try may wait


def without_locks(home: Path) -> None:
    """Starts this program again such that locks of the system are granted and exclude nobody."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("no C compiler (cc) is installed to build the library that drops locks")
    source, library = home / "nolock.c", home / "nolock.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "LOCKS_BENCH": str(home)}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Board:
    """What the attempts of a try tell each other past all files: who is in the folder, and what was seen."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def enter(self, slot: int) -> None:
        """Marks an attempt as one that writes, and counts another one that does so at the same time."""
        self.memory[slot * 8 : slot * 8 + 8] = os.getpid().to_bytes(8, "little")
        for other in range(MOST):
            pid = int.from_bytes(self.memory[other * 8 : other * 8 + 8], "little")
            if other != slot and pid and is_alive(pid):
                self.count(0)

    def leave(self, slot: int) -> None:
        self.memory[slot * 8 : slot * 8 + 8] = bytes(8)

    def count(self, what: int) -> None:
        """0: both write; 1: the folder was had; 2: an orphan ended with its error; 3: an orphan wrote afterwards;
        4: the later attempt has the folder."""
        self.memory[64 + what] += 1

    def counted(self, what: int) -> int:
        return self.memory[64 + what]


def fork(call: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call()
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def attempt(folder: Path, board: Board, slot: int, patience: float, rounds: int) -> None:
    """Takes the folder as a training does, and writes there by all ways that training has."""
    from phalanx.errors import TrainingError
    from phalanx.runs.folder import locked
    from phalanx.runtime.files import append_bytes, write_text

    limit = time.monotonic() + patience
    while True:
        try:
            with locked(folder):
                board.enter(slot)
                board.count(1)
                write_text(folder / "config.yaml", "name: x\n")
                for number in range(rounds):
                    write_text(folder / "start.json", f"{slot} {number}")
                    append_bytes(folder / "log.jsonl", f"{slot} {number}\n".encode())
                board.leave(slot)
            return
        except TrainingError:  # another one holds it
            if time.monotonic() > limit:
                raise
            time.sleep(0.002)


def try_once(home: Path, rng: random.Random) -> tuple[int, int, int]:
    """Kills, times that two wrote, and 1 if the last attempt could not have the folder."""
    folder, board = home / "fold0", Board()
    first, kills = [], 0
    for slot in range(rng.choice((2, 2, 3)) - 1):
        # every other one writes until it is killed, on a machine of any speed; the others may be killed releasing
        rounds = rng.choice((3, UNTIL_KILLED))
        first.append(fork(lambda slot=slot, rounds=rounds: attempt(folder, board, slot, 10, rounds)))
    moments = sorted((rng.uniform(0, 0.12), pid) for pid in first)
    last = 0
    began, at = time.monotonic(), rng.uniform(0, 0.06)
    while moments or not last:
        if not last and time.monotonic() - began >= at:
            last = fork(lambda: attempt(folder, board, MOST - 1, PATIENCE, 3))
        if moments and time.monotonic() - began >= moments[0][0]:
            pid = moments.pop(0)[1]
            kills += is_alive(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.0005)
    for pid in first:
        os.waitpid(pid, 0)
    lost = os.waitstatus_to_exitcode(os.waitpid(last, 0)[1]) != 0
    # the same command, once nobody is left: it may not have to wait, and clears what the killed ones left
    again = fork(lambda: attempt(folder, board, MOST - 1, 0, 1))
    lost |= os.waitstatus_to_exitcode(os.waitpid(again, 0)[1]) != 0
    left = [name for name in os.listdir(folder) if name.endswith(".part")]
    shutil.rmtree(folder)
    return kills, board.counted(0), int(lost or bool(left))


def orphan(folder: Path, board: Board) -> None:
    """Holds the folder as the first attempt of a job and writes until that fails."""
    from phalanx.runs.folder import locked
    from phalanx.runtime.fence import Superseded
    from phalanx.runtime.files import append_bytes, write_text

    os.environ |= {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "c"}
    number = 0
    with suppress(Superseded), locked(folder):
        write_text(folder / "config.yaml", "name: x\n")
        while True:
            number += 1
            try:
                write_text(folder / "start.json", f"orphan {number}")
                append_bytes(folder / "log.jsonl", f"orphan {number}\n".encode())
            except Superseded:
                board.count(2)
                raise


def successor(folder: Path, board: Board, rng: random.Random) -> None:
    """Takes the folder over as the second attempt, as training does, and looks for what the first one writes then."""
    from phalanx.runs.folder import locked
    from phalanx.runtime.files import write_text

    os.environ |= {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", "SLURM_CLUSTER_NAME": "c"}
    with locked(folder):
        board.count(4)
        # as the logger does, which drops lines of undone work
        log = (folder / "log.jsonl").read_text() if (folder / "log.jsonl").is_file() else ""
        write_text(folder / "log.jsonl", log)
        write_text(folder / "start.json", "mine")
        limit = time.monotonic() + rng.uniform(0.01, 0.05)
        while time.monotonic() < limit:
            if (folder / "start.json").read_text() != "mine" or (folder / "log.jsonl").read_text() != log:
                board.count(3)
                return


def orphan_once(home: Path, rng: random.Random) -> tuple[int, int, int]:
    """1 if the later attempt had the folder, 1 if the orphan ended with its error, and times that it wrote later."""
    folder, board = home / "fold0", Board()
    old = fork(lambda: orphan(folder, board))
    while not (folder / "log.jsonl").is_file():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.02))
    os.waitpid(fork(lambda: successor(folder, board, rng)), 0)
    limit = time.monotonic() + PATIENCE
    while is_alive(old) and time.monotonic() < limit:
        time.sleep(0.001)
    with suppress(ProcessLookupError):
        os.kill(old, signal.SIGKILL)
    os.waitpid(old, 0)
    shutil.rmtree(folder)
    return board.counted(4), board.counted(2), board.counted(3)


def main() -> None:
    parser = flags(__doc__, quick="thirty tries, and ten with an orphan")
    parser.add_argument("--tries", type=int, default=1000, help="and one fifth as many with an orphan")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; default: another each time, printed")
    args = parser.parse_args()
    tries = 30 if args.quick else args.tries
    if "LOCKS_BENCH" not in os.environ:
        memory = Path("/dev/shm")  # where a write takes no time, there are more moments at which two may meet
        without_locks(Path(tempfile.mkdtemp(prefix="locks-", dir=memory if os.access(memory, os.W_OK) else None)))
    home = Path(os.environ.pop("LOCKS_BENCH"))
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    rng = random.Random(seed)

    from phalanx.runs import folder  # noqa: F401 - so that no fork imports it
    from phalanx.runtime.mounts import excludes

    if excludes(home / "lock"):
        raise SystemExit("locks are not dropped here")
    began = time.monotonic()
    kills = both = lost = 0
    for number in range(tries):
        found = try_once(home / str(number), rng)
        kills, both, lost = kills + found[0], both + found[1], lost + found[2]
    orphans = max(10, tries // 5)
    taken = ended = late = 0
    for number in range(orphans):
        found = orphan_once(home / f"orphan{number}", rng)
        taken, ended, late = taken + found[0], ended + found[1], late + found[2]
    shutil.rmtree(home)
    print(
        f"{tries} tries, {kills} kills: {both} times two wrote, {lost} runs lost; {orphans} orphans: {taken} taken "
        f"over, {ended} ended by their number, {late} wrote later; "
        f"{time.monotonic() - began:.0f} s; seed {seed}\n{machine()}"
    )
    rows = [
        {"claim": "tries of the lock path of a run where locks are dropped", "ours": tries, "unit": "tries"},
        {"claim": "processes killed in them at random moments", "ours": kills, "unit": "kills"},
        {"claim": "times that two attempts wrote", "ours": both, "unit": "times"},
        {"claim": "runs that the same command could not continue", "ours": lost, "unit": "runs"},
        {"claim": "orphans from which a later attempt of the job took the run over", "ours": taken,
         "baseline": orphans, "unit": "runs"},
        {"claim": "of them ended by the fencing number", "ours": ended, "baseline": orphans, "unit": "orphans"},
        {"claim": "of them wrote anything afterwards", "ours": late, "unit": "orphans"},
    ]  # fmt: skip
    keep(rows, args.json)
    if both or lost or late or taken < orphans or ended < orphans:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
