#!/bin/sh
# Makes the Python environment that the comparing tests look for: python/ in the cache folder.
# Safe to repeat; a complete environment is left alone. The last line on standard output is its interpreter.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${HYPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hype}
venv=$cache/python

if [ -f "$venv/complete.txt" ] && cmp -s "$here/requirements.txt" "$venv/complete.txt"; then
    echo "$venv/bin/python"
    exit 0
fi
mkdir -p "$cache"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
rm -f "$venv/complete.txt"
"$venv/bin/python" -m pip install --quiet --only-binary=:all: -r "$here/requirements.txt" >&2
cp "$here/requirements.txt" "$venv/complete.txt"
echo "$venv/bin/python"
