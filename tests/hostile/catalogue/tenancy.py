"""One caller against another: their jobs, their ids, what their programs left."""

from uuid import UUID, uuid4

import httpx

from tests.hostile.catalogue.files import LEAVE, LOOK
from tests.hostile.entries import Document, Story
from tests.hostile.stage import Stage


def without_ids(answer: httpx.Response) -> tuple[int, Document, list[str]]:
    """What an answer tells, but for the id of its request."""
    document = answer.json()
    document.pop("request_id")
    return answer.status_code, document, sorted(answer.headers)


def ids_of_others(stage: Stage) -> None:
    """A job of another caller is answered exactly like one that never was."""
    theirs = stage.run("print('private')", stage.alice).job["id"]
    number = UUID(theirs).int
    guesses = [theirs, str(UUID(int=number + 1)), str(UUID(int=number - 1)), theirs.upper()]
    guesses += [
        f"{{{theirs}}}",
        f"urn:uuid:{theirs}",
        theirs.replace("-", ""),
        "1",
        "0",
        "%00",
        "..",
        f"{theirs}%20",
    ]
    for below in ("", "/attempts", "/attempts/1"):
        never = without_ids(stage.mallory.get(f"/v1/jobs/{uuid4()}{below}"))
        assert never[0] == 404
        for guess in guesses:
            answer = stage.mallory.get(f"/v1/jobs/{guess}{below}")
            assert "private" not in answer.text
            if guess != "..":  # the client itself resolves it
                status, document, headers = without_ids(answer)
                assert (status, headers) == (never[0], never[2]), guess
                assert document["type"] == "urn:retort:problem:not-found"
        assert without_ids(stage.mallory.get(f"/v1/jobs/{theirs}{below}")) == never
    assert stage.alice.get(f"/v1/jobs/{theirs}").json()["stdout"] == "private\n"


def lists_of_others(stage: Stage) -> None:
    """A list has the caller's jobs alone, whatever the cursor says."""
    label = {"of": uuid4().hex}
    theirs = {stage.run("print(1)", stage.alice, labels=label).job["id"] for _ in range(3)}
    own = stage.run("print(2)").job["id"]
    page = stage.alice.get("/v1/jobs", params={"limit": 1}).json()
    cursors: list[Document] = [{"limit": 200}, {"limit": 200, "cursor": page["next_cursor"]}]
    for parameters in cursors:
        answer = stage.mallory.get("/v1/jobs", params=parameters)
        if answer.status_code == 200:
            ids = {job["id"] for job in answer.json()["jobs"]}
            assert not ids & theirs
    assert own in {job["id"] for job in stage.mallory.get("/v1/jobs", params={"limit": 200}).json()["jobs"]}


def acts_on_others(stage: Stage) -> None:
    """No method on a job of another caller does anything to it."""
    running = stage.submit_soon(stage.alice, {"code": "import time; time.sleep(1.5); print('mine')"})
    label = {"state": "running"}
    found: list[Document] = []
    while not found and not running.done():
        found = stage.alice.get("/v1/jobs", params=label).json()["jobs"]
    assert found, "the job was not seen running"
    path = f"/v1/jobs/{found[0]['id']}"
    for method in ("DELETE", "PUT", "PATCH", "POST"):
        assert stage.mallory.request(method, path).status_code in {404, 405}
    for act in ("cancel", "rerun", "events", "artifacts/x"):
        assert stage.mallory.post(f"{path}/{act}").status_code in {404, 405}
        assert stage.mallory.get(f"{path}/{act}").status_code in {404, 405}
    result = running.result()
    assert (result.job["verdict"], result.job["stdout"]) == ("ok", "mine\n")


#: What a run may leave in a sandbox that is used again, and what the next run looks for.
MARK = (
    LEAVE
    + """
import builtins, gc, json, socket, sys, threading, time
for module in (builtins, json, sys, os): module.marker = 'marker'
os.environ['MARKER'] = 'marker'
sys.path.insert(0, '/tmp'); sys.modules['marker'] = json
open('/tmp/sitecustomize.py', 'w').write('marker = 1')
os.umask(0)
gc.disable()
os.mkfifo('/tmp/fifo'); os.symlink('/work', '/dev/shm/link')
socket.socket(socket.AF_UNIX).bind('\\0marker')
socket.create_server(('127.0.0.1', 7777))
threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
if os.fork() == 0:
    os.setsid()
    open('/proc/self/comm', 'w').write('marker')
    time.sleep(300)
try: os.setxattr('/work', 'user.marker', b'marker')
except OSError: pass
"""
)
SEEK = (
    LOOK
    + """
import builtins, gc, json, socket, sys
seen = [m.__name__ for m in (builtins, json, sys, os) if hasattr(m, 'marker')]
seen += [v for v in os.environ if 'MARKER' in v] + [p for p in sys.path if p == '/tmp'] + [n for n in sys.modules if n == 'marker']
mask = os.umask(0o22)
if mask != 0o22: seen.append(f'umask {mask:o}')
seen += [] if gc.isenabled() else ['gc']
seen += [n for n in os.listdir('/tmp') if n != '.matplotlib'] + os.listdir('/dev/shm') + os.listxattr('/work')
if os.path.isdir('/dev/mqueue'): seen += os.listdir('/dev/mqueue')  # gVisor has none
seen += [p for p in os.listdir('/work') if p != 'main.py']
try: socket.create_connection(('127.0.0.1', 7777)); seen.append('listener')
except OSError: pass
try: socket.socket(socket.AF_UNIX).connect('\\0marker'); seen.append('abstract socket')
except OSError: pass
seen += [p for p in os.listdir('/proc') if p.isdigit() and 'marker' in open(f'/proc/{p}/comm').read()]
print(seen)
"""
)


def marker_in_a_used_cell(stage: Stage) -> None:
    """What a run leaves in every place, the next run of the same caller in the same sandbox does not find."""
    reused = 0
    for _ in range(3):
        assert stage.run(MARK, reuse="caller").job["verdict"] == "ok"
        after = stage.run(SEEK, reuse="caller")
        assert after.job["stdout"] == "[]\n[]\n", after.out + after.err
        reused += after.usage["sandbox_reused"]
    assert reused, "no sandbox was used again"


def hostile_in_a_used_cell(stage: Stage) -> None:
    """A caller's hostile runs spoil no later run of that caller."""
    hostile = (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "while True: print('x' * 999)",
        "x = []\nwhile True: x.append(b'x' * (1 << 20))",
        "import os\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')",
        "import os\nos.chmod('/work', 0); os.kill(-1, 9)",
    )
    for code in hostile:
        stage.run(code, reuse="caller", limits={"timeout_s": 2, "memory_mb": 64, "output_bytes": 4096})
        after = stage.run("print(open('/work/main.py').read()[:5])", reuse="caller")
        assert (after.job["verdict"], after.job["stdout"]) == ("ok", "print\n"), (code, after.job)


ENTRIES = [
    Story("ids_of_others", ids_of_others, fast=True),
    Story("lists_of_others", lists_of_others),
    Story("acts_on_others", acts_on_others),
    Story("marker_in_a_used_cell", marker_in_a_used_cell, keeps=2, fast=True),
    Story("hostile_in_a_used_cell", hostile_in_a_used_cell, keeps=2),
]
