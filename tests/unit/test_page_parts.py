"""What pages are made of: terminal colours, differences, charts, the timeline, forms."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from api.pages import charts
from api.pages.ansi import ansi
from api.pages.diffs import side_by_side
from api.pages.highlight import MOST_COLOURED, coloured, lines
from api.pages.kept import Kept
from api.pages.routes.new import body_of
from api.pages.shell import own_path
from api.pages.timeline import timeline
from api.problems import Problem

TAG = re.compile(r"<[^>]*>")
OURS = re.compile(r'</span>|<span class="[\w -]*">')
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


# --- terminals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[39m not", '<span class="a-fg1">red</span> not'),
        ("\x1b[1m\x1b[4mboth\x1b[22mline", '<span class="a-bold a-underline">both</span>'
         '<span class="a-underline">line</span>'),
        ("\x1b[91;104mbright", '<span class="a-fg9 a-bg12">bright</span>'),
        ("\x1b[38;5;196mred\x1b[0m", '<span class="a-fg1">red</span>'),
        ("\x1b[38;2;0;200;10mgreen\x1b[m", '<span class="a-fg2">green</span>'),
        ("\x1b[7mturned\x1b[27m", '<span class="a-inverse">turned</span>'),
        ("\x1b[31;7mturned", '<span class="a-bg1">turned</span>'),
        ("\x1b]0;title\x07\x1b[2J\x1b[Hshown\x07\x00", "shown"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("half \x1b[3", "half "),
        ("half \x1b", "half "),
        ("a\tb\nc", "a\tb\nc"),
        ("exe\u202egnp.txt", "exe\ufffdgnp.txt"),
        ("\x1b[38;5mnothing\x1b[38;2;1mmore", "nothingmore"),
    ],
)  # fmt: skip
def test_terminal_text(text: str, html: str) -> None:
    assert str(ansi(text)) == html


@given(st.text(alphabet=st.sampled_from("\x1b[]0123456789;:mABJ<>&\"'ab \n\x07\x9b\\")))
def test_terminal_text_has_no_markup_but_ours(text: str) -> None:
    html = str(ansi(text))
    assert {tag for tag in TAG.findall(html) if not OURS.fullmatch(tag)} == set()
    assert html.count("<span") == html.count("</span>")
    assert "\x1b" not in html


def test_a_long_line_of_sequences_takes_no_time_to_speak_of() -> None:
    assert str(ansi("\x1b[" * 200_000)) == ""
    assert str(ansi("\x1b]" + "a" * 1_000_000)) == ""


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["python", "javascript", "bash", "r", "rust", "no-such-language"])
def test_code_is_coloured_and_escaped(language: str) -> None:
    html = str(coloured(f"x = 1 # {HOSTILE}", language))
    assert {tag for tag in TAG.findall(html) if not OURS.fullmatch(tag)} == set()
    assert ("span" in html) == (language != "no-such-language")


def test_code_that_is_long_has_no_colours() -> None:
    text = "x = 1\n" * MOST_COLOURED
    assert coloured(text, "python") == escape(text)


def test_lines_keep_what_goes_over_several_of_them_coloured() -> None:
    found = lines('a = """one\ntwo"""\nb', "python")
    assert len(found) == 3
    assert all(line.count("<span") == line.count("</span>") for line in found)


# --- differences ----------------------------------------------------------------------------------


def test_side_by_side() -> None:
    rows = side_by_side("a\nb\nc\n", "a\nB\nc\nd\n", "text")
    assert rows is not None
    assert [(row.kind, row.left, str(row.old), row.right, str(row.new)) for row in rows] == [
        ("equal", 1, "a", 1, "a"),
        ("changed", 2, "b", 2, "B"),
        ("equal", 3, "c", 3, "c"),
        ("added", None, "", 4, "d"),
    ]


def test_what_is_far_from_any_change_is_folded() -> None:
    old = [f"line {n}" for n in range(100)]
    rows = side_by_side("\n".join(old), "\n".join([*old[:50], "new", *old[51:]]), "text")
    assert rows is not None
    assert [(row.kind, row.left) for row in rows if row.kind != "equal"] == [
        ("folded", 47),
        ("changed", 51),
        ("folded", 46),
    ]


def test_what_is_too_long_is_not_compared() -> None:
    assert side_by_side("a\n" * 3000, "b\n" * 3000, "text") is None


def test_a_difference_escapes() -> None:
    rows = side_by_side("x", HOSTILE, "text")
    assert rows is not None
    assert "<" not in rows[0].new
    assert "&lt;script&gt;" in rows[0].new


# --- charts ---------------------------------------------------------------------------------------


def test_charts_have_nothing_inline_and_escape() -> None:
    for chart in (
        charts.bars([HOSTILE, "b"], {HOSTILE: [1, 2], "two": [0, 3]}, ["good", "bad"]),
        charts.lines(["a", "b"], {HOSTILE: [1, None]}, ["good"], formatter=lambda value: f"{value} s"),
        charts.spark({"one": [0] * 24}, ["good"]),
    ):
        html = str(chart)
        assert not [
            tag for tag in TAG.findall(html) if re.search(r"<style|<script|style=|<img|href|on\w+=", tag)
        ]
        assert 'aria-hidden="true"' in html
    assert "t-good" in str(charts.spark({"one": [1, 2]}, ["good"]))


def test_a_chart_of_nothing_is_drawn() -> None:
    assert "<svg" in charts.bars([], {}, [])


# --- the timeline ---------------------------------------------------------------------------------

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def an_attempt(number: int, ends_s: float, model_s: float = 0, start_s: float = 0, run_s: float = 0) -> Any:
    return {
        "number": number,
        "finished_at": BEGUN + timedelta(seconds=ends_s),
        "calls": [{"latency_s": model_s / 2}, {"latency_s": model_s / 2}, {"latency_s": None}],
        "usage": {"sandbox_start_s": start_s, "wall_s": run_s},
    }


def test_the_timeline_tells_where_time_went() -> None:
    found = timeline({"created_at": BEGUN}, [an_attempt(1, 4, 2, 0.5, 1), an_attempt(2, 10, 4, 0, 1)])
    spans = [[(span.kind, round(span.seconds, 3)) for span in line.spans] for line in found]
    assert spans == [
        [("waiting", 0.5), ("model", 2), ("sandbox start", 0.5), ("run", 1)],
        [("waiting", 1), ("model", 4), ("run", 1)],
    ]
    assert [(span.at, span.width) for span in found[1].spans] == [(400, 100), (500, 400), (900, 100)]


def test_the_timeline_bears_times_that_cannot_be() -> None:
    found = timeline({"created_at": BEGUN}, [an_attempt(1, 0, 5, 5, 5), an_attempt(2, 0, 1)])
    assert all(0 <= span.at <= 1000 and span.width >= 0 for line in found for span in line.spans)
    assert timeline({"created_at": BEGUN}, []) == []


# --- forms ----------------------------------------------------------------------------------------


def test_a_form_of_code_becomes_a_request() -> None:
    given = {"kind": "code", "source": "print(1)", "language": "python", "timeout_s": "5", "cpus": "0.5"}
    hidden = {"model": "gpt-4.1", "check_tests": "assert 1", "stdin": "", "memory_mb": ""}
    expected = {"code": "print(1)", "language": "python", "limits": {"timeout_s": 5, "cpus": 0.5}}
    assert body_of(given | hidden) == expected


def test_a_form_of_a_task_becomes_a_request() -> None:
    given = {"kind": "task", "source": "greet", "model": "gpt-4.1", "max_attempts": "2", "budget_usd": "0.10"}
    assert body_of({**given, "check_stdout": "hello"}) == {
        "task": "greet",
        "model": "gpt-4.1",
        "max_attempts": 2,
        "budget_usd": "0.10",
        "check": {"stdout": "hello"},
    }


@pytest.mark.parametrize("field", ["timeout_s", "cpus", "memory_mb"])
def test_a_number_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(Problem) as refused:
        body_of({"source": "x", field: "many"})
    assert refused.value.errors[0].field == field


@pytest.mark.parametrize("path", ["/runs", "/runs/0190-ab?state=queued&verdict=ok", "/new", "/numbers?days=7"])
def test_own_paths(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "//evil.example", "/\\evil", "https://evil", "/a:b", "/runs\r\nX: y", "javascript:alert(1)", "/"],
)
def test_other_paths_lead_to_the_list(path: str) -> None:
    assert own_path(path) == "/runs"


def test_what_htmx_is_told_is_json() -> None:
    page = (__import__("pathlib").Path(charts.__file__).parent / "templates" / "base.html").read_text()
    found = re.search(r"name=\"htmx-config\" content='([^']*)'", page)
    assert found
    assert json.loads(found[1])["includeIndicatorCSS"] is False


# --- what is kept for a few seconds ---------------------------------------------------------------


def test_what_many_ask_for_is_made_once() -> None:
    made = 0

    async def make() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return made

    async def all_ask() -> None:
        kept: Kept[int] = Kept()
        assert await asyncio.gather(*(kept.get("a", make) for _ in range(20))) == [1] * 20
        assert await kept.get("a", make) == 1
        assert await kept.get("b", make) == 2

    asyncio.run(all_ask())


def test_what_fails_is_made_again() -> None:
    tries = 0

    async def make() -> int:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise ValueError
        return tries

    async def ask_twice() -> None:
        kept: Kept[int] = Kept()
        answers = await asyncio.gather(*(kept.get("a", make) for _ in range(2)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ValueError, ValueError]
        assert await kept.get("a", make) == 2

    asyncio.run(ask_twice())


def test_who_goes_away_takes_it_from_nobody() -> None:
    async def ask() -> None:
        go = asyncio.Event()

        async def make() -> str:
            await go.wait()
            return "made"

        kept: Kept[str] = Kept()
        leaving, staying = (asyncio.create_task(kept.get("a", make)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await staying == "made"
        assert leaving.cancelled()

    asyncio.run(ask())
