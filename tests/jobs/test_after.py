"""Jobs that begin after others: in which order, and what happens if one of those fails."""

from collections import deque
from contextlib import closing
from pathlib import Path

from phalanx.jobs.job import Job
from phalanx.jobs.local import _next, run_local


def job(name, *after, argv=("--help",)):
    return Job(name, argv, Path(name), after=tuple(map(Path, after)))


def test_a_job_waits_for_those_that_it_comes_after():
    waiting = deque([job("c", "a", "b"), job("a"), job("b", "a"), job("free", "elsewhere")])
    running = []
    found = _next(waiting, running)
    assert found is not None
    assert found.name == "a"

    class Running:
        job = found

    assert [_next(waiting, [Running]).name] == ["free"]  # type: ignore[list-item, union-attr]
    assert _next(waiting, [Running]) is None  # type: ignore[list-item]
    assert [_next(waiting, []).name for _ in range(2)] == ["b", "c"]  # type: ignore[union-attr]


def test_what_comes_after_a_failure_is_not_begun():
    jobs = [job("late", "middle"), job("first", argv=("nonsense",)), job("middle", "first"), job("other")]
    with closing(run_local(jobs, ["cpu"], echo=False)) as ending:
        found = {outcome.job.name: outcome.error for outcome in ending}
    assert "no such command" in (found["first"] or "")
    assert found["middle"] == "not begun: first failed, which it begins after"
    assert found["late"] == "not begun: middle failed, which it begins after"
    assert set(found) == {"first", "middle", "late", "other"}
