"""Webhooks: URLs, addresses, signatures, sealing, pauses."""

import doctest
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from domain import reach, sealing, webhooks
from domain.reach import METADATA, Reach
from domain.sealing import Sealer, Unsealable, sealer_of
from domain.webhooks import check_url, new_secret, shown_secret, sign
from worker.hooks import pauses
from worker.hooks.pauses import asked_pause_s, pause_s

NOWHERE = Reach()


@pytest.mark.parametrize("module", [reach, sealing, webhooks, pauses])
def test_examples(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com./x?y=z",
        "https://EXAMPLE.com:8443/",
        "https://a_b.example.com/",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]/",
    ],
)
def test_urls_that_will_do(url: str) -> None:
    check_url(url, NOWHERE, http=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com",
        "file:///etc/passwd",
        "gopher://example.com:6379/_x",
        "https://",
        "https:///x",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://1.1.1.1./",
        "https://localhost/",
        "https://localhost./",
        "https://a.LOCALHOST/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:1.1.1.1]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[v1.x]/",
        "https://[1.1.1.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://user@example.com/",
        "https://example.com@127.0.0.1/",
        "https://a:b@example.com/",
        "https://example.com/#x",
        "https://example.com#@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\n",
        "https://exam ple.com/",
        "https://bücher.example/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://a..b/",
        "https://-a.com/",
        f"https://{'a' * 64}.com/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_will_not(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|leads|has|is)"):
        check_url(url, NOWHERE, http=False)


def test_what_an_operator_allows() -> None:
    inside = Reach.of("127.0.0.0/8, 10.0.0.0/8")
    for url in ("http://127.0.0.1:8080/", "http://localhost/", "https://10.1.2.3/"):
        check_url(url, inside, http=True)
    with pytest.raises(ValueError, match="https"):
        check_url("http://10.1.2.3/", inside, http=False)
    everything = Reach.of("0.0.0.0/0,::/0")
    for address in METADATA:
        assert not everything.allows(address)
    for spelled in ("::ffff:169.254.169.254", "::169.254.169.254"):
        assert not everything.allows(ip_address(spelled))
    with pytest.raises(ValueError, match="10"):
        Reach.of("10.0.0.1/8")


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="127.0.0.0/8"))
def test_no_private_address_in_any_dress(address: object) -> None:
    number = int(ip_address(str(address)))
    plain = ip_address(str(address))
    dressed = [ip_address(prefix | number) for prefix in (0, 0xFFFF << 32, 0x64FF9B << 96)]
    dressed.append(ip_address((0x2002 << 112) | (number << 80)))
    assert not any(NOWHERE.allows(each) for each in (plain, *dressed))


def test_signatures_are_those_of_the_reference() -> None:
    body, now = '{"é": 1}'.encode(), int(time.time())
    secrets = [new_secret(), new_secret()]
    headers = {
        "webhook-id": "msg",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secrets, "msg", now, body),
    }
    for secret in secrets:
        assert Webhook(shown_secret(secret)).verify(body, headers) == {"é": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(shown_secret(new_secret())).verify(body, headers)


def test_what_is_sealed_opens_in_its_place_alone() -> None:
    old, new = "o" * 32, "n" * 32
    sealed = Sealer([old]).seal(b"secret", b"row 1")
    assert b"secret" not in sealed
    assert sealed != Sealer([old]).seal(b"secret", b"row 1")
    assert Sealer([new, old]).open(sealed, b"row 1") == b"secret"
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for keys, given_, place in (
        ([new], sealed, b"row 1"),
        ([old], sealed, b"row 2"),
        ([old], changed, b"row 1"),
        ([old], b"", b"row 1"),
        ([old], sealed[:5], b"row 1"),
        ([old], b"\x02" + sealed[1:], b"row 1"),
    ):
        with pytest.raises(Unsealable):
            Sealer(keys).open(given_, place)


def test_keys_for_sealing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert sealer_of(None, None) is None
    file.write_text("n" * 32 + "\n\n" + "o" * 32 + "\n")
    found = sealer_of(None, file)
    assert found is not None
    assert found.open(Sealer(["o" * 32]).seal(b"x", b""), b"") == b"x"
    for content in ("", "short"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"empty|fewer"):
            sealer_of(None, file)
    with pytest.raises(ValueError, match="cannot be read"):
        sealer_of(None, tmp_path / "nothing")


def test_pauses_grow_to_a_ceiling_and_are_spread() -> None:
    def pause(tries: int, jitter: float) -> float:
        return pause_s(tries, first_s=5, most_s=43200, jitter=jitter)

    assert [pause(n, 0.0) * 2 for n in range(1, 12)] == [pause(n, 1.0) for n in range(1, 12)]
    assert [pause(n, 1.0) for n in range(1, 5)] == [5, 20, 80, 320]
    # Three days are enough for more than a dozen tries.
    assert sum(pause(n, 1.0) for n in range(1, 12)) < 3 * 86400


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [("", 0), ("7", 7), ("999999999", 100), ("-1", 0), ("soon", 0), ("9" * 20, 0), ("٣", 0)],
)
def test_what_a_receiver_asks_for(given_: str, wanted: float) -> None:
    assert asked_pause_s({"Retry-After": given_}, 100) == wanted
