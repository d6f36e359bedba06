#!/bin/sh
# Ends every image: `finish.sh VERSION [PACKAGES]` describes it in /opt/retort/image.json. VERSION is the language's;
# PACKAGES a file with a name and a version on each line, separated by a tab: what programs can import.
set -eu
mkdir -p -m 0700 /work
python3 -I /opt/retort/build/describe.py "$@"
python3 -I -m compileall -q --invalidation-mode unchecked-hash /opt/retort
rm -rf /opt/retort/build
