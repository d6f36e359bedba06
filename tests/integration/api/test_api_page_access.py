"""Pages as HTTP: who may see what, what a form must carry, what every answer says to browsers."""

import re
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.pages.sessions import IDLE_S
from domain.quotas import Scope
from tests.integration.api.harness import Server, Store
from tests.visitor import Visitor, submit

PAGES = ("/runs", "/batches", "/new", "/numbers", "/numbers?window=month", "/runs?state=queued&kind=code")

# --- signing in and out ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", *PAGES, f"/runs/{UUID(int=1)}"])
def test_nobody_sees_anything(stranger: Visitor, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


def test_signing_in_leads_to_where_one_wanted_to_go(stranger: Visitor, key: str) -> None:
    wanted = stranger.get("/runs?state=queued")
    asked = stranger.get(wanted.headers["location"])
    found = re.search(r'name="next" value="([^"]*)"', asked.text)
    assert found
    assert found[1] == "/runs?state=queued"
    answer = stranger.post("/sign-in", {"key": key, "next": found[1]})
    assert answer.headers["location"] == "/runs?state=queued"


def test_no_other_site_is_led_to(stranger: Visitor, key: str) -> None:
    answer = stranger.post("/sign-in", {"key": key, "next": "https://evil.example/"})
    assert answer.headers["location"] == "/runs"


@pytest.mark.parametrize("key", ["", "nonsense", "rt_" + "x" * 43, "rt_" + "x" * 1000, "rt_\x00"])
def test_a_wrong_key(stranger: Visitor, key: str) -> None:
    answer = stranger.post("/sign-in", {"key": key})
    assert answer.status_code == 401
    assert "not valid" in answer.text
    assert "xxxx" not in answer.text
    assert stranger.get("/runs").status_code == 303


def test_the_cookie_is_out_of_reach_and_new_with_each_session(stranger: Visitor, key: str) -> None:
    before = stranger.get("/sign-in").cookies["retort_session"]
    answer = stranger.post("/sign-in", {"key": key})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert before not in cookie


def test_behind_tls_the_cookie_is_bound_to_it(server: Server, store: Store) -> None:
    answer = httpx.get(f"{server.url}/sign-in", headers={"X-Forwarded-Proto": "https"}, trust_env=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-retort_session=")
    assert "Secure" in cookie


def test_redis_has_neither_the_cookie_nor_the_key(visitor: Visitor, key: str, store: Store) -> None:
    client: Any = store.redis
    (name,) = client.keys("retort:session:*")
    kept = name + client.get(name)
    assert visitor.client.cookies["retort_session"].encode() not in kept
    assert key.encode() not in kept
    assert 0 < client.ttl(name) <= IDLE_S


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    cookies = dict(visitor.client.cookies)
    assert visitor.post("/sign-out", {}, page="/runs").headers["location"] == "/sign-in"
    visitor.client.cookies.update(cookies)
    assert visitor.get("/runs").status_code == 303


def test_a_revoked_key_ends_its_sessions(visitor: Visitor, store: Store) -> None:
    assert visitor.get("/runs").status_code == 200
    store.revoke_all_keys()
    assert visitor.get("/runs").status_code == 303


def test_a_part_of_a_page_sends_who_is_signed_out_to_sign_in(stranger: Visitor) -> None:
    answer = stranger.get("/runs", **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/new", "/sign-out"])
@pytest.mark.parametrize("token", [None, "", "0" * 64, "of another"])
def test_a_form_without_our_token_does_nothing(
    visitor: Visitor, server: Server, store: Store, path: str, token: str | None
) -> None:
    if token == "of another":
        with Visitor(server.url) as other:
            token = other.token("/sign-in")
    fields = {"kind": "code", "source": "print(1)", **({} if token is None else {"token": token})}
    answer = visitor.client.post(path, data=fields)
    assert answer.status_code == 403
    assert store.count_jobs() == 0
    assert visitor.get("/runs").status_code == 200


def test_another_site_cannot_send_a_form(visitor: Visitor, store: Store) -> None:
    fields = {"token": visitor.token("/new"), "kind": "code", "source": "print(1)"}
    answer = visitor.client.post("/new", data=fields, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert store.count_jobs() == 0


def test_a_body_that_is_no_form(visitor: Visitor) -> None:
    assert visitor.client.post("/new", json={}).status_code == 415
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert visitor.client.post("/new", content=b"token=\xff", headers=kind).status_code == 403
    many = b"&".join(b"a%d=1" % n for n in range(300))
    assert visitor.client.post("/new", content=many, headers=kind).status_code == 400


# --- scopes ---------------------------------------------------------------------------------------


def test_who_may_only_read_changes_nothing(store: Store, server: Server, visitor: Visitor) -> None:
    job_id = submit(visitor)
    with Visitor(server.url) as reader:
        reader.sign_in(store.key("alice", scopes=[Scope.READ]))
        text = reader.get(f"/runs/{job_id}").text
        assert "Cancel" not in text
        assert reader.get("/new").status_code == 403
        for path in ("/new", f"/runs/{job_id}/cancel", f"/runs/{job_id}/rerun"):
            assert reader.post(path, {"source": "1"}, page="/runs").status_code == 403
    assert store.count_jobs() == 1


@pytest.mark.parametrize("path", ["/keys", "/keys?cursor=x"])
def test_keys_are_for_admins(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == 403
    assert visitor.post("/keys", {"caller": "x", "scope_admin": "1"}, page="/runs").status_code == 403
    assert "/keys" not in visitor.get("/runs").text


def test_an_admin_makes_replaces_and_revokes_keys(store: Store, server: Server) -> None:
    with Visitor(server.url) as admin:
        admin.sign_in(store.key("root", scopes=list(Scope)))
        first = made(admin.post("/keys", {"caller": "carol", "scope_read": "1", "days": "30"}))
        page = admin.get("/keys").text
        assert first not in page
        assert "carol" in page
        (key_id,) = re.findall(r'/keys/([0-9a-f-]{36})/rotate"[^"]*"[^>]*>[^\0]*?of carol', page)[:1]
        second = made(admin.post(f"/keys/{key_id}/rotate", {}, page="/keys"))
        for key in (first, second):
            with Visitor(server.url) as carol:
                carol.sign_in(key)
                assert carol.get("/new").status_code == 403
        assert admin.post(f"/keys/{key_id}/revoke", {}, page="/keys").headers["location"] == "/keys"
        with Visitor(server.url) as carol:
            assert carol.post("/sign-in", {"key": first}).status_code == 401
        assert admin.post("/keys", {"caller": "carol"}).status_code == 422
        assert admin.post("/keys", {"caller": "", "scope_read": "1"}).status_code == 422
        assert admin.post("/keys", {"caller": "c", "scope_read": "1", "days": "x"}).status_code == 422


def made(answer: httpx.Response) -> str:
    found = re.search(r'<pre id="secret"[^>]*>(rt_[^<]+)</pre>', answer.text)
    assert found, answer.text
    return found[1]


@pytest.mark.parametrize("path", ["/sign-in", *PAGES])
def test_every_page_forbids_what_it_does_not_need(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 200
    (policy,) = answer.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=|javascript:", answer.text)


def test_our_files_are_kept_by_browsers(visitor: Visitor) -> None:
    found = re.findall(r'(?:src|href)="(/static/[^"]*)"', visitor.get("/runs").text)
    assert len(found) == 4
    for path in found:
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def test_pages_are_not_in_the_contract(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    assert not [
        path for path in document["paths"] if not path.startswith(("/v1", "/healthz", "/readyz", "/metrics"))
    ]
