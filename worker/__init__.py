"""The Celery worker: advances jobs one step at a time."""
