#!/bin/sh
# Create or renew .venv: a Python of at least 3.11 and exactly the packages in requirements.txt.
# pip's own configuration (index, proxy, certificates) is honoured; nothing here names a host.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=
for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if new_enough "$name"; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "Retort needs Python 3.11 or newer, and none was found. Install one, or name one: make PYTHON=/path/to/python3" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian splits the module off. The package's name has the version of the distribution's own Python.
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "venv: installing $package"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$package" >/dev/null
    else
        echo "This Python lacks the module venv. On Debian or Ubuntu: sudo apt-get install $package" >&2
        exit 1
    fi
fi

# A venv that was moved, or whose Python is gone or too old, is made anew.
if ! new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    echo "venv: creating .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

echo "venv: installing the pinned packages; the first time takes a minute"
# The list is complete, so there is nothing to resolve; most modules are never imported, so none are compiled ahead.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
    -r requirements.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
touch .venv/.complete
