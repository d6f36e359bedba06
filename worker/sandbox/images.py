"""Build and find the sandbox images: the only code that does.

An image's tag is a hash of what goes into it, so a changed package, runner or Dockerfile means a new tag and
everything else is reused:

    python -m worker.sandbox.images build        # every image, skips what is there
    python -m worker.sandbox.images list
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import sys
import tarfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors

from worker.sandbox.base import BaseImageError, Progress, ensure_base
from worker.sandbox.context import Content, build_context, package_arguments
from worker.sandbox.recipe import Recipe, RecipeError, read_recipe

IMAGES_VARIABLE = "RETORT_IMAGES_DIR"
BASE_VARIABLE = "RETORT_BASE_IMAGE"
BUILD_COMMAND = "python -m worker.sandbox.images build"
DESCRIPTION = "/opt/retort/image.json"
FACTS_LABEL = "retort.facts"
LOG_TAIL = 30

#: Images that are built at the same time.
AT_ONCE = 2

#: Held while a base image is looked for, which several images may share.
_BASES = threading.Lock()
BUILD_SILENCE_S = 600


class ImageBuildError(Exception):
    """An image could not be built; the message has the end of the log and what to do."""


class ImageMissing(Exception):
    """The engine lacks the image that this version of the code needs; the message has the command to run."""


@dataclass(frozen=True)
class ImageRef:
    """An image that the engine has."""

    name: str
    """The folder below `sandbox-images`, such as `python`."""
    tag: str
    """What containers are created from, such as `retort/python:0123456789ab`."""


def images_root() -> Path:
    """Return the folder of the images: `sandbox-images` of the repository, or `RETORT_IMAGES_DIR`."""
    default = Path(__file__).resolve().parents[2] / "sandbox-images"
    return Path(os.environ.get(IMAGES_VARIABLE) or default)


def image_names(*, optional: bool = False) -> list[str]:
    """Return the names of all images, the folders with an image.toml; `optional`: also those built if asked."""
    names = sorted(path.parent.name for path in images_root().glob("*/image.toml"))
    return [name for name in names if optional or not recipe_of(name).optional]


def recipe_of(name: str) -> Recipe:
    """Return what the image's image.toml says."""
    try:
        return read_recipe(_folder(name))
    except RecipeError as error:
        raise ImageBuildError(str(error)) from error


def bases_of(name: str) -> tuple[str, ...]:
    """Return the names of base images that will do, the most wanted first.

    `RETORT_BASE_IMAGE` (of the image `python`) or `RETORT_BASE_IMAGE_NAME` (of others) goes before all.
    """
    recipe = recipe_of(name)
    if recipe.extends is not None:
        return (expected_tag(recipe.extends),)
    variable = (
        BASE_VARIABLE if name == "python" else f"{BASE_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
    )
    if chosen := os.environ.get(variable):
        return (chosen,)
    if recipe.bases:
        return recipe.bases
    dockerfile = dict(_content(name).files)["Dockerfile"]
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    if found is None:
        raise ImageBuildError(f"the Dockerfile of {name} has no line ARG BASE_IMAGE=…")
    return (found[1],)


def _folders(name: str) -> list[Path]:
    """The image's folder, and those of the image that it is like, and so on."""
    like = recipe_of(name).like
    own = _folder(name)
    return [own, *(_folders(like) if like and like != name else [])]


def _content(name: str) -> Content:
    root = images_root()
    shared = {"runner": root / "runner", "common": root / "common"}
    return Content.of(_folders(name), shared, recipe_of(name).rendered())


def content_hash(name: str) -> str:
    """Return the hash, 12 hex digits, of all that goes into the image, and of the names of its base images."""
    return _content(name).digest(" ".join(bases_of(name)))[:12]


def expected_tag(name: str) -> str:
    """Return the tag that the image has when it is built from the folders as they are now; asks no engine."""
    return f"retort/{name}:{content_hash(name)}"


def mentions(name: str) -> tuple[str, ...]:
    """Return the words whose appearance in a program makes the image's preloaded packages worth having."""
    return recipe_of(name).mentions


def resolve(name: str, client: docker.DockerClient | None = None) -> ImageRef:
    """Return the image as it must be now; raise ImageMissing if the engine does not have it."""
    tag = expected_tag(name)
    try:
        (client or docker.from_env()).images.get(tag)
    except docker.errors.ImageNotFound:
        raise ImageMissing(f"the sandbox image {tag} is not built: run `{BUILD_COMMAND} {name}`") from None
    return ImageRef(name, tag)


def build(
    name: str, progress: Progress = print, client: docker.DockerClient | None = None, *, force: bool = False
) -> ImageRef:
    """Return the image, building it if the engine lacks it; `force` builds anew without any cache.

    The log goes to `progress` line by line. Raises ImageBuildError.
    """
    engine = client or docker.from_env()
    tag = expected_tag(name)
    if not force:
        try:
            return resolve(name, engine)
        except ImageMissing:
            progress(f"building {tag}")
    started = time.monotonic()
    extends = recipe_of(name).extends
    if extends:
        base = build(extends, progress, engine).tag
    else:
        with _BASES:
            base = _first_base(name, progress, engine)
    _publish(engine, _run_build(engine, name, base, tag, progress, no_cache=force), tag)
    progress(f"built {tag} in {time.monotonic() - started:.0f} s")
    return ImageRef(name, tag)


def _first_base(name: str, progress: Progress, engine: docker.DockerClient) -> str:
    """Return the first of the image's bases that can be had; raise ImageBuildError if none can."""
    errors = []
    for base in bases_of(name):
        try:
            ensure_base(base, progress, engine)
        except BaseImageError as error:
            errors.append(str(error))
        else:
            return base
    raise ImageBuildError("\n".join(errors))


def _run_build(
    engine: docker.DockerClient, name: str, base: str, tag: str, progress: Progress, *, no_cache: bool
) -> str:
    """Send the context to the engine and follow its log to the end; return the id of what it built."""
    arguments, network = package_arguments(os.environ)
    system = recipe_of(name).extends or name
    tail: deque[str] = deque(maxlen=LOG_TAIL)
    try:
        certificates = [folder / "certs" for folder in _folders(name)]
        with build_context(_content(name), certificates, progress) as context:
            events = engine.api.build(
                fileobj=context,
                custom_context=True,
                buildargs={"BASE_IMAGE": base, "SYSTEM_IMAGE": bases_of(system)[0], **arguments},
                labels={"retort.image": name, "retort.content": tag.rsplit(":", 1)[1]},
                network_mode=network,
                nocache=no_cache,
                timeout=BUILD_SILENCE_S,
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in _log_lines(events):
                tail.append(line)
                progress(line)
        # A broken connection ends the stream as if the build were complete.
        built = [line.split()[-1] for line in tail if line.startswith("Successfully built")]
        if not built:
            raise docker.errors.BuildError("the engine's answer ended early", iter(()))
        return built[-1]
    except (docker.errors.DockerException, OSError) as error:
        log = "\n".join(tail)
        raise ImageBuildError(
            f"building {tag} failed: {error}\nThe last {len(tail)} lines:\n{log}\n"
            "If packages could not be downloaded, set PIP_INDEX_URL or the proxy variables, put missing "
            f"certificate authorities into sandbox-images/{name}/certs/ (see docs/images.md), "
            f"then run `{BUILD_COMMAND} {name}`."
        ) from error


def _publish(engine: docker.DockerClient, built: str, tag: str) -> None:
    """Give a built image its tag, and what it says of itself as a label: the engine tells that at once."""
    try:
        container = engine.containers.create(built)
        try:
            archive = io.BytesIO(b"".join(container.get_archive(DESCRIPTION)[0]))
            with tarfile.open(fileobj=archive) as tar:
                text = json.dumps(json.load(tar.extractfile("image.json") or io.BytesIO()))
            repository, version = tag.split(":")
            change = f"LABEL {FACTS_LABEL}={base64.b64encode(text.encode()).decode()}"
            container.commit(repository, version, changes=[change])
        finally:
            container.remove()
    except (docker.errors.DockerException, tarfile.TarError, ValueError) as error:
        raise ImageBuildError(f"{tag} was built, but does not tell of itself: {error}") from error


def facts_of(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """What an image says of itself, from the engine's answer about it: language, version, packages, system.

    Raises:
        ImageMissing: it says nothing, so it is none of ours.
    """
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    try:
        facts = json.loads(base64.b64decode(labels[FACTS_LABEL]))
        return {name: facts[name] for name in ("language", "version", "packages", "system")}
    except (KeyError, TypeError, ValueError) as error:
        raise ImageMissing(f"an image without a description: build it anew with `{BUILD_COMMAND}`") from error


def _log_lines(events: Iterator[Mapping[str, object]]) -> Iterator[str]:
    """Return the build's log as lines; raise docker's BuildError at an error event."""
    for event in events:
        if "error" in event:
            raise docker.errors.BuildError(str(event["error"]).strip(), iter(()))
        text = event.get("stream") or event.get("status") or ""
        yield from (line for line in re.split(r"[\r\n]+", str(text)) if line.strip())


def _folder(name: str) -> Path:
    """Return the image's folder; raise ImageBuildError if there is none."""
    folder = images_root() / name
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or not (folder / "image.toml").is_file():
        known = ", ".join(image_names(optional=True)) or "none"
        raise ImageBuildError(f"there is no image {name!r}, only: {known}")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 if an image is missing or could not be built."""
    parser = argparse.ArgumentParser(prog="python -m worker.sandbox.images", description="Sandbox images.")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build what is missing")
    builder.add_argument("names", nargs="*", help="images to build (default: all but the optional ones)")
    builder.add_argument(
        "--force", action="store_true", help="build anew, with the newest distribution packages"
    )
    builder.add_argument("--quiet", action="store_true", help="print no build log")
    commands.add_parser("list", help="list images and whether they are built")
    chosen = parser.parse_args(arguments)
    try:
        client = docker.from_env()
        if chosen.command == "list":
            return _list(client)
        say = _quiet if chosen.quiet else _say
        return _build_all(chosen.names or image_names(), client, chosen.force, say)
    except ImageBuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except docker.errors.DockerException as error:
        print(f"error: the Docker engine does not answer: {error}", file=sys.stderr)
        return 1


def _build_all(
    names: list[str],
    engine: docker.DockerClient,
    force: bool,
    say: Progress,
) -> int:
    """Build images, two at a time: one downloads, another computes. Return 1 if one could not be built."""
    # Those that others build on come first, and are not built a second time.
    recipes = [recipe_of(name) for name in names]
    first = sorted({base for each in recipes if (base := each.extends or each.after)})
    failed = 0
    for round_ in (first, [name for name in names if name not in first]):
        with ThreadPoolExecutor(AT_ONCE, "image") as builders:
            futures = [builders.submit(build, name, say, engine, force=force) for name in round_]
            for future in futures:
                try:
                    print(future.result().tag, flush=True)
                except ImageBuildError as error:
                    failed = 1
                    print(f"error: {error}", file=sys.stderr)
    return failed


def _list(client: docker.DockerClient) -> int:
    """Print each image with its state; return 1 if one is missing."""
    missing = 0
    for name in image_names():
        try:
            print(f"{resolve(name, client).tag}  built")
        except ImageMissing:
            missing = 1
            print(f"{expected_tag(name)}  missing")
    return missing


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quiet(line: str) -> None:
    """Take a line of progress and print nothing."""


if __name__ == "__main__":
    raise SystemExit(main())
