"""Sending webhooks: a process of its own. It needs the database and the Internet, no sandbox and no model."""
