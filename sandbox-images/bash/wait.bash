# Read by a shell that was started ahead, before its program is there: waits, then takes over arguments and environment.
IFS= read -r -d '' -u 3 REPLY
retort_args=()
for (( ; REPLY > 0; REPLY-- )); do
  IFS= read -r -d '' -u 3 "retort_args[${#retort_args[@]}]"
done
set -- "${retort_args[@]}"
while IFS= read -r -d '' -u 3 REPLY; do export "$REPLY"; done
exec 3<&-
unset -v BASH_ENV REPLY retort_args
SECONDS=0
: bash
