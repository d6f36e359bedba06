#!/bin/sh
# `make run`: engine, images, service, one job. Usage: run.sh PORT [DETACH]
set -eu
port=$1
detach=${2:-}

.venv/bin/retort engine ensure
.venv/bin/python -m worker.sandbox.images build --quiet
if [ -n "$detach" ] && [ "$detach" != 0 ]; then
    exec .venv/bin/retort up --detach --hello --port "$port"
fi
# A Ctrl-C is for the service: it ends in order, then we end the engine if it was started for us.
trap : INT TERM
code=0
.venv/bin/retort up --hello --port "$port" || code=$?
.venv/bin/retort engine stop
exit "$code"
