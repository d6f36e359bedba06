"""Every call of the clients, written once. docs/client.md shows them, `retort.client.steps` how it works."""

from retort.client.batch_calls import BatchCalls
from retort.client.job_calls import JobCalls
from retort.client.service_calls import ServiceCalls


class Calls(JobCalls, BatchCalls, ServiceCalls):
    """All calls."""
