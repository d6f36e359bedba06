"""List a folder of installed packages: a name and a version on each line, separated by a tab.

Runs in the image's build stage: `python3 -I packages.py <site folder>`.
"""

import sys
from importlib.metadata import distributions

for found in distributions(path=[sys.argv[1]]):
    print(found.metadata["Name"], found.version, sep="\t")
