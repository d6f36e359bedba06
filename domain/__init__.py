"""The words that API and worker share: states, verdicts, limits, tables, statements.

No sockets, no environment, no await.
"""
