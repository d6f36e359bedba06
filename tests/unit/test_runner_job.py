"""What the runner counts of a job."""

from retort_runner.cgroup import Counters
from retort_runner.job import Job


def test_cpu_time_is_not_below_0() -> None:
    """An interpreter's own start is taken off, and what ended is added in parts, which may come to less."""
    job = Job({"output_bytes": 1}, b"", b"", uid=0, counters=Counters(), wake=-1)
    for part in (-(0.1 + 0.2), 0.1, 0.2):
        job._count({"cpu_s": part, "rss": 0})
    assert job.cpu_s == 0
    job._count({"cpu_s": 0.5, "rss": 0})
    assert abs(job.cpu_s - 0.5) < 1e-9
