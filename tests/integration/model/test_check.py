"""`retort models check` and the check it starts: what works, what does not, and what to do about it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import KEY, scripted_process

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scripted model that takes one key alone."""
    with scripted_process(tmp_path_factory.mktemp("scripted") / "log", "--key", KEY.reveal()) as base:
        yield base


def check(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings and no others."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RETORT_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "retort.cli.main", "models", "check", *options],
        env={**environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def gateways(folder: Path, url: str) -> str:
    """A file with a gateway that works and two that do not."""
    file = folder / "gateways.toml"
    file.write_text(f"""
[gateways.good]
url = "{url}"
key_env = "GOOD"
models = ["gpt-4.1", "house-model"]

[gateways.bad]
url = "{url}"
dialect = "anthropic"
key_env = "BAD"
models = ["sonnet-4"]

[gateways.gone]
url = "http://127.0.0.1:9/v1"
key_length = 0
models = ["deepseek-v3.2"]
""")
    return str(file)


def test_each_model_of_each_gateway_is_asked(url: str, tmp_path: Path) -> None:
    wrong = "hs_9876543210zyxwvutsrqponmlkjihgfedcba"
    settings = {"RETORT_GATEWAYS": gateways(tmp_path, url), "GOOD": KEY.reveal(), "BAD": wrong}
    done = check(**settings)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok    gpt-4.1 at good: scripted/gpt-4.1") and "$0.0" in line for line in lines)
    assert any(line.startswith("ok    house-model at good") and "price unknown" in line for line in lines)
    assert any(line.startswith("FAIL  deepseek-v3.2 at gone: connection") for line in lines)
    failed = next(
        n for n, line in enumerate(lines) if line.startswith("FAIL  claude-sonnet-4-20250514 at bad: auth")
    )
    assert [line.strip()[:2] for line in lines[failed + 1 : failed + 4]] == ["1.", "2.", "3."]
    assert "key valid" in lines[failed + 1]
    shown = done.stdout + done.stderr
    assert wrong not in shown
    assert KEY.reveal() not in shown

    found = [json.loads(line) for line in check("--json", **settings).stdout.splitlines()]
    assert {(each["gateway"], each["works"]) for each in found} == {
        ("good", True),
        ("bad", False),
        ("gone", False),
    }
    assert all(each["scripted"] for each in found if each["works"])


def test_all_well(url: str) -> None:
    done = check(RETORT_GATEWAY_URL=url, RETORT_GATEWAY_KEY=KEY.reveal(), RETORT_GATEWAY_MODELS="gpt-4.1")
    assert done.returncode == 0
    assert [line[:14] for line in done.stdout.splitlines()] == ["ok    gpt-4.1 "]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no gateway is configured; set RETORT_GATEWAY_URL"),
        (
            {"RETORT_GATEWAY_URL": "https://gateway.example/v1"},
            "set RETORT_GATEWAY_KEY or RETORT_GATEWAY_KEY_FILE",
        ),
        ({"RETORT_CATALOGUE": "/does/not/exist"}, "/does/not/exist"),
    ],
)
def test_nothing_to_ask(settings: dict[str, str], said: str) -> None:
    done = check(**settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
