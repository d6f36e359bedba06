"""The program inside the container: starts a guest's program, reports on it, ends all of it.

Theory of operation. PID 1 is this runner, uid 0 without privileges but those to become another user and to
kill. It reads frames from stdin and writes frames to stdout, nothing else leaves or enters the container.
A job is forked from the runner, or from the zygote where that is worth it, and becomes the guest user before a
line of its code runs. The job ends when its main process ends; then every process of the guest's user is
killed at once, so nothing outlives the job and no open descriptor can hold it up. Only then is the end
reported. After a reset, on request, the cell may serve the same caller again.

Standard library only; imports nothing of the host's side. The host trusts none of what is said here more
than it must (worker/sandbox).
"""
