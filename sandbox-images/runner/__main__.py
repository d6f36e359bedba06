"""PID 1 of a sandbox. Kept this short because a script is compiled anew at every start, a module is not."""

from retort_runner.main import main

main()
