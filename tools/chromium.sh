#!/bin/sh
# Make sure that a browser is there for the browser tests: the one found, or the system's package.
# Never fails: without a browser those tests fail themselves, and say why.
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done

as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
  echo "No browser found; installing the system's chromium ..."
  { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } \
    >/dev/null </dev/null && exit 0
fi
echo "No browser, and none could be installed: the browser tests will fail. Name one with CHROMIUM=/path/to/chromium."
