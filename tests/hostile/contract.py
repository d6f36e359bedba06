"""The OpenAPI document as a judge: every answer is declared, and its body is as its JSON schema says."""

import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_HOME = "urn:openapi"
_PROBLEM = "ProblemDocument"
_PROBLEM_TYPE = "application/problem+json"


class BrokenContract(AssertionError):
    """An answer that the document does not allow."""


class Contract:
    """Judges answers. Counts them, so that a test can tell that it judged any."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.judged = 0
        self.paths = frozenset(document["paths"])
        self._patterns = [
            (
                re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{name}", ".+")) + r"\Z", re.DOTALL),
                path,
                methods,
            )
            for path, methods in document["paths"].items()
        ]
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_HOME, resource)
        self._validators: dict[str, Validator] = {}

    def check(self, response: httpx.Response) -> None:
        """As an event hook of a client."""
        response.read()
        self.judge(
            response.request.method,
            response.request.url.path,
            response.status_code,
            response.headers.get("content-type", ""),
            response.content,
        )

    def judge(self, method: str, path: str, status: int, media_type: str, body: bytes) -> None:
        """Hold one answer against the document.

        Raises:
            BrokenContract: it is a 5xx, not declared, or not as declared.
        """
        self.judged += 1
        where = f"{method} {path} -> {status}"
        if status >= 500 and b"urn:retort:problem:no-gateway" not in body:
            raise BrokenContract(f"{where}: {body[:500]!r}")
        declared = self._declared(method, path)
        said = declared["responses"].get(str(status)) if declared else None
        if said is None and status not in {400, 401, 404, 405, 429}:
            raise BrokenContract(f"{where} is not declared")
        if method == "HEAD" or not body:
            return
        if said is None:
            self._validate(where, f"{_HOME}#/components/schemas/{_PROBLEM}", body)
            return
        content = said.get("content", {}).get(media_type.partition(";")[0])
        if content is None and "*/*" in said.get("content", {}):
            return  # what a program left: anything at all
        if content is None:
            raise BrokenContract(f"{where}: {media_type} is not declared")
        if "json" in media_type:
            for document in body.splitlines() if "ndjson" in media_type else [body]:
                self._validate(where, _HOME + content["schema"]["$ref"], document)
        if media_type == _PROBLEM_TYPE and json.loads(body)["status"] != status:
            raise BrokenContract(f"{where}: the problem document has another status")

    def _declared(self, method: str, path: str) -> dict[str, Any] | None:
        exact = [methods for _, known, methods in self._patterns if known == path]
        for methods in exact or [methods for pattern, _, methods in self._patterns if pattern.match(path)]:
            found: dict[str, Any] | None = methods.get(method.lower())
            return found
        return None

    def _validate(self, where: str, reference: str, body: bytes) -> None:
        if reference not in self._validators:
            self._validators[reference] = Draft202012Validator(
                {"$ref": reference}, registry=self._registry, format_checker=FormatChecker()
            )
        errors = [e.message[:300] for e in self._validators[reference].iter_errors(json.loads(body))]
        if errors:
            raise BrokenContract(f"{where} is not a {reference.rpartition('/')[2]}: {errors[:3]}")
