"""The message that rings for a step: Celery's own, made once, with a hole for the job's id.

`app.amqp` makes one for a job id that stands for any, and each ring fills the real one in. What is spared is
the work of Celery and kombu per message, a millisecond of processor time. A test compares the result with what
`send_task` puts on the same broker.
"""

import base64
import json
from typing import Any
from uuid import UUID

from domain.bell import ADVANCE, SANDBOX_QUEUE
from domain.ids import new_id

_ANY_JOB = str(UUID(int=0))
_ANY_TAG = str(UUID(int=1))


class Message:
    """The `advance` message on one queue. `amqp` is that of a Celery application."""

    def __init__(self, amqp: Any, queue: str = SANDBOX_QUEUE) -> None:
        made = amqp.as_task_v2(_ANY_JOB, ADVANCE, args=[_ANY_JOB], ignore_result=True)
        self._body = json.dumps(made.body)
        # The envelope is kombu's virtual transport's: what its channels make of a published message.
        envelope: dict[str, Any] = {
            "body": "BODY",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": made.headers,
            "properties": {
                **made.properties,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": _ANY_TAG,
            },
        }
        self._envelope = json.dumps(envelope)

    def of(self, job_id: UUID) -> str:
        """The message for one job."""
        name = str(job_id)
        body = base64.b64encode(self._body.replace(_ANY_JOB, name).encode()).decode()
        filled = self._envelope.replace(_ANY_JOB, name).replace(_ANY_TAG, str(new_id()))
        return filled.replace('"BODY"', f'"{body}"')
