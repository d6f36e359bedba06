"""Names that API and worker must agree on: the doorbell (broker) and the event bus.

The database is the queue of record. A message carries only a job id; losing, repeating or reordering
messages costs time, never correctness.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from domain.states import Priority, Runtime, State

#: The one Celery task: `advance(job_id)` does the next step of a job.
ADVANCE = "retort.advance"

#: Queue of the steps that need the container engine, on runc; other tiers have their own: see `queue_of`.
SANDBOX_QUEUE = "sandbox"

#: Queue of the steps that ask a model.
MODEL_QUEUE = "model"

#: What is added to a queue's name for jobs that can wait.
BATCH_SUFFIX = ".batch"

#: Redis channel on which every change of a job's state is published, as `state_message`.
STATES_CHANNEL = "retort:states"

#: Redis channel on which the id of a job is published when there is more of its output to read.
OUTPUT_CHANNEL = "retort:output"

#: A job's live output is a Redis stream with at most so many entries, gone so many seconds after its last one.
OUTPUT_ENTRIES = 256
OUTPUT_KEPT_S = 120

#: Redis channel on which the id of each job is published that was cancelled while a worker had it. It tells the
#: worker to look now whether it still holds the lease; without the message it looks at its next heartbeat.
CANCELS_CHANNEL = "retort:cancels"

#: Seconds for which a claim holds without a heartbeat.
LEASE_S = 30

#: Claims of one step before a job counts as broken: whatever it does to its workers, it does it this often.
MAX_CLAIMS = 3


def queue_of(next_state: str, priority: str, runtime: str = Runtime.RUNC) -> str:
    """The queue on which to ring for a job. Which tier it runs on matters to those who run it alone.

    >>> queue_of("generating", "batch", "runsc"), queue_of("running", "batch", "runsc")
    ('model.batch', 'sandbox.runsc.batch')
    """
    queue = MODEL_QUEUE
    if next_state == State.RUNNING:
        queue = SANDBOX_QUEUE if runtime == Runtime.RUNC else f"{SANDBOX_QUEUE}.{runtime}"
    return queue + BATCH_SUFFIX if priority == Priority.BATCH else queue


def queues_of(state: State, runtimes: Iterable[str]) -> tuple[str, ...]:
    """The queues that a worker listens to for one kind of step; `runtimes`: the tiers that it offers.

    >>> queues_of(State.RUNNING, ["runc"]), queues_of(State.GENERATING, [])
    (('sandbox', 'sandbox.batch'), ('model', 'model.batch'))
    """
    tiers = tuple(runtimes) if state is State.RUNNING else (Runtime.RUNC,)
    return tuple(queue_of(state, priority, runtime) for runtime in tiers for priority in _PRIORITIES)


#: Those that can wait last.
_PRIORITIES = (Priority.INTERACTIVE, Priority.BATCH)

#: Every queue; those of a kind of step together.
ALL_QUEUES = (*queues_of(State.RUNNING, Runtime), *queues_of(State.GENERATING, ()))


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


def output_key(job_id: UUID) -> str:
    """The Redis stream with the live output of a job; its entries are `Output.fields`, oldest first."""
    return f"retort:output:{job_id}"


@dataclass(frozen=True, slots=True)
class Output:
    """A part of what a job wrote while it ran.

    `attempt` counts the claims of the job, from 1: when it rises, what came before is void. `at` is where the
    part begins in its stream, in bytes. Parts of a stream come in order; a gap means that something between
    was left out here and is in the stored row, as far as that keeps it.

    >>> part = Output(1, "stdout", 5, b"hello")
    >>> part.end, Output.parse({name.encode(): value for name, value in part.fields().items()}) == part
    (10, True)
    """

    attempt: int
    stream: str  # stdout or stderr
    at: int
    data: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.data)

    @property
    def end(self) -> int:
        """Where it ends in its stream."""
        return self.at + len(self.data)

    def fields(self) -> dict[str, bytes]:
        """As the fields of a stream's entry."""
        texts = {"attempt": str(self.attempt), "stream": self.stream, "at": str(self.at)}
        return {**{name: text.encode() for name, text in texts.items()}, "data": self.data}

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> "Output":
        """The inverse of `fields`, as Redis gives them back.

        Raises:
            ValueError: not such an entry.
        """
        try:
            stream = fields[b"stream"].decode()
            part = cls(int(fields[b"attempt"]), stream, int(fields[b"at"]), fields[b"data"])
        except KeyError as e:
            raise ValueError(f"an entry without {e}") from None
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"no such stream: {stream!r}")
        return part


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
