#!/bin/sh
# The first layer of every image that is not Python's: the distribution, and the interpreter of the runner. The
# same file and the same line in each Dockerfile, so that the engine builds it once and all images share it.
set -eu
apt-get update
apt-get upgrade -y --no-install-recommends
apt-get install -y --no-install-recommends python3-minimal libffi8
# The runner needs ctypes and resource, which come with 30 MB of standard library that nothing here needs.
mkdir /tmp/stdlib
cd /tmp/stdlib
apt-get download "$(python3 -c 'import sys; print("libpython%d.%d-stdlib" % sys.version_info[:2])')"
dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './usr/lib/python3*/ctypes' './usr/lib/python3*/lib-dynload/_ctypes.*' './usr/lib/python3*/lib-dynload/resource.*'
cp -a usr/lib/python3* /usr/lib/
python3 -I -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3*/ctypes
cd /
rm -rf /tmp/stdlib
sh /opt/retort/build/tidy.sh
