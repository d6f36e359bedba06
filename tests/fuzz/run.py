"""`make fuzz`: Schemathesis over the whole OpenAPI document, against a service of its own.

    python -m tests.fuzz.run [--cases 20000] [--seed 1]

Fails on any answer of 500 and more, and on any that is not as the document says. Begins again with the next
seed until as many cases ran as were asked for.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from retort.embedded import Postgres, Valkey
from tests.conftest import migrate
from tests.fuzz.service import Fuzzed

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
PHASES = ("examples", "coverage", "fuzzing", "stateful")
REQUEST_TIMEOUT_S = 20

#: Seeds that are tried at the same time, each by a process of its own.
TOGETHER = 2


def fuzz(
    fuzzed: Fuzzed,
    folder: Path,
    *,
    examples: int,
    seed: int,
    phases: Sequence[str] = PHASES,
) -> int:
    """Try everything once; the exit status of Schemathesis, 0 where nothing was found.

    `examples`: of each operation. What it says is printed when it is done. One worker only: that repeats the
    same requests for the same seed, and in some releases of Python 3.11 two threads that parse at once fail.
    """
    words = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{fuzzed.server.url}/openapi.json"),
        f"--header=Authorization: Bearer {fuzzed.key}",
        f"--checks={','.join(CHECKS)}",
        f"--phases={','.join(phases)}",
        "--mode=all",
        "--generation-allow-x00=true",
        "--generation-database=none",
        f"--max-examples={examples}",
        f"--seed={seed}",
        "--workers=1",
        f"--request-timeout={REQUEST_TIMEOUT_S}",
        "--continue-on-failure",
        "--suppress-health-check=all",
        "--warnings=off",
        "--no-color",
    ]
    done = subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    return done.returncode


def report(fuzzed: Fuzzed) -> tuple[int, int]:
    """Print what was answered; how many requests there were, and how many of them failed on our side."""
    lines = fuzzed.requests()
    statuses = Counter(line["status"] for line in lines)
    failed = [line for line in lines if line["status"] >= 500]
    print(f"{len(lines)} cases ran: " + ", ".join(f"{n} x {status}" for status, n in sorted(statuses.items())))
    for line in failed[:20]:
        print(f"  {line['status']} {line['method']} {line['path']} {line['request_id']}")
    return len(lines), len(failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--cases", type=int, default=20_000, help="how many must run at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="retort-fuzz-"))
    postgres, valkey = Postgres(folder / "postgres", folder / "run"), Valkey(folder / "valkey", folder / "run")
    try:
        postgres.start()
        valkey.start()
        migrate(postgres.url)
        fuzzed = Fuzzed(folder, postgres.url, valkey.url)
        try:
            operations = httpx.get(f"{fuzzed.server.url}/openapi.json").json()["paths"].values()
            # In several rounds: one seed leads into one part of the contract more than another.
            examples = min(100, options.cases // sum(map(len, operations)) + 1)
            status, ran, failed, seed = 0, 0, 0, options.seed
            with ThreadPoolExecutor(TOGETHER) as together:
                while status == failed == 0 and ran < options.cases:
                    seeds = range(seed, seed + TOGETHER)
                    print(f"seeds {seeds[0]} to {seeds[-1]}: a few minutes", flush=True)
                    status = max(
                        together.map(lambda each: fuzz(fuzzed, folder, examples=examples, seed=each), seeds)
                    )
                    ran, failed = report(fuzzed)
                    seed += TOGETHER
        finally:
            fuzzed.close()
        if status or failed:
            shutil.copy(folder / "api.log", os.environ.get("RETORT_FUZZ_LOG", "fuzz-api.log"))
            print("something was found; the service's log is in fuzz-api.log")
        return 1 if status or failed else 0
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
