#!/bin/sh
# `make run`: engine, images, service, one job. Usage: run.sh PORT [DETACH]
set -eu
port=$1
detach=${2:-}

.venv/bin/retort engine ensure
.venv/bin/python -m worker.sandbox.images build --quiet python
if ! .venv/bin/python -m worker.sandbox.images list >/dev/null; then
    # A first job needs Python alone. Workers look for the others until they are there.
    mkdir -p .retort
    echo "images: those of the other languages are built meanwhile; .retort/images.log shows how far it is"
    .venv/bin/python -m worker.sandbox.images build >.retort/images.log 2>&1 </dev/null &
    builder=$!
fi
if [ -n "$detach" ] && [ "$detach" != 0 ]; then
    exec .venv/bin/retort up --detach --hello --port "$port"
fi
# A Ctrl-C is for the service: it ends in order, then we end the engine if it was started for us.
trap : INT TERM
code=0
.venv/bin/retort up --hello --port "$port" || code=$?
[ -z "${builder:-}" ] || kill "$builder" 2>/dev/null || true
.venv/bin/retort engine stop
exit "$code"
