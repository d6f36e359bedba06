"""Entries whose feature is not built yet. Each becomes a program or a story when it is; none is forgotten.

A test fails when the contract grows a path that one of them waits for.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Awaited:
    """An entry to come. `path`: the part of the HTTP contract whose arrival ends the wait, where there is one."""

    name: str
    what: str
    awaits: str
    path: str | None = None


ENTRIES = [
    Awaited("links_as_artifacts", "links are told of, not followed", "artifacts", "/artifacts"),
    Awaited(
        "special_files_as_artifacts",
        "pipes, sockets and devices are skipped, never opened",
        "artifacts",
        "/artifacts",
    ),
    Awaited("sparse_giant_as_artifact", "named as too large, its holes never read", "artifacts", "/artifacts"),
    Awaited(
        "strange_names_as_artifacts", "stored under ids, names kept as escaped data", "artifacts", "/artifacts"
    ),
    Awaited(
        "deep_directories_as_artifacts",
        "the collector stops at its depth, with a reason",
        "artifacts",
        "/artifacts",
    ),
    Awaited("archives_as_inputs", "kept as they are, never unpacked by the service", "files in", "/v1/files"),
    Awaited("hundred_thousand_input_files", "refused with the named limit", "files in", "/v1/files"),
    Awaited("artifacts_of_others", "404, signed and expiring links, attachment", "artifacts", "/artifacts"),
    Awaited("markup_as_artifact", "attachment, sandboxed, nosniff", "artifacts", "/artifacts"),
    Awaited(
        "one_caller_saturates", "another caller's job begins within its fair share; 429 for the one", "quotas"
    ),
    Awaited("cancels_of_others", "404 for another caller's job", "cancel, rerun, delete", "/cancel"),
    Awaited("exits_before_its_tests", "a graded run needs a mark made outside the program", "checks"),
    Awaited("output_that_instructs", "fed back only as data, marked untrusted, capped", "model front end"),
    Awaited("answers_without_code", "told as such, with the text kept; nothing is guessed", "model front end"),
    Awaited("endless_model_answers", "deadlines and byte caps", "model front end"),
    Awaited("malformed_model_answers", "bounded retries, then told", "model front end"),
    Awaited("model_asks_for_limits", "limits come from request and policy alone", "model front end"),
    Awaited("prompts_of_others", "no cache across callers, redacted logs", "model front end"),
    Awaited("repair_without_end", "turns, tokens and money end it", "model front end"),
    Awaited("same_key_same_body", "one job, replays are marked", "idempotency keys"),
    Awaited("same_key_other_body", "refused, no job", "idempotency keys"),
    Awaited("same_key_other_caller", "independent", "idempotency keys"),
    Awaited("slow_event_streams", "bounded buffers, jobs unaffected", "event stream", "/events"),
    Awaited("webhooks_inwards", "resolved once, checked, no redirects, metadata always denied", "webhooks"),
    Awaited("webhooks_that_hang", "retries with back-off, then dead; the job is not held up", "webhooks"),
    Awaited("spoofed_addresses", "forwarded headers only from trusted proxies", "rate limits"),
]
