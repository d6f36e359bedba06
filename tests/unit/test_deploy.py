"""What lies in deploy/: every metric it names exists, with its labels; units are as systemd wants them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import Settings
from scripts.configuration import PARTS
from tests.metrics import documented

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))

#: Names of the language of Prometheus that are followed by no parenthesis.
WORDS = frozenset(
    ["and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool"]
)
#: Of Prometheus itself, and of every client of it.
GIVEN = {
    "up": frozenset({"job"}),
    **{
        f"process_{name}": frozenset({"job", "instance"})
        for name in (
            "cpu_seconds_total",
            "resident_memory_bytes",
            "virtual_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
        )
    },
}
_TEXT = re.compile(r'"(?:\\.|[^"\\])*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_SERIES = re.compile(r"\b([a-z_]\w*)\s*(?:\{([^}]*)\})?(?!\s*\(|\w)")
_RANGE = re.compile(r"\[[^\]]*\]")


def series_of(expression: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The names of metrics in an expression, and the labels by which each is selected."""
    plain = _GROUPING.sub(" ", _RANGE.sub(" ", _TEXT.sub("''", expression)))
    for found in _SERIES.finditer(plain):
        if found[1] not in WORDS:
            yield found[1], frozenset(re.findall(r"(\w+)\s*[=!]", found[2] or ""))


def grouped_by(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    names = {name.strip() for each in _GROUPING.findall(expression) for name in each.split(",")}
    return names - {"le"}


def known() -> dict[str, frozenset[str]]:
    """Every series that can be read, and its labels."""
    found = dict(GIVEN)
    for (_, name), row in documented().items():
        names = [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if row.kind == "histogram" else [name]
        for each in names:
            found[each] = found.get(each, frozenset()) | row.labels | {"job", "instance"}
    return found


def wrong_in(expression: str) -> list[str]:
    """What an expression names that is not there."""
    there = known()
    wrong: list[str] = []
    labels: set[str] = set()
    for name, selected in series_of(expression):
        if name not in there:
            wrong.append(f"{name} is no metric: {expression}")
            continue
        labels |= there[name]
        wrong += [f"{name} has no label {label}" for label in selected - there[name]]
    return wrong + [f"nothing has the label {each}: {expression}" for each in grouped_by(expression) - labels]


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "retort-alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the rows."""
    found = json.loads((DEPLOY / "grafana" / "retort.json").read_text())["panels"]
    return [each for each in found if each["type"] != "row"]


def test_every_alert_names_metrics_that_exist() -> None:
    assert len(alerts()) > 10
    assert [sentence for rule in alerts() for sentence in wrong_in(rule["expr"])] == []
    assert {rule["labels"]["severity"] for rule in alerts()} == {"critical", "warning"}
    assert all(rule["annotations"]["summary"] for rule in alerts())
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())


def test_every_panel_names_metrics_that_exist() -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert len(expressions) > 40
    assert [sentence for expression in expressions for sentence in wrong_in(expression)] == []


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
                assert x < 24


def test_the_dashboard_shows_every_metric_that_only_workers_have() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name, _ in series_of(target["expr"])}
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    wanted = {name for section, name in documented() if section in ("A worker", "The sender of webhooks")}
    seen_elsewhere = {
        "retort_worker_taking",
        "retort_worker_idle_seconds",
        "retort_model_rate",
        "retort_pool_wait_seconds",
        "retort_webhook_send_seconds",
        "retort_webhook_under_way",
    }
    assert wanted - plain == seen_elsewhere


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(retort_no_such_thing)", 1),
        ('retort_workers{colour="red"}', 1),
        ("sum by (colour) (retort_workers)", 1),
        ("rate(retort_http_request_seconds[5m])", 1),
        ('sum by (le, route) (rate(retort_http_request_seconds_bucket{method="GET"}[5m]))', 0),
        ('max(retort_queue_oldest_seconds{queue="no_such_thing"}) > 60', 0),
        ("3600 * sum(rate(retort_model_cost_usd_total[1h])) or vector(0)", 0),
    ],
)
def test_the_look_at_expressions_sees(expression: str, wrong: int) -> None:
    assert len(wrong_in(expression)) == wrong


def test_the_scrape_configuration_loads_the_rules() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["retort-alerts.yml"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets["retort-api"] == [f"127.0.0.1:{Settings.model_fields['port'].default}"]


def values(path: Path, key: str) -> list[str]:
    """Every value of a key in a unit file, which may have it many times."""
    return [line.partition("=")[2] for line in path.read_text().splitlines() if line.startswith(f"{key}=")]


def settings() -> set[str]:
    """Every environment variable that a process of ours reads."""
    return {
        (part.settings.model_config.get("env_prefix", "") + name).upper()
        for part in PARTS
        for name in part.settings.model_fields
    }


HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "User": "retort",
    "UMask": "0077",
}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.stem))
def test_units_are_hardened_and_hold_no_secret(path: Path) -> None:
    for key, value in HARDENED.items():
        assert values(path, key) == [value], key
    credentials = {each.split(":")[0] for each in values(path, "LoadCredential")}
    assert credentials == set(re.findall(r"%d/([\w-]+)", path.read_text()))
    for line in values(path, "Environment"):
        name, _, value = line.partition("=")
        assert name in settings()
        assert value.startswith("%d/") or not re.search("PASSWORD|KEY|SECRET", name)


def test_only_who_runs_programs_has_the_socket_and_only_who_asks_models_the_key() -> None:
    texts = {path.stem: path.read_text() for path in UNITS}
    docker = [name for name, text in texts.items() if "SupplementaryGroups=docker" in text]
    keys = [name for name, text in texts.items() if "gateway-key" in text]
    assert (docker, keys) == (["retort-sandbox-worker"], ["retort-model-worker"])
    assert set(texts) == {
        "retort-api",
        "retort-hooks",
        "retort-migrations",
        "retort-model-worker",
        "retort-sandbox-worker",
    }


@pytest.mark.parametrize("name", ["retort.env.example", "models.env.example"])
def test_examples_name_settings_that_exist(name: str) -> None:
    lines = (DEPLOY / "systemd" / name).read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert names - settings() <= {"PYTHONPATH"}


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """Where there is no systemd, the tests above are what there is."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    for path in UNITS:
        text = path.read_text().replace("/opt/retort/.venv/bin/python", str(python))
        (tmp_path / path.name).write_text(re.sub(r"file:///opt/retort", f"file://{ROOT}", text))
    for other in ("docker.service", "postgresql.service"):
        (tmp_path / other).write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        [verify, "verify", "--man=no", *map(str, sorted(tmp_path.glob("retort-*.service")))],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "retort-" in line]
    assert (done.returncode, told) == (0, []), done.stderr
