"""What goes into a sandbox image's build: context, certificates, mirrors, and the base without a registry."""

import os
import tarfile
from pathlib import Path

import pytest

from worker.sandbox import base
from worker.sandbox.context import Content, build_context, extra_authorities, package_arguments

PEM = "-----BEGIN CERTIFICATE-----\r\nMIIB\r\n-----END CERTIFICATE-----\r\n"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A small image folder and a small runner."""
    for name in ("image/certs", "runner/pack", "runner/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("image/Dockerfile", "runner/__main__.py", "runner/pack/a.py", "runner/__pycache__/a.pyc"):
        (tmp_path / name).write_text(name)
    return tmp_path


def content(folders: Path) -> Content:
    """What is there, and a file made of nothing."""
    return Content.of([folders / "image"], {"runner": folders / "runner"}, {"rendered/x": b"x"})


def test_context_holds_image_runner_and_certificates(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sandbox.context.extra_authorities", lambda _: [])
    (folders / "image/certs/mine.crt").write_text(PEM)
    with (
        build_context(content(folders), [folders / "image/certs"], lambda _: None) as file,
        tarfile.open(fileobj=file) as tar,
    ):
        assert tar.getnames() == [
            "Dockerfile", "runner/__main__.py", "runner/pack/a.py", "rendered/x",
            "certs/.gitkeep", "certs/host-0.crt",
        ]  # fmt: skip


def test_context_is_the_same_twice(folders: Path) -> None:
    """Else the engine's layer cache would never hit."""
    contents = []
    for _ in range(2):
        with build_context(content(folders), [], lambda _: None) as context:
            contents.append(context.read())
        for path in folders.rglob("*"):
            os.utime(path, (5, 5))
    assert contents[0] == contents[1]


def test_context_needs_the_runner(folders: Path) -> None:
    (folders / "runner/__main__.py").unlink()
    with (
        pytest.raises(FileNotFoundError, match="the runner is missing"),
        build_context(content(folders), [], lambda _: None),
    ):
        pass


def test_extra_authorities(tmp_path: Path) -> None:
    """The administrator's folder and the named bundles, each certificate once."""
    local = tmp_path / "local"
    local.mkdir()
    (local / "a.crt").write_text(PEM)
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("# a comment\n" + PEM + PEM.replace("MIIB", "MIIC"))
    found = extra_authorities({"PIP_CERT": str(bundle), "SSL_CERT_FILE": "/nowhere"}, local)
    assert [b"MIIB" in item for item in found] == [True, False]
    assert all(b"\r" not in item for item in found)
    assert extra_authorities({}, tmp_path / "none") == []


def test_mirrors_and_proxies_reach_the_build() -> None:
    environment = {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "https_proxy": "http://proxy.example:3128",
        "X": "y",
    }
    assert package_arguments(environment) == (
        {"PIP_INDEX_URL": "https://mirror.example/simple", "https_proxy": "http://proxy.example:3128"},
        None,
    )
    assert package_arguments({"NO_PROXY": "localhost", "PIP_TRUSTED_HOST": "localhost"})[1] is None


@pytest.mark.parametrize("url", ["http://localhost:3141/simple", "http://127.0.0.1:8080/", "http://[::1]:1/"])
def test_what_listens_on_loopback_needs_the_hosts_network(url: str) -> None:
    assert package_arguments({"PIP_INDEX_URL": url})[1] == "host"


@pytest.mark.parametrize(
    "tag", ["debian:bookworm-slim", "debian:bookworm", "docker.io/library/debian:bookworm-slim"]
)
def test_suite_of_a_tag(tag: str) -> None:
    assert base.suite_of(tag) == "bookworm"


@pytest.mark.parametrize("tag", ["python:3.12-slim", "debian", "debian:bookworm-slim;x", "ubuntu:noble"])
def test_other_images_cannot_be_bootstrapped(tag: str) -> None:
    with pytest.raises(base.BaseImageError, match="docker load"):
        base.suite_of(tag)


def test_without_tools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(base.BaseImageError, match="apt-get install mmdebstrap"):
        base._find_tool("bookworm", lambda _: None)
