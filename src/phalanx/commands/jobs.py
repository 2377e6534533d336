"""The command that lists and cancels the jobs of a cluster."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .args import report_path, split_places

OPTIONS = ("runs", "state", "json")
STATES = ("pending", "running", "finished", "failed", "stopped", "lost", "unknown")

JOBS = """\
phalanx jobs [NAME ...] [runs=DIR] [state=running]
phalanx jobs cancel ID|NAME|all [runs=DIR]

Lists the jobs that cluster=slurm and cluster=ray submitted: id, name, fold, state, attempt, node, reason, time of the
attempt and folder. Whether a job is pending or running is asked of the scheduler; whether it has finished, of the
folder it writes to. Of several jobs for one folder, only the last is listed.

  NAME ...               only these: an id (12_0), an array (12), a name or the name of a run, * for any text
  runs=DIR               folder of the runs that jobs write to (default: runs), and those directly within it
  state=failed           or pending, running, finished, stopped, lost: only those. A stopped job is whole: the command
                         that submitted it continues it, as it does with one that was lost with its node
  json=FILE              write the table, with reasons in full length
  cancel                 cancel jobs of Slurm that are pending or running; their runs stay as they are. Those of Ray end
                         with the command that started them
"""


def jobs(words: Sequence[str]) -> int:
    """``phalanx jobs``; returns 1 if a job failed, was lost, or could not be cancelled."""
    places, pairs = split_places(words)

    from ..config import nearest
    from ..jobs.listing import chosen, list_jobs, to_json, to_text
    from ..runtime.files import write_report

    report, runs = report_path(pairs, "jobs-listing"), Path(pairs.pop("runs", "runs"))
    state = pairs.pop("state", None)
    for key in pairs:
        raise ConfigError(f"{key}: no such option{nearest(key, OPTIONS)}")
    if state is not None and state not in STATES:
        raise ConfigError(f"state={state}: expected one of {', '.join(STATES)}")
    if not runs.is_dir():
        raise ConfigError(f"runs={runs}: no such folder; run this where the jobs were submitted")
    if places[:1] == ["cancel"]:
        return cancel(places[1:], runs)
    listing = list_jobs(runs)
    rows = listing.rows
    for place in places:
        if not chosen(listing.rows, place):
            raise ConfigError(f"{place}: no such job in {runs}; `phalanx jobs` lists them by id, name and folder")
    if places:
        named = {row.id for place in places for row in chosen(rows, place)}
        rows = [row for row in rows if row.id in named]
    rows = [row for row in rows if state in (None, row.state)]
    if rows:
        print(to_text(rows))
    else:
        print(f"{runs}: no job was submitted from here" if not listing.rows else f"{runs}: has no such job")
    if listing.note:
        print(f"note: {listing.note}")
    if report is not None:
        write_report(report, "jobs-listing", to_json(listing._replace(rows=rows)))
    return int(any(row.state in ("failed", "lost") for row in rows))


def cancel(wanted: Sequence[str], runs: Path) -> int:
    """Cancels the jobs that words name; returns 1 if one of them cannot be."""
    from ..jobs import slurm_queue
    from ..jobs.listing import chosen, list_jobs

    if not wanted:
        raise ConfigError("cancel: name jobs by id or name, or all, as in phalanx jobs cancel 12_0")
    rows = list_jobs(runs).rows
    queued = slurm_queue.queue() if any(row.backend == "slurm" for row in rows) else {}
    code, numbers = 0, list[str]()
    for word in wanted:
        named = chosen(rows, word)
        if not named:
            raise ConfigError(f"{word}: no such job in {runs}; `phalanx jobs` lists them by id, name and folder")
        for row in named:
            if row.id in queued and row.state != "ending":
                numbers.append(row.id)
            elif row.id in queued:
                print(f"{row.id}: {row.name} is ending already", flush=True)
            elif not row.is_over:
                code = 1
                print(
                    f"{row.id}: {row.name} is a job of Ray; Ctrl-C in the command that started it ends it", flush=True
                )
            elif word != "all":
                print(f"{row.id}: {row.name} is {row.state} already", flush=True)
    numbers = list(dict.fromkeys(numbers))
    slurm_queue.cancel(numbers)
    for number in numbers:
        print(f"{number}: cancelled; the command that submitted it continues its run", flush=True)
    if not numbers and not code:
        print("no job of these is pending or running", flush=True)
    return code
