"""Settings of gateways: what is taken, what is refused, and that no key is ever shown."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import load_catalogue
from worker.model.check import overdue
from worker.model.gateways import Deadlines, Gateways, GatewaySettings, load_gateways
from worker.model.keys import GatewayError, Key, is_placeholder

KEY = "hs_0123456789abcdefghijklmnopqrstuvw"
URL = "https://gateway.example/v1"
CATALOGUE = load_catalogue()


def load(environ: dict[str, str] | None = None, **settings: Any) -> Gateways:
    """The gateways of these settings and this environment."""
    return load_gateways(GatewaySettings(**settings), CATALOGUE, environ or {})


def from_file(tmp_path: Path, text: str, **environ: str) -> Gateways:
    """The gateways of a file."""
    file = tmp_path / "gateways.toml"
    file.write_text(text)
    return load({"KEY": KEY, **environ}, gateways=file)


def test_none_is_none() -> None:
    assert not load()
    assert load().serving("gpt-4.1") == ()


def test_one_gateway_for_every_model() -> None:
    gateways = load(gateway_url=f"{URL}/", gateway_key=KEY, gateway_key_prefix="hs_", gateway_key_length=32)
    (gateway,) = gateways.all
    assert (gateway.name, gateway.url, gateway.dialect) == ("default", URL, "openai")
    assert set(gateway.models) == set(CATALOGUE.models)
    assert gateway.key == Key(KEY)
    assert gateways.serving("sonnet-4") == (gateway,)
    assert gateway.models["claude-sonnet-4-5"].drops == {"top_p"}


def test_an_anthropic_endpoint_serves_its_vendors_models(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    (gateway,) = load(gateway_url=URL, gateway_dialect="anthropic", gateway_key_file=file).all
    assert gateway.models
    assert all(CATALOGUE.get(name).provider == "anthropic" for name in gateway.models)


def test_models_of_one_gateway_by_variable() -> None:
    gateways = load(gateway_url=URL, gateway_key_length=0, gateway_models="haiku-4, my-model=local/mine")
    served = gateways.all[0].models
    assert {name: each.wire for name, each in served.items()} == {
        "claude-haiku-4-5": "claude-haiku-4-5",
        "my-model": "local/mine",
    }
    assert gateways.all[0].key is None
    assert gateways.catalogue.get("my-model").listed is False


FULL = """
[gateways.direct]
url = "https://one.example"
dialect = "anthropic"
key_env = "KEY"
models = ["sonnet-4", "haiku-4"]
deadlines = { connect_s = 2, total_s = 60.5 }
temperature_range = false
stream = false

[gateways.proxy]
url = "https://two.example/v1"
key_env = "OTHER"
key_prefix = "sk-"
price_table = "documents"
currency = "CNY"
usd_per_unit = "0.137"
max_tokens_field = "max_completion_tokens"
limits = { rpm = 600 }

[gateways.proxy.models]
"gpt-4.1" = "azure/gpt-4.1"
"sonnet-4" = { wire = "bedrock/sonnet", drops = ["temperature"] }
"house-model" = "house"

[gateways.proxy.prices]
"gpt-4.1" = { all = "1.00" }

[gateways.proxy.model_limits."gpt-4.1"]
rpm = 10
tpm = 5000
burst = 2
"""


def test_several_gateways(tmp_path: Path) -> None:
    gateways = from_file(tmp_path, FULL, OTHER="sk-0123456789abcdefghij")
    direct, proxy = gateways.all
    assert gateways.serving("sonnet-4") == (direct, proxy)
    assert gateways.serving("gpt-4.1") == (proxy,)
    assert direct.deadlines == Deadlines(connect_s=2, total_s=60.5)
    assert (direct.temperature_range, direct.stream, proxy.temperature_range) == (None, False, (0.0, 1.0))
    assert proxy.models["claude-sonnet-4-20250514"].wire == "bedrock/sonnet"
    assert proxy.models["claude-sonnet-4-20250514"].drops == {"temperature"}
    assert proxy.max_tokens_field == "max_completion_tokens"
    price = gateways.catalogue.price("gpt-4.1", proxy.prices)
    other = gateways.catalogue.price("sonnet-4", proxy.prices)
    assert price is not None
    assert other is not None
    assert (str(price.input), price.currency, str(price.usd_per_unit)) == ("1.00", "CNY", "0.137")
    assert (str(other.input), other.currency) == ("3.00", "USD")
    model = gateways.catalogue.get("gpt-4.1")
    assert [(b.name, b.rpm, b.tpm, b.burst) for b in proxy.buckets_for(model)] == [
        ("proxy/gateway", 600, None, None),
        ("proxy/model:gpt-4.1", 10, 5000, 2),
    ]
    assert [bucket.name for bucket in direct.buckets_for(gateways.catalogue.get("haiku-4"))] == [
        "direct/provider:anthropic",
        "direct/bucket:haiku",
    ]


def test_what_is_told_of_gateways_has_no_keys_and_no_addresses(tmp_path: Path) -> None:
    gateways = from_file(tmp_path, FULL, OTHER="sk-0123456789abcdefghij")
    told = repr(gateways.facts())
    assert "example" not in told
    assert "0123456789" not in told + repr(gateways)
    assert gateways.facts()[1]["prices"]["gpt-4.1"]["currency"] == "CNY"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gateway_url": URL}, "RETORT_GATEWAY_KEY or RETORT_GATEWAY_KEY_FILE"),
        ({"gateway_url": URL, "gateway_key": ""}, "empty; set RETORT_GATEWAY_KEY"),
        ({"gateway_url": URL, "gateway_key": "hs_0123456789a"}, "appears truncated: it has 14 characters"),
        ({"gateway_url": URL, "gateway_key": KEY[:31], "gateway_key_length": 32}, "appears truncated"),
        (
            {"gateway_url": URL, "gateway_key": "sk_" + KEY[3:], "gateway_key_prefix": "hs_"},
            "must begin with 'hs_'",
        ),
        ({"gateway_url": URL, "gateway_key": "YOUR_GATEWAY_API_KEY"}, "placeholder"),
        ({"gateway_url": URL, "gateway_key": KEY + "\u00e4"}, "beyond ASCII"),
        ({"gateway_url": URL, "gateway_key": KEY + "\r\nX-Evil: 1"}, "blanks"),
        ({"gateway_url": URL, "gateway_key": KEY, "gateway_key_file": "/x"}, "both set; keep one"),
        ({"gateway_url": URL, "gateway_key_file": "/does/not/exist"}, "No such file"),
        ({"gateway_url": URL, "gateways": "/x"}, "both set; keep one"),
        ({"gateway_key": KEY}, "no RETORT_GATEWAY_URL"),
        ({"gateways": "/does/not/exist"}, "cannot be read"),
        ({"gateway_url": "gateway.example", "gateway_key": KEY}, "https://"),
        ({"gateway_url": "file:///etc/passwd", "gateway_key": KEY}, "https://"),
        ({"gateway_url": "https://me:pass@gateway.example", "gateway_key": KEY}, "no user, password"),
        ({"gateway_url": "http://[", "gateway_key": KEY}, "https://"),
    ],
)
def test_wrong_settings_name_the_variable_and_show_no_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GatewayError, match=message) as error:
        load(**settings)
    shown = str(error.value)
    assert "0123456789" not in shown
    assert "pass@" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold tables"),
        ("x = 1", "must hold tables"),
        ('[gateways.a]\nkey = "hs_01234567890123456789"', "does not belong here"),
        ("[gateways.a]", "url is missing"),
        ('[gateways.a]\nurl = "http://h"', "name a variable with key_env"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "NOT_SET"', "there is no key; set NOT_SET"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\ncolour = 1', "unknown colour"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\ndialect = "latin"', "openai or anthropic"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nmodels = []', "models is empty"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nmodels = "gpt-4.1"', "list of names or a table"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nmodels = { m = 1 }', "the gateway's name of it"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nprice_table = "x"', "tables are documents"),
        (
            '[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nprices = { z = { all = 1 } }',
            "neither in the catalogue",
        ),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\ndeadlines = { total_s = 0 }', "above 0"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\ntemperature_range = [1, 0]', "two numbers"),
        ('[gateways.a]\nurl = "http://h"\nkey_env = "KEY"\nlimits = { rps = 1 }', "rpm, tpm and burst"),
        ('[gateways."a b"]\nurl = "http://h"', "a name has letters"),
        ("[gateways", "cannot be read"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GatewayError, match=message):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    "key",
    [
        "YOUR_API_KEY", "YOUR_GATEWAY_API_KEY", "your-key-here", "<your key>", "${MODEL_API_KEY}", "$A_KEY",
        "{{ key }}", "[key]", "%KEY%", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "hs_XXXXXXXXXXXXXXXXXXXXXXXX", "changeme",
        "change-me-please-1234567890", "REPLACE_ME_0123456789abcdef", "insert-api-key-here", "sk-...", "sk-…",
        "api_key", "API-KEY", "none", "null", "placeholder-placeholder", "hs_00000000000000000000000000000000",
        "sk-ant-********************", "example-key-0123456789012345", "my_secret_token_goes_here_ok", "TODO",
    ],
)  # fmt: skip
def test_placeholders(key: str) -> None:
    assert is_placeholder(key)


@given(
    st.text("0123456789abcdef", min_size=32, max_size=64), st.sampled_from(["", "sk-", "hs_", "sk-ant-api03-"])
)
def test_random_keys_are_no_placeholders(body: str, prefix: str) -> None:
    assert not is_placeholder(prefix + body) or len(set(body)) <= 2


@given(st.text("0123456789abcdef", min_size=20, max_size=40), st.text(), st.text())
def test_a_key_is_taken_out_of_any_text(body: str, before: str, after: str) -> None:
    key = Key(f"hs_{body}")
    assert key.reveal() not in key.redact(f"{before}{key.reveal()}{after}")
    assert key.reveal() not in f"{key!r} {key}"


def test_figures_are_to_be_reviewed_each_quarter() -> None:
    gateways = load(gateway_url=URL, gateway_key_length=0, gateway_models="gpt-4.1, my-model")
    price = CATALOGUE.price("gpt-4.1")
    assert price is not None
    assert price.checked is not None
    assert overdue(gateways, price.checked + timedelta(days=92)) is None
    reminder = overdue(gateways, price.checked + timedelta(days=93))
    assert reminder is not None
    assert reminder.startswith("review the prices and accuracy figures of gpt-4.1: ")
    assert str(price.checked) in reminder
