"""Links of the OpenAPI document: what can be done with what an operation has just made.

They follow from the paths: who answers with a new thing of `/v1/things` links to each operation below
`/v1/things/{thing_id}`.
"""

from typing import Any

#: Operations that answer with a thing of their path, or of the path given, under `id`.
_MAKERS: dict[tuple[str, str], str] = {
    ("post", "/v1/jobs"): "/v1/jobs/{job_id}",
    ("post", "/v1/jobs/{job_id}/rerun"): "/v1/jobs/{job_id}",
    ("post", "/v1/batches"): "/v1/batches/{batch_id}",
    ("post", "/v1/files"): "/v1/files/{file_id}",
    ("post", "/v1/webhooks"): "/v1/webhooks/{webhook_id}",
    ("post", "/v1/webhooks/{webhook_id}/test"): "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}",
    ("post", "/v1/callers"): "/v1/callers/{caller_id}",
    ("post", "/v1/keys"): "/v1/keys/{key_id}",
    ("post", "/v1/keys/{key_id}/rotate"): "/v1/keys/{key_id}",
}

#: Parameters of paths that the answer has under another name than `id`.
_ELSEWHERE = {"webhook_id": "$response.body#/webhook_id"}

#: Parameters that no answer tells. A new job has no attempt yet; its first one is there when it has ended.
_UNKNOWN = frozenset({"name", "number"})


def add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Add them to each successful answer with a body."""
    for (method, path), made in _MAKERS.items():
        for status, said in paths[path][method]["responses"].items():
            if status.startswith("2") and said.get("content"):
                said["links"] = dict(_links(paths, made))


def _links(paths: dict[str, dict[str, Any]], made: str) -> list[tuple[str, dict[str, Any]]]:
    own = made.rpartition("{")[2].rstrip("}")
    found = []
    for path, methods in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if (path != made and not path.startswith(made + "/")) or _UNKNOWN & set(names):
            continue
        known = {
            name: "$response.body#/id" if name == own else _ELSEWHERE[name]
            for name in names
            if name == own or name in _ELSEWHERE
        }
        if len(known) == len(names):
            found += [
                (each["operationId"], {"operationId": each["operationId"], "parameters": known})
                for each in methods.values()
            ]
    return found
