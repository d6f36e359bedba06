#!/bin/sh
# Ends every image: `finish.sh VERSION [PACKAGES]` describes it in /opt/retort/image.json. VERSION is the language's;
# PACKAGES a file with a name and a version on each line, separated by a tab: what programs can import.
set -eu
mkdir -p -m 0700 /work
# What Python's programs import as if it had been installed: the runner's part in showing figures and tables.
if [ ! -e /opt/retort/launch ]; then
  packages=$(python3 -c 'import site; print(site.getsitepackages()[0])')
  cp /opt/retort/site/*.py "$packages/"
  python3 -I -m compileall -q --invalidation-mode unchecked-hash "$packages/retort_display.py"
fi
rm -rf /opt/retort/site
python3 -I /opt/retort/build/describe.py "$@"
python3 -I -m compileall -q --invalidation-mode unchecked-hash /opt/retort
rm -rf /opt/retort/build
