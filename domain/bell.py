"""Names that API and worker must agree on: the doorbell (broker) and the event bus.

The database is the queue of record. A message carries only a job id; losing, repeating or reordering
messages costs time, never correctness.
"""

from uuid import UUID

#: The one Celery task: `advance(job_id)` does the next step of a job.
ADVANCE = "retort.advance"

#: Queue of the steps that need the container engine.
SANDBOX_QUEUE = "sandbox"

#: Redis channel on which every change of a job's state is published, as `state_message`.
STATES_CHANNEL = "retort:states"

#: Redis channel on which the id of each job is published that was cancelled while a worker had it. It tells the
#: worker to look now whether it still holds the lease; without the message it looks at its next heartbeat.
CANCELS_CHANNEL = "retort:cancels"

#: Seconds for which a claim holds without a heartbeat.
LEASE_S = 30

#: Claims of one step before a job counts as broken: whatever it does to its workers, it does it this often.
MAX_CLAIMS = 3


def state_message(job_id: UUID, state: str) -> str:
    """What is published when a job's state changes."""
    return f"{job_id} {state}"


def parse_state_message(message: str) -> tuple[UUID, str]:
    """The inverse of `state_message`.

    Raises:
        ValueError: not such a message.
    """
    job_id, _, state = message.partition(" ")
    return UUID(job_id), state


def celery_broker_url(redis_url: str) -> str:
    """The same Redis as Celery spells it: its transport calls a Unix socket `redis+socket`.

    >>> celery_broker_url("unix:///run/valkey.sock?db=0")
    'redis+socket:///run/valkey.sock?virtual_host=0'
    >>> celery_broker_url("redis://127.0.0.1:6379/0")
    'redis://127.0.0.1:6379/0'
    """
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host={query.removeprefix('db=') or '0'}"
