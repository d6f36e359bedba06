"""The Python sandbox image: how it is named, built and found, and what is (and is not) in it."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from worker.sandbox import images

ROOT = images.images_root()
GUEST = 1_234_567
SEED = "import shutil; shutil.copytree('/opt/retort/seed/matplotlib', '/tmp/.matplotlib')\n"

LEFTOVERS = """
    /root/.cache /root/.config /tmp/* /var/tmp/* /opt/retort/certs /usr/local/bin/*
    /var/lib/apt/lists/*_* /var/cache/apt/**/*.deb /var/cache/apt/*.bin
    /usr/local/share/ca-certificates/* /etc/ssl/certs/*
    /usr/lib/python3/dist-packages/pip* /usr/local/lib/python3.11/dist-packages/pip
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.fail(f"these tests need a Docker engine and none answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> images.ImageRef:
    return images.build("python", client=engine)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `sandbox-images` to change."""
    copy = tmp_path / "sandbox-images"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv(images.IMAGES_VARIABLE, str(copy))
    return copy


def run(
    engine: docker.DockerClient, image: images.ImageRef, code: str, *options: str, user: int = GUEST
) -> str:
    """Run Python code with a read-only root and no network; fail if it fails or says anything on stderr."""
    container = engine.containers.create(
        image.tag,
        entrypoint=["python3", *options, "-c"],
        command=[code],
        network_mode="none",
        read_only=True,
        user=f"{user}:{user}",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "", "/work": f"uid={user},gid={user}"},
        mem_limit="1g",
        pids_limit=64,
    )
    try:
        container.start()
        status = container.wait(timeout=120)["StatusCode"]
        errors = container.logs(stdout=False, stderr=True).decode(errors="replace")
        assert (status, errors) == (0, "")
        return container.logs(stdout=True, stderr=False).decode()
    finally:
        container.remove(force=True)


def description(engine: docker.DockerClient, image: images.ImageRef) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(engine, image, "print(open('/opt/retort/image.json').read())"))
    return found


# Naming


def test_tag_is_stable(folders: Path) -> None:
    before = images.expected_tag("python")
    assert re.fullmatch(r"retort/python:[0-9a-f]{12}", before)
    os.utime(folders / "python" / "Dockerfile", (1, 1))
    (folders / "python" / "certs" / "mine.crt").write_text("certificates differ between hosts")
    (folders / "runner" / "__pycache__").mkdir()
    (folders / "runner" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert images.expected_tag("python") == before


@pytest.mark.parametrize("changed", ["python/requirements.txt", "python/Dockerfile", "runner/__main__.py"])
def test_tag_follows_content(changed: str, folders: Path) -> None:
    before = images.expected_tag("python")
    with (folders / changed).open("a") as file:
        file.write("# changed\n")
    assert images.expected_tag("python") != before


def test_tag_follows_new_files_and_the_base(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {images.expected_tag("python")}
    (folders / "runner" / "new.py").touch()
    tags.add(images.expected_tag("python"))
    monkeypatch.setenv(images.BASE_VARIABLE, "debian:trixie-slim")
    tags.add(images.expected_tag("python"))
    assert len(tags) == 3


# Building and finding


def test_built_image_resolves(engine: docker.DockerClient, image: images.ImageRef) -> None:
    assert images.resolve("python", engine) == image
    said: list[str] = []
    assert images.build("python", said.append, engine) == image
    assert said == []
    labels = engine.images.get(image.tag).labels
    assert labels["retort.image"] == "python"
    assert image.tag == f"retort/python:{labels['retort.content']}"


def test_missing_image_says_what_to_run(engine: docker.DockerClient, folders: Path) -> None:
    (folders / "runner" / "never_built.py").touch()
    with pytest.raises(images.ImageMissing, match=re.escape(f"{images.BUILD_COMMAND} python")):
        images.resolve("python", engine)


def test_unknown_image(engine: docker.DockerClient) -> None:
    with pytest.raises(images.ImageBuildError, match="there is no image"):
        images.resolve("../python", engine)


def test_failed_build_shows_its_log(engine: docker.DockerClient, image: images.ImageRef, folders: Path) -> None:
    (folders / "python" / "Dockerfile").write_text(
        "ARG BASE_IMAGE=debian:bookworm-slim\nFROM ${BASE_IMAGE}\nRUN echo so far so good && exit 3\n"
    )
    said: list[str] = []
    with pytest.raises(images.ImageBuildError, match=r"(?s)exit 3.*so far so good.*docs/images\.md"):
        images.build("python", said.append, engine)
    assert "so far so good" in said
    with pytest.raises(images.ImageMissing):
        images.resolve("python", engine)


def test_build_without_runner_says_so(engine: docker.DockerClient, folders: Path) -> None:
    shutil.rmtree(folders / "runner")
    with pytest.raises(images.ImageBuildError, match="the runner is missing"):
        images.build("python", lambda _: None, engine)


# Content


def test_every_pinned_package_imports_without_a_word(
    engine: docker.DockerClient, image: images.ImageRef
) -> None:
    """As an unknown user, on a read-only root, with every warning an error."""
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "python/requirements.txt").read_text(), re.MULTILINE)
    )
    modules = "numpy pandas scipy matplotlib.pyplot seaborn sklearn sympy PIL.Image openpyxl"
    code = SEED + (
        "import importlib, importlib.metadata, json\n"
        f"for name in {modules.split()}: importlib.import_module(name)\n"
        f"print(json.dumps({{name: importlib.metadata.version(name) for name in {list(pinned)}}}))"
    )
    assert json.loads(run(engine, image, code, "-W", "error")) == pinned
    wanted = (ROOT / "python/requirements.in").read_text().split()
    assert set(wanted) <= set(pinned)


def test_description(engine: docker.DockerClient, image: images.ImageRef) -> None:
    found = description(engine, image)
    assert found["language"] == "python"
    assert run(engine, image, "import platform; print(platform.python_version())").strip() == found["version"]
    assert images.facts_of(engine.images.get(image.tag).attrs)["packages"] == found["packages"]
    everyday, *heavy = images.recipe_of("python").preload
    assert {"numpy", "pandas"} <= {name for level in heavy for name in level["modules"]} & set(
        found["packages"]
    )
    for level in heavy:
        assert {name.split(".")[0] for name in level["modules"]} <= {"retort_display", *level["mentions"]}
    assert "json" in everyday["mentions"]


def test_preloading_starts_no_thread(engine: docker.DockerClient, image: images.ImageRef) -> None:
    """The waiting interpreter is forked, and a fork keeps one thread only. It starts as the runner does."""
    modules = [name for level in images.recipe_of("python").preload for name in level["modules"]]
    code = SEED + (
        "import importlib, json, os, site, sys\n"
        "site.main()\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "rss = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS'))\n"
        "print(json.dumps([len(os.listdir('/proc/self/task')), rss // 1024]))"
    )
    threads, resident_mb = json.loads(run(engine, image, code, "-I", "-S"))
    assert threads == 1
    assert resident_mb < 250


def test_calculating_starts_no_thread(engine: docker.DockerClient, image: images.ImageRef) -> None:
    code = (
        "import numpy as np, os\na = np.ones((500, 500)); np.linalg.svd(a @ a)\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    assert run(engine, image, code) == "1\n"


def test_fonts_are_known_beforehand(engine: docker.DockerClient, image: images.ImageRef) -> None:
    code = SEED + (
        "import glob, logging, os\n"
        "[cache] = glob.glob('/tmp/.matplotlib/fontlist-*.json')\n"
        "os.utime(cache, (1, 1))\n"
        "said = []\n"
        "handler = logging.Handler(); handler.emit = lambda record: said.append(record.getMessage())\n"
        "logging.getLogger('matplotlib').addHandler(handler)\n"
        "logging.getLogger('matplotlib').setLevel(logging.DEBUG)\n"
        "import matplotlib.font_manager, matplotlib.pyplot as plt\n"
        "plt.title('x'); plt.savefig('/work/x.png')\n"
        "assert os.stat(cache).st_mtime == 1, 'the cache was written again'\n"
        "assert any('Using fontManager instance from' in text for text in said), said\n"
        "assert not any('font search path' in text or 'Generat' in text for text in said), said\n"
        "print(os.listdir('/work'))"
    )
    assert run(engine, image, code) == "['x.png']\n"


def test_no_setuid_nor_setgid(engine: docker.DockerClient, image: images.ImageRef) -> None:
    code = (
        "import os\n"
        "for folder, folders, files in os.walk('/'):\n"
        "    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys', '/dev')]\n"
        "    for name in [*folders, *files]:\n"
        "        path = os.path.join(folder, name)\n"
        "        if os.lstat(path).st_mode & 0o6000: print(path)\n"
        "        if 'security.capability' in os.listxattr(path, follow_symlinks=False): print(path)\n"
    )
    assert run(engine, image, code, user=0) == ""


def test_nothing_of_the_host_or_the_build_is_left(engine: docker.DockerClient, image: images.ImageRef) -> None:
    code = (
        "import glob, os\n"
        f"for pattern in {LEFTOVERS.split()}:\n"
        "    for path in glob.glob(pattern, recursive=True): print(path)\n"
        "for folder, folders, files in os.walk('/'):\n"
        "    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys', '/dev')]\n"
        "    for path in (os.path.join(folder, name) for name in files):\n"
        "        if os.path.isfile(path) and os.path.getsize(path) < 1_000_000:\n"
        "            if b'-----BEGIN CERTIFICATE-----\\n' in open(path, 'rb').read(): print(path)\n"
    )
    assert run(engine, image, code, user=0) == ""
    history = json.dumps(engine.images.get(image.tag).history())
    assert "PIP_" not in history
    assert "_PROXY=" not in history.upper()


def test_all_bytecode_is_there(engine: docker.DockerClient, image: images.ImageRef) -> None:
    code = (
        "import glob, importlib.util, os\n"
        "for root in ('/usr/local/lib/python3.11/dist-packages', '/opt/retort'):\n"
        "    for path in glob.glob(root + '/**/*.py', recursive=True):\n"
        "        if not os.path.exists(importlib.util.cache_from_source(path)): print(path)\n"
    )
    assert run(engine, image, code) == ""


def test_how_the_runner_is_started(engine: docker.DockerClient, image: images.ImageRef) -> None:
    config = engine.images.get(image.tag).attrs["Config"]
    assert config["Entrypoint"] == ["python3", "/opt/retort/__main__.py"]
    assert config["WorkingDir"] == "/work"
    assert not config["User"]
    assert {"HOME=/work", "LANG=C.UTF-8", "MPLCONFIGDIR=/tmp/.matplotlib"} <= set(config["Env"])
    assert not config.get("Volumes")
    assert not config.get("ExposedPorts")
