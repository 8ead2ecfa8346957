#!/bin/sh
# An OCI runtime that asks only for what the machine grants. Where CAP_SYS_RESOURCE is missing from the bounding set (a
# container that plays a machine, say), runc can neither give a privileged container "all capabilities" nor lower an
# oom_score_adj: this takes both out of the specification and then runs the real runc. A program, and not TypeScript, because
# container runtimes execute it, inside the nodes too.
previous= specification=
for argument do
  case $previous in
    --bundle | -b) specification=$argument/config.json ;;
    --process | -p) specification=$argument ;;
  esac
  previous=$argument
done
[ -z "$specification" ] || [ ! -f "$specification" ] || sed -i \
  -e 's/,"CAP_SYS_RESOURCE"//g' -e 's/"CAP_SYS_RESOURCE",\{0,1\}//g' \
  -e 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$specification"
exec /usr/sbin/runc "$@"
