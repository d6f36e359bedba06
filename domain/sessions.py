"""What our sessions ask of the database server."""

#: Seconds that a session may stand still within a transaction before the server ends it. A process that is
#: frozen there, or whose machine is, would otherwise keep what it has locked from everybody, for as long as it
#: stands. Ours wait for nothing else while a transaction is open, so a few seconds are much; they are fewer
#: than those within which a frozen worker's jobs must run elsewhere.
STILL_S = 4

#: For a session's `options`.
OPTIONS = f"-c idle_in_transaction_session_timeout={STILL_S}s"
