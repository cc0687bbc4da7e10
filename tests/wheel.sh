#!/bin/sh
# Builds the wheel, installs it where no checkout is in sight, and runs the tests against it.
set -eu
bin=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/dstui-wheel-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$root/$bin/python" -m build -q --wheel --outdir "$work/dist" "$root"
"$root/$bin/python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --require-hashes -r "$root/requirements-dev.lock"
"$work/venv/bin/python" -m pip install -q --no-deps "$work"/dist/dstui-*.whl
mkdir "$work/src"
cp -R "$root/tests" "$root/pyproject.toml" "$root/README.md" "$root/Makefile" "$root/inventory.example.yaml" "$root/docs" "$work/src/"
cd "$work/src"
"$work/venv/bin/python" -c 'import dstui, screens, sys; sys.exit("site-packages" not in dstui.__file__ or "site-packages" not in screens.__file__)'
"$work/venv/bin/dstui" demo --headless --hosts 1 --lang en | tail -n 4
"$work/venv/bin/pytest" -q -n 2 -p no:cacheprovider
