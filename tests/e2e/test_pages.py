"""The pages in a real browser, over the real service: API, worker, sandboxes, and a scripted model.

Pictures go to a temporary folder, or to the one that RETORT_PICTURES names (`make pictures`).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from domain.quotas import Scope
from tests.browser import Seen, browser
from tests.conftest import Services, empty
from tests.e2e.house import PATIENCE, House, badge, sign_in, submit, weight
from tests.integration.api.harness import Server, Store
from tests.tasks import task_worker

SCRIPTS = Path(__file__).with_name("pages.toml")
MODELS = "gpt-4.1,claude-sonnet-4"

#: Bytes that a page may weigh with all that it loads, but for what programs left.
MOST_BYTES = 150_000

STEPS = """
import time

for number in range(30):
    print("\\x1b[32mstep", number, flush=True)
    time.sleep(0.1)
"""

HOSTILE_NAME = "<img src=x onerror=alert(1)>.txt"
HOSTILE = f"""
import sys
bad = '</pre><script>window.hacked="stdout"</script><img src=x onerror="window.hacked=1">'
print(bad, '\\x1b]8;;javascript:alert(2)\\x07click\\x1b]8;;\\x07 \\x1b[31m' + bad + '\\x1b[0m')
print('<svg onload=alert(3)>', file=sys.stderr)
svg = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40" onload="alert(4)">'
svg += '<script>alert(5)</script><image href="http://127.0.0.1:9/x" width="9" height="9"/>'
open('evil.svg', 'w').write(svg + '<rect width="80" height="40" fill="red"/></svg>')
open('page.html', 'w').write('<script>window.hacked="html";alert(6)</script>')
open('data.csv', 'w').write('a,<script>alert(7)</script>\\n=1+1,"<img src=x onerror=alert(8)>"\\n')
open({HOSTILE_NAME!r}, 'w').write('<script>alert(9)</script>')
open('fake.png', 'w').write('\\x89PNG<script>alert(10)</script>')
import pandas as pd
pd.DataFrame({{'<script>alert(11)</script>': ['<b>x</b>']}})
"""


@pytest.fixture(scope="module")
def house(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Everything, started once."""
    empty(services)
    expect.set_options(timeout=PATIENCE)
    folder = tmp_path_factory.mktemp("pages")
    storage = (folder / "storage").as_uri()
    pictures = Path(os.environ.get("RETORT_PICTURES") or folder / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    store = Store(services.database_url, services.redis_url)
    with (
        task_worker(services, engine, folder, SCRIPTS, models=MODELS, storage_url=storage) as (worker, _),
        browser() as opened,
    ):
        server = Server(folder / "api.log", services.database_url, services.redis_url, storage_url=storage)
        try:
            yield House(server.url, store.key("alice", scopes=list(Scope)), opened, pictures)
        finally:
            server.stop()
            store.close()
        assert worker.stop() == 0


@pytest.fixture
def page(house: House) -> Iterator[Page]:
    """A page of somebody who is signed in, and that did nothing it must not do."""
    with house.signed_in() as context:
        opened = context.new_page()
        seen = Seen(opened, house.url)
        yield opened
        assert seen.wrong == []
        assert opened.evaluate("window.hacked") is None


# --- the walk -------------------------------------------------------------------------------------


def test_code_is_submitted_and_watched_live(page: Page, house: House) -> None:
    submit(
        page,
        house,
        "import time\nfor n in range(30):\n    print('\\x1b[32mstep', n, flush=True); time.sleep(0.1)",
    )
    expect(page.get_by_role("heading", name="stdout so far")).to_be_visible()
    house.picture(page, "live")
    expect(badge(page)).to_have_text("ok")
    expect(page.get_by_label("stdout of attempt 1")).to_contain_text("step 29")
    expect(page.locator("pre.terminal .a-fg2")).not_to_have_count(0)
    assert page.locator("[hx-trigger]").count() == 0
    expect(page.get_by_role("heading", name="Run again")).to_be_visible()


def test_a_task_is_watched_and_its_repair_read(page: Page, house: House) -> None:
    submit(page, house, "plot sine of x", "Task in words")
    expect(badge(page)).to_have_text("ok")
    expect(page.locator("#attempt-1 .badge")).to_have_text("error")
    expect(page.get_by_label("stderr of attempt 1")).to_contain_text("NameError")
    added = page.locator("#attempt-2 .diff tr.added")
    expect(added).to_have_count(1)
    expect(added).to_contain_text("import numpy as np")
    shown = page.get_by_role("img", name="sine.png")
    shown.scroll_into_view_if_needed()
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("image => image.naturalWidth") > 100
    page.evaluate("scrollTo(0, document.querySelector('#attempt-2').offsetTop - 20)")
    house.picture(page, "task")
    why = page.locator("#attempt-2 summary", has_text="Why ")
    why.click()
    expect(page.locator("#attempt-2")).to_contain_text("the model for moderate tasks")
    page.locator("#attempt-2 .call summary").click()
    expect(page.get_by_label("Answer").last).to_contain_text("never imported")
    expect(page.locator(".time tbody tr")).to_have_count(2)

    before = page.url
    page.locator("select[name=model]").select_option("gpt-4.1")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: url != before)
    expect(badge(page)).to_have_text("ok")
    expect(page.locator(".facts").first).to_contain_text("gpt-4.1")
    expect(page.get_by_role("link", name=before.rpartition("/")[2])).to_be_visible()


def test_a_run_is_cancelled(page: Page, house: House) -> None:
    submit(page, house, "[scripted:slow] wait", "Task in words")
    expect(page.get_by_role("heading", name="stdout so far")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(badge(page)).to_have_text("cancelled")


def test_the_list_is_filtered_and_keeps_itself_up_to_date(page: Page, house: House) -> None:
    house.api("POST", "/v1/jobs", json={"code": "print('a needle')", "labels": {"team": "a"}})
    house.api("POST", "/v1/jobs", json={"code": "raise SystemExit(3)"})
    page.goto(f"{house.url}/runs")
    rows = page.locator("#runs tbody tr")
    expect(rows.first).to_be_visible()
    everything = rows.count()
    house.picture(page, "runs")
    house.api("POST", "/v1/jobs", json={"code": "print('came later')"})
    expect(rows).to_have_count(everything + 1)
    expect(rows.first).to_contain_text("came later")
    page.get_by_label("Verdict").select_option("error")
    expect(rows.first).to_contain_text("SystemExit(3)")
    assert set(page.locator("#runs .badge").all_inner_texts()) == {"error"}
    page.get_by_role("link", name="All runs").click()
    page.get_by_label("Text").fill("needle")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile("text=needle"))


def test_a_batch_is_followed_cancelled_and_filtered(page: Page, house: House) -> None:
    slow = {"code": "import time; time.sleep(600)", "labels": {"slow": "1"}}
    asked = [{"code": "print('of a batch')"}, {"code": "raise SystemExit(4)"}, slow]
    batch = house.api("POST", "/v1/batches?name=nightly", json={"jobs": asked})
    page.goto(f"{house.url}/runs")
    page.get_by_role("link", name="Batches").click()
    page.get_by_role("link", name="nightly").click()
    expect(page.get_by_role("progressbar")).to_have_accessible_name("2 of 3 have ended")
    house.picture(page, "batch")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("progressbar")).to_have_accessible_name("3 of 3 have ended")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Results as NDJSON").click()
    assert saved.value.suggested_filename == f"batch-{batch['id']}.ndjson"
    assert len(Path(saved.value.path()).read_text().splitlines()) == 3
    page.locator(".legend").get_by_role("link", name="error").click()
    rows = page.locator("#runs tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("SystemExit(4)")
    expect(page.get_by_label("Batch")).to_have_value(batch["id"])
    rows.get_by_role("link").click()
    page.get_by_role("link", name=batch["id"]).click()
    page.get_by_role("button", name="Delete with its jobs").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()


def test_numbers_and_keys(page: Page, house: House) -> None:
    house.api("POST", "/v1/jobs", json={"code": "print(1)"})
    page.goto(f"{house.url}/runs")
    page.get_by_role("link", name="Numbers").click()
    expect(page.locator("svg.chart")).to_have_count(3)
    page.locator("summary", has_text="Values").first.click()
    expect(page.get_by_role("row", name=re.compile("^whole"))).to_be_visible()
    house.picture(page, "numbers")
    page.get_by_role("link", name="Last month").click()
    expect(page.locator("svg.chart")).to_have_count(3)
    page.get_by_role("link", name="Keys").click()
    page.get_by_label("Caller").fill("bob")
    page.get_by_role("button", name="Make a key").click()
    key = page.get_by_label("The new key").inner_text()
    with house.visit() as context:
        bob = context.new_page()
        bob.goto(house.url)
        bob.get_by_label("API key").fill(key)
        bob.get_by_role("button", name="Sign in").click()
        expect(bob.get_by_text("No runs yet.")).to_be_visible()


def test_signing_out(house: House) -> None:
    with house.visit() as context:
        page = context.new_page()
        sign_in(page, house)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.goto(f"{house.url}/numbers")
        expect(page.get_by_label("API key")).to_be_visible()


def test_a_link_on_another_site_leads_in(page: Page, house: House) -> None:
    page.goto(house.url.replace("127.0.0.1", "localhost") + "/sign-in")
    page.evaluate("url => { location.href = url }", f"{house.url}/runs?state=queued")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    assert page.url == f"{house.url}/runs?state=queued"


def test_the_keyboard_is_enough(page: Page, house: House) -> None:
    house.api("POST", "/v1/jobs", json={"code": "print('by keys')"})
    page.goto(f"{house.url}/runs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_label("State")).to_be_focused()
    page.get_by_label("State").blur()
    page.keyboard.press("j")
    expect(page.locator(".what a").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(badge(page)).to_have_text("ok")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    page.get_by_label("Code or task").fill("print('sent by keys')")
    page.keyboard.press("Control+Enter")
    expect(badge(page)).to_have_text("ok")


# --- what others wrote ----------------------------------------------------------------------------


def test_what_a_program_wrote_does_nothing(page: Page, house: House) -> None:
    labels = {"<script>alert(12)</script>": "<img src=x onerror=alert(13)>"}
    job = house.api("POST", "/v1/jobs", json={"code": HOSTILE, "labels": labels})
    assert job["verdict"] == "ok", job
    path = f"{house.url}/runs/{job['id']}"
    page.goto(path)
    expect(page.get_by_text('<script>window.hacked="stdout"</script>').first).to_be_visible()
    for summary in page.locator("summary").all():
        summary.scroll_into_view_if_needed()
        summary.click()
    picture = page.get_by_role("img", name="evil.svg")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 80)
    expect(page.get_by_role("link", name=HOSTILE_NAME)).to_be_visible()
    assert page.locator("script").count() == 2
    assert page.locator("#run iframe, #run object, #run embed, #run a[href^='javascript']").count() == 0
    house.picture(page, "hostile")
    for name in ("page.html", "evil.svg"):
        with page.expect_download() as saved:
            page.evaluate("path => { location.href = path }", f"{path}/artifacts/{name}?attempt=1")
        assert saved.value.suggested_filename == name
        assert page.url == path
    page.goto(f"{house.url}/runs")
    expect(page.locator("#runs tbody tr").first).to_be_visible()


def test_what_a_model_wrote_does_nothing(page: Page, house: House) -> None:
    task = "[scripted:hostile] </pre><script>window.hacked = 'task'</script>"
    job = house.api("POST", "/v1/jobs", json={"task": task, "check": {"stdout": "<script>x</script>"}})
    page.goto(f"{house.url}/runs/{job['id']}")
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.get_by_label("Answer").first).to_contain_text("<img src=x")
    expect(page.get_by_text("window.hacked = 'code'").first).to_be_visible()
    page.goto(f"{house.url}/runs?text=%3Cscript%3E")
    expect(page.get_by_label("Text")).to_have_value("<script>")


def test_a_script_that_got_in_would_not_run(house: House) -> None:
    with house.signed_in() as context:
        page = context.new_page()
        page.goto(f"{house.url}/runs")
        refused = page.evaluate(
            """() => new Promise(done => {
                document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                document.body.append(script);
            })"""
        )
        assert refused == "script-src-elem"
        assert page.evaluate("window.hacked") is None


# --- for everybody --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some(house: House) -> list[str]:
    """Every page, with something on it."""
    task = house.api("POST", "/v1/jobs", json={"task": "plot sine of x", "model": "gpt-4.1"})
    code = house.api(
        "POST", "/v1/jobs", json={"code": "print('\\x1b[31mred\\x1b[44mon blue')\nraise ValueError"}
    )
    batch = house.api("POST", "/v1/batches?name=some", json={"jobs": [{"code": "1"}, {"code": "2"}]})
    runs = [f"/runs/{job['id']}" for job in (task, code)]
    return ["/runs", *runs, "/batches", f"/batches/{batch['id']}", "/new", "/numbers", "/keys", "/runs/none"]


def test_everybody_can_use_every_page_by_day_and_by_night(house: House, some: list[str]) -> None:
    axe = Axe()
    found = {}
    with house.signed_in() as context, house.visit() as outside:
        page, door = context.new_page(), outside.new_page()
        for path in (*some, "/sign-in"):
            shown = door if path == "/sign-in" else page
            shown.goto(house.url + path)
            for summary in shown.locator("summary").all():
                summary.click()
            for scheme in ("light", "dark"):
                shown.emulate_media(color_scheme=scheme)
                results = axe.run(shown).response["violations"]
                serious = [each for each in results if each["impact"] in {"serious", "critical"}]
                found[path, scheme] = [(each["id"], node["html"]) for each in serious for node in each["nodes"]]
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_a_phone_shows_every_page_without_scrolling_aside(house: House, some: list[str]) -> None:
    wide = {}
    settings: Any = {"viewport": {"width": 360, "height": 780}, "color_scheme": "dark", "has_touch": True}
    with house.signed_in(**settings) as context:
        page = context.new_page()
        for path in some:
            page.goto(house.url + path)
            wide[path] = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if path == some[1]:
                house.picture(page, "phone")
    assert {path: by for path, by in wide.items() if by > 0} == {}


def test_pages_are_light(house: House, some: list[str]) -> None:
    weights = {path: weight(house, path) for path in some}
    assert {path: found for path, found in weights.items() if not 10_000 < found < MOST_BYTES} == {}
