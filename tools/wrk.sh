#!/bin/sh
# Make sure that wrk, which sends the benches' requests, is there: the one found, or the system's package. Never fails.
command -v wrk >/dev/null 2>&1 && exit 0
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
  echo "No wrk found; installing the system's ..."
  { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wrk; } \
    >/dev/null </dev/null && exit 0
fi
echo "There is no wrk, and none could be installed: the benches of serving are left out."
