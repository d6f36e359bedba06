"""Pages as HTTP: what a form makes, what lists and runs show, and what can be done there."""

import re
from html import unescape
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.api.harness import Server, Store
from tests.visitor import Visitor, submit

HOSTILE = "<script>alert(1)</script>"


def test_a_form_becomes_the_job_that_the_api_would_store(
    visitor: Visitor, key: str, server: Server, store: Store
) -> None:
    fields = {"profile": "extended", "timeout_s": "7", "cpus": "0.5", "stdin": "a\r\nb"}
    job_id = submit(visitor, "print(1)\r\nprint(2)", **fields)
    job = httpx.get(
        f"{server.url}/v1/jobs/{job_id}", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ).json()
    assert (job["code"], job["profile"]) == ("print(1)\nprint(2)", "extended")
    assert (job["limits"]["timeout_s"], job["limits"]["cpus"]) == (7, 0.5)
    assert store.rings() == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"timeout_s": "9999"}, "limits.timeout_s"),
        ({"timeout_s": "soon"}, "must be a whole number"),
        ({"language": "cobol"}, "is not offered"),
        ({"kind": "task"}, "no model gateway is configured"),
        ({"kind": "task", "check_stdout": "a", "check_tests": "b"}, "check"),
    ],
)
def test_what_cannot_be_run_is_told_and_not_lost(
    visitor: Visitor, store: Store, fields: dict[str, str], told: str
) -> None:
    answer = visitor.post("/new", {"kind": "code", "source": f"print('{HOSTILE}')", **fields})
    assert answer.status_code in {422, 503}
    assert told in answer.text
    assert "print(&#39;&lt;script&gt;" in answer.text
    assert store.count_jobs() == 0


def test_the_list_and_its_filters(visitor: Visitor, store: Store) -> None:
    first = submit(visitor, "print('first')")
    second = submit(visitor, "print('second')")
    store.finish(first)
    for query, shown in (
        ("", {first, second}),
        ("?verdict=ok", {first}),
        ("?state=queued&verdict=", {second}),
        ("?kind=code", {first, second}),
        ("?kind=task", set()),
    ):
        text = visitor.get(f"/runs{query}").text
        assert {UUID(found) for found in re.findall(r'href="/runs/([0-9a-f-]{36})"', text)} == shown


def test_the_list_is_searched(visitor: Visitor) -> None:
    needle = submit(visitor, "print('a needle')")
    submit(visitor, "print('hay')")
    text = visitor.get("/runs?text=NEEDLE&label=").text
    assert re.findall(r'href="/runs/([0-9a-f-]{36})"', text) == [str(needle)]


@pytest.mark.parametrize("query", ["state=x", "kind=x", "cursor=x", "nonsense=1", "state=queued&state=ok"])
def test_a_wrong_filter_is_told(visitor: Visitor, query: str) -> None:
    answer = visitor.get(f"/runs?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")


def test_pages_of_the_list(visitor: Visitor) -> None:
    ids = [submit(visitor) for _ in range(3)]
    seen: list[UUID] = []
    path = "/runs?limit=2"
    for _ in range(2):
        text = visitor.get(path).text
        seen += [UUID(found) for found in re.findall(r'href="/runs/([0-9a-f-]{36})"', text)]
        following = re.search(r'href="(/runs\?[^"]*cursor[^"]*)"', text)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == ids[::-1]
    assert path == ""


def test_a_part_is_no_whole_page(visitor: Visitor) -> None:
    submit(visitor)
    part = visitor.get("/runs", **{"HX-Request": "true"})
    assert "<html" not in part.text
    assert part.text.lstrip().startswith("<section")
    assert "HX-Request" in part.headers["vary"]


def test_a_run_asks_again_until_it_has_ended(visitor: Visitor, store: Store) -> None:
    job_id = submit(visitor)
    assert "hx-trigger" in visitor.get(f"/runs/{job_id}").text
    store.finish(job_id, stdout=b"\x1b[31mred\x1b[0m\n")
    text = visitor.get(f"/runs/{job_id}").text
    assert "hx-trigger" not in text
    assert '<span class="a-fg1">red</span>' in text


def test_a_run_shows_what_compiling_took_where_something_was_compiled(visitor: Visitor, store: Store) -> None:
    job_id = submit(visitor)
    store.retry(job_id)
    store.finish(job_id, compile_s=0.25)
    text = visitor.get(f"/runs/{job_id}").text
    assert re.findall(r"Compile time</th><td[^>]*>([^<]*)</td>", text) == ["250 ms"]


def test_another_callers_run_is_not_there(visitor: Visitor, store: Store, server: Server) -> None:
    job_id = submit(visitor)
    with Visitor(server.url) as bob:
        bob.sign_in(store.key("bob"))
        theirs = bob.get(f"/runs/{job_id}")
        none = bob.get(f"/runs/{uuid4()}")
        listed = bob.get("/runs")
    assert theirs.status_code == none.status_code == 404
    assert re.sub(r"[0-9a-f]{16,}", "", theirs.text) == re.sub(r"[0-9a-f]{16,}", "", none.text)
    assert str(job_id) not in listed.text


@pytest.mark.parametrize(
    "path", ["/runs/nonsense", "/runs/%7B0%7D", "/static/x/pages.css", "/static/x/../../main.py"]
)
def test_what_is_not_there(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == 404


def test_a_run_is_cancelled_and_deleted(visitor: Visitor, store: Store) -> None:
    job_id = submit(visitor)
    page = f"/runs/{job_id}"
    assert visitor.post(f"{page}/delete", {}, page=page).status_code == 409
    assert visitor.post(f"{page}/cancel", {}, page=page).headers["location"] == page
    assert 'class="badge t-quiet">cancelled' in visitor.get(page).text
    assert visitor.post(f"{page}/cancel", {}, page=page).headers["location"] == page
    assert visitor.post(f"{page}/delete", {}, page=page).headers["location"] == "/runs"
    assert visitor.get(page).status_code == 404
    assert store.count_jobs() == 0


def test_a_run_that_ended_meanwhile_is_shown_as_it_ended(visitor: Visitor, store: Store) -> None:
    job_id = submit(visitor)
    page = f"/runs/{job_id}"
    token = visitor.token(page)
    store.finish(job_id)
    assert visitor.client.post(f"{page}/cancel", data={"token": token}).headers["location"] == page


def test_a_run_is_run_again_with_other_limits(visitor: Visitor, store: Store) -> None:
    job_id = submit(visitor, "print(1)", memory_mb="64", stdin="in")
    store.finish(job_id)
    page = f"/runs/{job_id}"
    fields = {"profile": "standard", "timeout_s": "9", "memory_mb": ""}
    answer = visitor.post(f"{page}/rerun", fields, page=page)
    again = answer.headers["location"]
    text = visitor.get(again).text
    assert page in text
    assert re.search(r'name="timeout_s"[^>]*placeholder="9"', text)
    assert re.search(r'name="memory_mb"[^>]*placeholder="64"', text)
    assert '"stdin":"in"' in unescape(re.sub(r"<[^>]*>", "", text))


def test_a_file_comes_with_a_form(visitor: Visitor, key: str, server: Server) -> None:
    fields = {"token": visitor.token("/new"), "kind": "code", "source": "print(1)"}
    answer = visitor.client.post("/new", data=fields, files={"files": ("data.csv", b"a,b\r\n\xff")})
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"].replace("/runs/", "/v1/jobs/")
    job = httpx.get(server.url + path, headers={"Authorization": f"Bearer {key}"}, trust_env=False).json()
    assert [(file["name"], file["size"]) for file in job["files"]] == [("data.csv", 6)]


def test_a_file_with_a_wrong_name_is_told(visitor: Visitor, store: Store) -> None:
    fields = {"token": visitor.token("/new"), "kind": "code", "source": "print(1)"}
    answer = visitor.client.post("/new", data=fields, files={"files": ("../../evil", b"x")})
    assert answer.status_code == 422
    assert "files.0.name" in answer.text
    assert store.count_jobs() == 0


@pytest.mark.parametrize("action", ["cancel", "delete", "rerun"])
def test_another_callers_run_cannot_be_touched(
    visitor: Visitor, store: Store, server: Server, action: str
) -> None:
    job_id = submit(visitor)
    with Visitor(server.url) as bob:
        bob.sign_in(store.key("bob"))
        assert bob.post(f"/runs/{job_id}/{action}", {}, page="/new").status_code == 404
        assert bob.get(f"/runs/{job_id}/artifacts/x").status_code == 404
    assert store.count_jobs() == 1
