"""Keys of the execution cache: a hash of everything that changes the result of a run. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from domain.limits import Limits
from domain.states import Runtime

#: Changes when results of an older version of ours must not be given again.
VERSION = 1


def execution_key(
    *,
    caller: UUID,
    code: str,
    language: str,
    file: str,
    stdin: bytes,
    args: Sequence[str],
    env: Mapping[str, str],
    profile: str,
    limits: Limits,
    image_digest: str,
    runtime: str = Runtime.RUNC,
    check: Mapping[str, str],
    files: Mapping[str, str] | None = None,
) -> bytes:
    """32 bytes. `files` are names and hexadecimal hashes of input files."""
    everything = {
        "version": VERSION,
        "caller": str(caller),
        "code": code,
        "language": language,
        "file": file,
        "stdin": hashlib.sha256(stdin).hexdigest(),
        "args": list(args),
        "env": dict(env),
        "profile": profile,
        "limits": limits.as_dict(),
        "image": image_digest,
        "runtime": runtime,
        "check": dict(check),
        "files": dict(files or {}),
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).digest()
