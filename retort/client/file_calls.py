"""Calls about files: those that jobs bring, and artifacts, which they leave."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from retort.client.errors import RetortError
from retort.client.exchange import Exchange
from retort.client.offers import File
from retort.client.requests import InlineFiles, inline, sources_of, to_upload
from retort.client.results import Artifact, Job
from retort.client.steps import Steps, call

#: Seconds of silence that are borne while the service takes a file in, beyond the usual.
_UPLOAD_S = 120.0


class FileCalls(Exchange):
    """Upload, list, read, download."""

    @call
    def upload(self, source: bytes | str | PathLike[str], *, name: str | None = None) -> Steps[File]:
        """Store a file once, for any number of jobs. `source` is its content, or the path to it.

        >>> with Retort() as client:
        ...     table = client.upload(b"a,b\\n1,2\\n", name="in.csv")
        ...     job = client.run("print(open('in.csv').read().split())", files={"in.csv": table})
        ...     print(job.stdout)
        ['a,b', '1,2']
        <BLANKLINE>

        Raises:
            BodyTooLarge: it is.
            StorageFull: your files together would be.
        """
        found: File = yield from self._upload(source if isinstance(source, bytes) else Path(source), name)
        return found

    def _upload(self, source: bytes | Path, name: str | None) -> Steps[File]:
        if name is None:
            name = source.name if isinstance(source, Path) else "file"
        # It has no Idempotency-Key: an upload that was perhaps stored is not sent again.
        return (
            yield from self._read(
                File,
                "POST",
                "/v1/files",
                params={"name": name},
                body=source,
                headers={"Content-Type": "application/octet-stream"},
                wait_s=_UPLOAD_S,
                safe=False,
            )
        )

    @call
    def file(self, file: File | str) -> Steps[File]:
        """What is known of an uploaded file.

        Raises:
            NotFound: there is none.
        """
        return (yield from self._read(File, "GET", f"/v1/files/{id_of(file)}"))

    @call
    def delete_file(self, file: File | str) -> Steps[None]:
        """Delete an uploaded file.

        Raises:
            InUse: a job that has not ended needs it.
            NotFound: there is none.
        """
        yield from self._send("DELETE", f"/v1/files/{id_of(file)}")

    def _files(self, files: Any) -> Steps[InlineFiles]:
        """Files as a job's request has them; those that are too large for it are uploaded."""
        sources: Mapping[str, Any] = sources_of(files)
        large = to_upload(sources)
        found = []
        for name, source in sources.items():
            if name in large:
                data = source.encode() if isinstance(source, str) else source
                uploaded = yield from self._upload(data, name)
                found.append(inline(name, uploaded))
            else:
                found.append(inline(name, source))
        return found

    @call
    def artifacts(self, job: Job | str, *, attempt: int | None = None) -> Steps[Sequence[Artifact]]:
        """The files that an attempt left, by default the last.

        Raises:
            NotFound: there is no such job or attempt.
        """
        return (yield from self._artifacts(job, attempt))

    def _artifacts(self, job: Job | str, attempt: int | None) -> Steps[Sequence[Artifact]]:
        path = f"/v1/jobs/{id_of(job)}/artifacts"
        document = self._document((yield from self._send("GET", path, params={"attempt": attempt})))
        return tuple(Artifact.model_validate(each) for each in document["artifacts"])

    @call
    def artifact(self, job: Job | str, artifact: Artifact | str, *, attempt: int | None = None) -> Steps[bytes]:
        """The content of a file that a program left.

        >>> with Retort() as client:
        ...     job = client.run("open('greeting.txt', 'w').write('hello')")
        ...     print([each.name for each in job.artifacts], client.artifact(job, "greeting.txt"))
        ['greeting.txt'] b'hello'

        Raises:
            NotFound: it left no such file.
        """
        answer = yield from self._send("GET", _artifact_path(job, artifact), params={"attempt": attempt})
        content: bytes = answer.content
        return content

    @call
    def download(
        self,
        job: Job | str,
        artifact: Artifact | str,
        to: str | PathLike[str] = ".",
        *,
        attempt: int | None = None,
    ) -> Steps[Path]:
        """Save a file that a program left, and say where it is.

        `to` is the file's new path, or a folder that exists, in which it keeps its own name. A file that is
        there is replaced, and only when all of it has come.

        Raises:
            NotFound: it left no such file.
            RetortError: its name leads out of the folder.
        """
        path = Path(to)
        if path.is_dir():
            path = below(path, _name_of(artifact))
            path.parent.mkdir(parents=True, exist_ok=True)
        yield from self._send("GET", _artifact_path(job, artifact), params={"attempt": attempt}, save=path)
        return path

    @call
    def download_all(
        self, job: Job | str, folder: str | PathLike[str] = ".", *, attempt: int | None = None
    ) -> Steps[Sequence[Path]]:
        """Save every file that a program left below a folder, which is made if it is not there.

        Raises:
            RetortError: a name leads out of the folder; nothing was saved then.
        """
        left = yield from self._artifacts(job, attempt)
        paths = [below(Path(folder), each.name) for each in left]
        for each, path in zip(left, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield from self._send("GET", _artifact_path(job, each), params={"attempt": attempt}, save=path)
        return paths


def id_of(thing: Any) -> str:
    """The id of a job, file, key or caller as part of a path."""
    return quote(thing if isinstance(thing, str) else thing.id, safe="")


def below(folder: Path, name: str) -> Path:
    """Where a file of this name belongs in a folder. Programs choose names, and programs are not to be trusted.

    >>> str(below(Path("/out"), "a/b.txt"))
    '/out/a/b.txt'
    >>> below(Path("/out"), "../b.txt")
    Traceback (most recent call last):
    retort.client.errors.RetortError: '../b.txt' is no name of a file below '/out'
    """
    parts = PurePosixPath(name).parts
    path = folder.joinpath(*parts) if parts else folder
    wrong = not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\\" in name or "\x00" in name
    # A link in the folder may lead elsewhere, too.
    if wrong or not path.resolve().is_relative_to(folder.resolve()) or path == folder:
        raise RetortError(f"{name!r} is no name of a file below {str(folder)!r}")
    return path


def _name_of(artifact: Artifact | str) -> str:
    return artifact if isinstance(artifact, str) else artifact.name


def _artifact_path(job: Job | str, artifact: Artifact | str) -> str:
    return f"/v1/jobs/{id_of(job)}/artifacts/{quote(_name_of(artifact), safe='/')}"
