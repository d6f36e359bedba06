"""What our sessions ask of the database server."""

#: Seconds that a session may stand still within a transaction before the server ends it. A process that is
#: frozen there, or whose machine is, would otherwise keep what it has locked from everybody, for as long as it
#: stands. Ours wait for nothing else while a transaction is open, so a few seconds are much; they are fewer
#: than those within which a frozen worker's jobs must run elsewhere.
STILL_S = 4

#: For a session's `options`.
OPTIONS = f"-c idle_in_transaction_session_timeout={STILL_S}s"

#: Of sessions that claim: what they run is to read indexes alone, in the order that these have, and to be
#: planned once. What the planner believes of a queue is old by as many jobs as came and went since it last
#: looked; its work, done for each claim, would be three times that of the claim.
PLANNED = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "plan_cache_mode": "force_generic_plan",
}

#: For the `options` of such a session, which need not wait for the disk either: a claim that a crash of the
#: database forgets leaves the job queued. It runs again, and the first runner's result is refused by its token.
CLAIMING = " ".join(
    [OPTIONS, "-c synchronous_commit=off", *(f"-c {name}={value}" for name, value in PLANNED.items())]
)
