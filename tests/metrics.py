"""docs/metrics.md and what a process exposes, in one form: names with their types and labels."""

import re
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "metrics.md"

_ROW = re.compile(r"\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*?) ?\|")


@dataclass(frozen=True)
class Documented:
    """A row of the document; `section` is the heading above it."""

    section: str
    kind: str
    labels: frozenset[str]


def documented() -> dict[tuple[str, str], Documented]:
    """All rows, by section and name."""
    found, section = {}, ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := _ROW.match(line):
            labels = frozenset(filter(None, row[3].split(", ")))
            found[section, row[1]] = Documented(section, row[2], labels)
    return found


def of_sections(*sections: str) -> dict[str, Documented]:
    """The rows of some sections, by name."""
    return {name: each for (section, name), each in documented().items() if section in sections}


def exposed(text: str) -> dict[str, tuple[str, frozenset[str] | None]]:
    """Type and labels of everything of ours that is exposed; None for the labels where there is no sample."""
    found = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("retort_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {frozenset(sample.labels.keys() - {"le"}) for sample in family.samples}
        assert len(labels) <= 1, (name, labels)
        found[name] = (family.type, next(iter(labels), None))
    return found


def differences(text: str, *sections: str) -> list[str]:
    """What is exposed and not documented so, or documented and not exposed; one sentence each."""
    wanted, got = of_sections(*sections), exposed(text)
    wrong = [f"{name} is not documented" for name in got.keys() - wanted.keys()]
    wrong += [f"{name} is not exposed" for name in wanted.keys() - got.keys()]
    for name in wanted.keys() & got.keys():
        kind, labels = got[name]
        if kind != wanted[name].kind:
            wrong.append(f"{name} is a {kind}")
        if labels is not None and labels != wanted[name].labels:
            wrong.append(f"{name} has the labels {sorted(labels)}")
    return sorted(wrong)
