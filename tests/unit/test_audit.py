"""Records of jobs: the same bytes each time, and a change shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retort import audit
from retort.cli.main import app

FINAL = frozenset({"finished"})


class Kept:
    """A job with two attempts, the later one told first."""

    def __init__(self, state: str = "finished") -> None:
        self.state = state

    def job(self, job_id: str) -> dict[str, Any]:
        """The job."""
        return {"id": job_id, "state": self.state, "attempts": [{"number": 1}, {"number": 2}]}

    def attempt(self, job_id: str, number: int) -> dict[str, Any]:
        """An attempt with a call."""
        return {"job_id": job_id, "number": number, "calls": [{"prompt": "é", "price": {"input": "2"}}]}


def test_a_record_has_everything_and_is_the_same_each_time() -> None:
    one, other = (audit.sealed(audit.record(Kept(), "j", FINAL)) for _ in range(2))
    assert one == other
    found = json.loads(one)
    assert [each["number"] for each in found["attempts"]] == [1, 2]
    assert found["attempts"][0]["calls"][0]["prompt"] == "é"
    assert audit.intact(one)


def test_a_change_shows() -> None:
    text = audit.sealed(audit.record(Kept(), "j", FINAL))
    found = json.loads(text)
    found["attempts"][1]["calls"][0]["price"]["input"] = "1"
    assert not audit.intact(json.dumps(found))
    assert not audit.intact(text[:-1])
    assert not audit.intact("[]")
    assert audit.intact(json.dumps(json.loads(text), indent=2))  # the same in another layout


def test_a_job_that_goes_on_has_no_record_yet() -> None:
    with pytest.raises(audit.NotEnded, match="running"):
        audit.record(Kept("running"), "j", FINAL)


def test_the_command_looks_at_kept_records(tmp_path: Path) -> None:
    kept = tmp_path / "record.json"
    kept.write_text(audit.sealed(audit.record(Kept(), "j", FINAL)))
    assert CliRunner().invoke(app, ["audit", "--verify", str(kept)]).exit_code == 0
    kept.write_text(kept.read_text().replace("finished", "broken"))
    done = CliRunner().invoke(app, ["audit", "--verify", str(kept)])
    assert (done.exit_code, "CHANGED" in done.output) == (1, True)
    assert CliRunner().invoke(app, ["audit"]).exit_code == 2
