"""docker-compose.yml brought up for real: jobs end, no process has too much, a worker's death loses nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from tests.e2e.composed import SERVICE, Composed, composed, instance
from tests.harness import eventually

# The first time the images are built, which takes minutes.
pytestmark = pytest.mark.timeout(1800)

SETTINGS = {
    "RETORT_SANDBOX_IMAGES": "python",
    "RETORT_WARM_LANGUAGES": "python",
    "RETORT_WARM_LEAST": "1",
    "RETORT_WARM_MOST": "2",
    "RETORT_JOBS": "4",
    "RETORT_GATEWAY_URL": "http://scripted:4010/v1",
    "RETORT_GATEWAY_MODELS": "gpt-4.1",
    "RETORT_GATEWAY_KEY_FILE": "/run/gateways/key",
}
OURS = {"api", "migrations", "images", "sandbox-worker", "model-worker", "webhook-worker"}
ALL = OURS | {"postgres", "valkey", "scripted"}
JOBS = 30

# What a process in a container can get at: what it can connect to and read, not what it was told.
REACH = """
import concurrent.futures, json, os, pathlib, socket
def answers(family, address):
    with socket.socket(family) as s:
        s.settimeout(1)
        try:
            s.connect(address)
        except ConnectionRefusedError:
            return True  # somebody is there
        except OSError:
            return False
        return True
others = %r
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    there = list(pool.map(lambda other: answers(socket.AF_INET, (other[1], other[2])), others))
text = pathlib.Path("/proc/1/environ").read_bytes() + pathlib.Path("/proc/1/cmdline").read_bytes()
for base in ("/run", "/tmp", "/etc", "/var/lib/retort"):
    for folder, _, names in os.walk(base):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and os.access(path, os.R_OK):
                text += pathlib.Path(path).read_bytes()
print(json.dumps({
    "socket": answers(socket.AF_UNIX, "/var/run/docker.sock"),
    "key": %r in text.decode(errors="replace"),
    "names": sorted({other[0] for other, is_there in zip(others, there) if is_there}),
}))
"""
PORTS = {"postgres": 5432, "valkey": 6379, "api": 8000, "scripted": 4010}


@pytest.fixture(scope="module")
def service(
    engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """The whole service with three sandbox workers."""
    with composed(engine, tmp_path_factory.mktemp("compose"), SETTINGS, workers=3) as made:
        yield made


@pytest.fixture(scope="module")
def client(service: Composed) -> Iterator[httpx.Client]:
    """Somebody with an API key."""
    with service.client() as made:
        yield made


def ended(client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
    """A job at its end."""
    answer = client.post("jobs", json=request, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_a_program_ends(client: httpx.Client) -> None:
    job = ended(client, {"code": "print(sum(range(101)))"})
    assert (job["verdict"], job["stdout"]) == ("ok", "5050\n")


def test_a_task_ends(client: httpx.Client) -> None:
    job = ended(client, {"task": "[scripted:right] greet", "model": "gpt-4.1"})
    assert (job["verdict"], job["outcome"], job["scripted"]) == ("ok", "ran", True)
    assert "hello from the scripted model" in job["stdout"]


def test_a_file_that_a_worker_stored_is_read_by_the_api(client: httpx.Client) -> None:
    job = ended(client, {"code": "open('made.txt', 'w').write('by the program')"})
    (artifact,) = job["artifacts"]
    assert artifact["name"] == "made.txt"
    assert client.get(f"jobs/{job['id']}/artifacts/made.txt").text == "by the program"


def test_each_worker_is_an_instance_of_its_own(service: Composed) -> None:
    workers = service.of("sandbox-worker")
    assert len({instance(worker) for worker in workers}) == len(workers) == 3
    known = {name for (name,) in service.query("SELECT instance FROM workers")}
    assert {instance(worker) for worker in workers} <= known
    assert all(service.cells(instance(worker)) for worker in workers)


def test_nothing_is_privileged(service: Composed) -> None:
    containers = service.containers()
    assert {each.labels[SERVICE] for each in containers} == ALL
    for each in containers:
        host = each.attrs["HostConfig"]
        assert not host["Privileged"], each.name
        assert not host["CapAdd"], each.name
        assert host["CapDrop"] == ["ALL"], each.name
        assert "no-new-privileges:true" in host["SecurityOpt"], each.name
        assert not [option for option in host["SecurityOpt"] if "unconfined" in option], each.name
        assert host["ReadonlyRootfs"], each.name
        assert not host["Devices"], each.name
        assert "host" not in {host["NetworkMode"], host["PidMode"], host["UsernsMode"], host["IpcMode"]}
        assert host["Memory"] > 0, each.name
        if each.labels[SERVICE] != "scripted":
            assert host["NanoCpus"] > 0, each.name
            assert host["PidsLimit"] > 0, each.name
        assert each.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root"), each.name


def test_no_process_is_root(service: Composed) -> None:
    for each in running(service):
        found = each.top(ps_args="-eo pid,uid")
        column = found["Titles"].index("UID")
        assert found["Processes"], each.name
        assert all(int(process[column]) != 0 for process in found["Processes"]), (each.name, found)


def test_no_process_has_both_the_docker_socket_and_a_key_or_reaches_another(service: Composed) -> None:
    """Each process can get at what it needs, and the holders of socket and keys not at each other."""
    everyone = [
        (each.labels[SERVICE], network["IPAddress"], PORTS.get(each.labels[SERVICE], 9))
        for each in running(service)
        for network in each.attrs["NetworkSettings"]["Networks"].values()
    ]
    found = {}
    for name in ("api", "sandbox-worker", "model-worker", "webhook-worker"):
        container = service.of(name)[0]
        own = {network["IPAddress"] for network in container.attrs["NetworkSettings"]["Networks"].values()}
        others = [entry for entry in everyone if entry[1] not in own]
        found[name] = service.inside(container, REACH % (others, service.gateway_key))
    assert found == {
        "api": {"socket": False, "key": False, "names": ["postgres", "valkey"]},
        "model-worker": {"socket": False, "key": True, "names": ["postgres", "scripted", "valkey"]},
        "sandbox-worker": {"socket": True, "key": False, "names": ["postgres", "sandbox-worker", "valkey"]},
        "webhook-worker": {"socket": False, "key": False, "names": ["postgres"]},
    }
    for each in running(service):  # also those without Python: they are given neither
        mounts = {mount["Destination"] for mount in each.attrs["Mounts"]}
        assert ("/var/run/docker.sock" in mounts) == (each.labels[SERVICE] == "sandbox-worker"), each.name
        assert ("/run/gateways" in mounts) == (each.labels[SERVICE] == "model-worker"), each.name


def test_the_sandbox_workers_have_no_way_out(service: Composed) -> None:
    for worker in service.of("sandbox-worker"):
        (network,) = worker.attrs["NetworkSettings"]["Networks"]
        assert service.engine.networks.get(network).attrs["Internal"], network


def test_no_secret_is_in_an_environment_or_a_command_line(service: Composed) -> None:
    secrets = [*service.passwords, service.gateway_key]
    for each in service.containers():
        told = str(each.attrs) + each.logs().decode(errors="replace")
        if each.status == "running":
            told += str(each.top(ps_args="-eo pid,args"))
        assert not [secret for secret in secrets if secret in told], each.name


def test_a_worker_killed_under_load_loses_nothing(service: Composed, client: httpx.Client) -> None:
    victim = service.of("sandbox-worker")[0]
    program = "import sys, time; time.sleep(1); print(sys.argv[1])"

    def submit(number: int) -> str:
        answer = client.post("jobs", json={"code": program, "args": [str(number)]})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(submit, range(JOBS)))
    name = instance(victim)
    having = f"SELECT id FROM jobs WHERE state = 'running' AND leased_by = '{name}'"  # noqa: S608
    eventually(lambda: len(service.query(having)) >= 2, "the worker runs jobs")
    victim.kill("SIGKILL")
    held = {row[0] for row in service.query(having)}
    assert held
    unfinished = "SELECT count(*) FROM jobs WHERE state <> 'finished'"
    eventually(lambda: service.query(unfinished) == [["0"]], "all jobs have ended", within_s=120)
    for number, job_id in enumerate(ids):
        job = client.get(f"jobs/{job_id}").json()
        assert (job["verdict"], job["stdout"]) == ("ok", f"{number}\n"), job
        results = [attempt for attempt in job["attempts"] if attempt["verdict"] is not None]
        assert len(results) == 1, job["attempts"]
        assert (len(job["attempts"]) > 1) == (job_id in held), job["attempts"]  # the lost run is told, too

    # Its sandboxes have ended with it; it removes them when it is there again, and works again.
    [[before]] = service.query("SELECT now()")
    victim.start()
    back = f"SELECT instance FROM workers WHERE ready AND seen_at > '{before}'"  # noqa: S608
    eventually(lambda: [name] in service.query(back), "the worker is back", within_s=120)
    assert "exited" not in service.cells(name).values()


def test_down_leaves_nothing(service: Composed) -> None:
    assert service.left()
    service.down()
    assert service.left() == []


def running(service: Composed) -> list[Container]:
    """The containers that have processes."""
    found = [each for each in service.containers() if each.status == "running"]
    assert {each.labels[SERVICE] for each in found} == ALL - {"migrations", "images"}
    return found
