"""The command lines and environments of our own processes.

They are started by module name and never imported: this package talks to the service like any client.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: The folder that holds our packages: the checkout, or where pip put them.
HOUSE = Path(__file__).resolve().parent.parent

#: The API needs none of what else is in our environment: no Docker socket, no key of a model gateway.
_API_MAY_SEE = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
_API_MAY_NOT_SEE_PREFIX = "RETORT_GATEWAY"
#: What opens the secrets of webhooks: for the API, which makes them, and for who sends.
WEBHOOK_KEYS = ("RETORT_WEBHOOK_KEY", "RETORT_WEBHOOK_KEY_FILE")
_API_MAY_SEE_PREFIXES = ("RETORT_", "LC_", "PG", "PYTHON", "SSL_CERT_")


def python(module: str, *args: str | Path) -> list[str]:
    """Run one of the installed modules.

    `-P` keeps the current folder off the module path: someone's own `api` or `migrations` may be there.
    """
    return [sys.executable, "-P", "-m", module, *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """Ours for a child, without what would turn it from the right database or from our own modules."""
    kept = dict(os.environ)
    if "RETORT_DATABASE_URL" not in kept:  # PGPORT and the like are not meant for the embedded server
        kept = {name: value for name, value in kept.items() if not name.startswith("PG")}
    if (HOUSE / "pyproject.toml").exists():  # a checkout: its modules come before installed ones
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOUSE), kept.get("PYTHONPATH")]))
    kept["PYTHONUNBUFFERED"] = "1"
    kept.pop("RETORT_API_KEY", None)  # for clients
    return kept | more


def for_api(env: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that the API process gets."""
    prefixes: tuple[str, ...] = _API_MAY_SEE_PREFIXES
    if env.get("RETORT_STORAGE_URL", "").startswith("s3://"):  # it reads and writes files there
        prefixes += ("AWS_",)
    return {
        name: value
        for name, value in env.items()
        if (name in _API_MAY_SEE or name.startswith(prefixes)) and not name.startswith(_API_MAY_NOT_SEE_PREFIX)
    }


def for_hooks(env: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that the sender of webhooks gets: as the API, but without the storage."""
    return {name: value for name, value in for_api(env).items() if not name.startswith("AWS_")}


def for_workers(env: Mapping[str, str], instance: str) -> tuple[dict[str, str], dict[str, str] | None]:
    """The environments of the worker that runs programs and of the one that asks models.

    Each lacks what it need not have: the first the keys of gateways, the second the sandboxes. There is no
    second where no gateway is configured, or where the setting RETORT_SERVES says what one worker does.
    """
    env = {name: value for name, value in env.items() if name not in WEBHOOK_KEYS}
    configured = any(env.get(name) for name in ("RETORT_GATEWAY_URL", "RETORT_GATEWAYS"))
    if env.get("RETORT_SERVES") or not configured:
        return dict(env), None
    programs = {name: value for name, value in env.items() if not name.startswith(_API_MAY_NOT_SEE_PREFIX)}
    models = {**env, "RETORT_SERVES": "model", "RETORT_INSTANCE": f"{instance}-models"}
    return {**programs, "RETORT_SERVES": "sandbox"}, models


def migrate() -> list[str]:
    """Bring the database to the newest revision."""
    return python("alembic", "-c", HOUSE / "migrations" / "alembic.ini", "upgrade", "head")


def first_key(name: str) -> list[str]:
    """Print a new API key that is good for everything, once, if there is none yet."""
    scopes = ("--scope", "submit", "--scope", "read", "--scope", "admin")
    return python("api.keys", "create", name, "--if-none", *scopes)


def api() -> list[str]:
    """Serve HTTP, where RETORT_HOST and RETORT_PORT say."""
    return python("api")


def hooks() -> list[str]:
    """Send webhooks."""
    return python("worker.hooks.main")


def models_check() -> list[str]:
    """Ask each configured model once; runs where the gateways' keys are."""
    return python("worker.model.check")


def build_images(*names: str) -> list[str]:
    """Build these sandbox images, or all that are missing, on this machine."""
    return python("worker.sandbox.images", "build", *names)


def worker() -> list[str]:
    """Run jobs."""
    return python("worker.main")
