"""A request as people would send it from a terminal or a program."""

import shlex
from pprint import pformat
from typing import Any

import orjson

#: Fields that mean the same when they are left out.
_USUAL: dict[str, Any] = {
    "profile": "standard",
    "stdin": "",
    "args": [],
    "env": {},
    "labels": {},
    "reuse": "never",
    "priority": "interactive",
    "cache": False,
    "larger_profile": False,
    "model": "auto",
}


def of(url: str, body: dict[str, Any]) -> dict[str, str]:
    """How to ask for the same with curl and with Python; the key comes from the environment.

    >>> print(of("http://localhost", {"code": "print('a')", "stdin": "", "limits": {"cpu_s": None}})["curl"])
    curl -s http://localhost/v1/jobs -H "Authorization: Bearer $RETORT_API_KEY" \\
      -H "Prefer: wait=30" -H "Content-Type: application/json" \\
      -d '{"code":"print('"'"'a'"'"')"}'
    """
    short = _short(body)
    curl = (
        f'curl -s {shlex.quote(url + "/v1/jobs")} -H "Authorization: Bearer $RETORT_API_KEY" \\\n'
        '  -H "Prefer: wait=30" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(orjson.dumps(short).decode())}"
    )
    python = (
        "import os\n\nimport httpx\n\n"
        f"job = {pformat(short, sort_dicts=False, width=100)}\n"
        'headers = {"Authorization": f"Bearer {os.environ[\'RETORT_API_KEY\']}", "Prefer": "wait=30"}\n'
        f"answer = httpx.post({url + '/v1/jobs'!r}, json=job, headers=headers, timeout=60)\n"
        "answer.raise_for_status()\n"
        'print(answer.json()["verdict"], answer.json()["stdout"])\n'
    )
    return {"curl": curl, "Python": python}


def _short(body: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in body.items() if name not in _USUAL or value != _USUAL[name]}
    limits = {name: value for name, value in body.get("limits", {}).items() if value is not None}
    found.pop("limits", None)
    return found | ({"limits": limits} if limits else {})
