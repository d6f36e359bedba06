#!/bin/sh
# Starts PostgreSQL as the official image does, as far as docker-compose.yml needs that: the data folder is made
# once, with the user, the database and the password (a file) that POSTGRES_… name.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Beside its place and moved there whole: half of one is never used.
    rm -rf "$PGDATA.new"
    mkdir -p "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C \
        --locale-provider=builtin --builtin-locale=C.UTF-8 --no-instructions
    echo "host all all all scram-sha-256" >> "$PGDATA.new/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA.new" postgres
    mv "$PGDATA.new" "$PGDATA"
fi
exec "$@" -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
