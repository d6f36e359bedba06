"""Small parts of the API that need no server."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import parse_object
from api.documents import _text
from api.intake import Intake
from api.offered import Offered
from api.paging import read_cursor, write_cursor
from api.prefer import preferred_wait
from api.problems import Kind, Problem
from api.request_schemas import JobRequest
from api.settings import load_settings
from api.tasks import TaskIntake
from domain.catalogue import load_catalogue
from domain.ids import new_api_key, new_id
from domain.languages import load_languages
from domain.limits import load_profiles
from domain.logs import JsonFormatter
from domain.tasks import load_task_rules

if TYPE_CHECKING:
    from api.database import Database


def kind_of(call: Callable[[], object]) -> Kind | None:
    """The kind of problem a call ends in, if any; any other error fails the test."""
    try:
        call()
    except Problem as problem:
        assert problem.response("id").body  # noqa: PT017 (the call need not fail)
        return problem.kind
    return None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["WAIT = 5"], 5),
        (['wait="5"'], 5),
        (["wait=5; x=y"], 5),
        (["return=minimal, wait=5"], 5),
        (["return=minimal", "wait=5"], 5),
        (["wait=5, wait=7"], 5),
        (["wait=61"], 60),
        (["wait=0"], 0),
        (['wait="5'], None),
        (["wait=5s"], None),
        (["await=5"], None),
        (["wait=" + "9" * 5000], None),
        (["wait=\u0663"], None),
    ],
)
def test_prefer(headers: list[str], seconds: int | None) -> None:
    assert preferred_wait(headers, 60) == seconds


@given(st.lists(st.text(), max_size=3))
def test_prefer_never_fails(headers: list[str]) -> None:
    assert preferred_wait(headers, 60) in {None, *range(61)}


def test_cursors() -> None:
    job_id = new_id()
    assert read_cursor(write_cursor(job_id)) == job_id


@given(st.text(max_size=40))
def test_a_strange_cursor_is_a_problem(text: str) -> None:
    assert kind_of(lambda: read_cursor(text)) in {None, Kind.INVALID}


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_problem(body: bytes) -> None:
    assert kind_of(lambda: parse_object(body)) in {None, Kind.BAD_JSON, Kind.INVALID}


@pytest.mark.parametrize("levels", [100, 990, 1000, 1020, 1030, 100_000])
def test_however_deep_it_is_an_object_or_a_problem(levels: int) -> None:
    """The two passes over a body give up at different depths."""
    body = b'{"a":' * levels + b"1" + b"}" * levels
    assert kind_of(lambda: parse_object(body)) in ({None} if levels == 100 else {None, Kind.BAD_JSON})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    [*JobRequest.model_fields, "x"],
)


@given(st.dictionaries(_fields, _json, max_size=6))
def test_any_object_is_a_job_or_a_problem(body: dict[str, object]) -> None:
    # Never asked: what is declared counts.
    offered = Offered(cast("Database", None), load_languages())
    intake = Intake(offered, load_profiles(), 1000, TaskIntake(load_task_rules(), load_catalogue()))
    assert kind_of(lambda: intake.check(body).row()) in {None, Kind.INVALID, Kind.NO_GATEWAY}


@given(st.binary(max_size=40), st.booleans())
def test_any_output_is_shown(kept: bytes, truncated: bool) -> None:
    text, encoding = _text(kept, truncated=truncated)
    if encoding == "utf-8":
        shown = text.encode()
        assert kept == shown or (truncated and kept.startswith(shown) and len(kept) - len(shown) <= 3)


def test_logs_redact_keys() -> None:
    key = new_api_key()
    record = logging.LogRecord("x", logging.INFO, "", 0, "GET /?key=%s", (key,), None)
    record.path = f"/v1/jobs/{key}"
    line = JsonFormatter().format(record)
    assert key not in line
    assert line.count("rt_[redacted]") == 2


def test_settings_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    monkeypatch.setenv("RETORT_REDIS_URL", "redis://:hunter2@x")
    monkeypatch.setenv("RETORT_PORT", "many")
    with pytest.raises(SystemExit) as caught:
        load_settings()
    assert "RETORT_DATABASE_URL" in str(caught.value)
    assert "RETORT_PORT" in str(caught.value)
    assert "hunter2" not in str(caught.value)
