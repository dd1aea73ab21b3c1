#!/bin/bash
# Everything that a machine with a GPU can show of this version, within nine minutes.
# Usage: scripts/gpu_suite.sh WHEELS OUT
#   WHEELS  a folder with this package's wheel and those that the machine lacks; needs no network
#   OUT     gets suite.json, summary.md and runs.tar.gz
# A part that fails leaves the others running; the exit status is 0 where all of them passed.
set -uo pipefail
if [ $# -ne 2 ] || ! compgen -G "$1/*.whl" >/dev/null; then
    echo "usage: $0 WHEELS OUT; WHEELS is a folder of wheels" >&2
    exit 2
fi
wheels=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/parts" "$work/runs"
# Before the first CUDA call of any part: kernels are loaded when they are asked for, not at their
# first launch, and streams do not wait for one another's queue.
export CUDA_MODULE_LOADING=EAGER CUDA_DEVICE_MAX_CONNECTIONS=32

# part NAME SECONDS COMMAND...: runs it in a bounded time and notes how it ended.
failed=0
part() {
    local name=$1 limit=$2 began=$SECONDS status=0
    shift 2
    echo "== $name"
    timeout --kill-after=10 "$limit" "$@" >"$work/parts/$name.log" 2>&1 || status=$?
    tail -n 3 "$work/parts/$name.log"
    echo "$status $((SECONDS - began)) $name" >>"$work/parts/ended"
    [ "$status" -eq 0 ] || failed=1
}

part install 45 python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$work/site" "$wheels"/*.whl
export PYTHONPATH="$work/site:$PWD/tests"
part tests 120 python3 -m pytest -q -p no:cacheprovider -m gpu tests
part roofs 30 python3 scripts/gpu_parts.py roofs "$work/parts/roofs.json"
part solo 110 python3 scripts/gpu_parts.py solo "$work/parts/solo.json"
part rungs 70 python3 scripts/gpu_parts.py rungs "$work/parts/rungs.json"
part together 110 python3 -m swarmbench max-throughput --backend cuda --profile quick --json \
    --out "$work/runs"
if command -v compute-sanitizer >/dev/null; then
    part sanitizer 50 compute-sanitizer --error-exitcode 9 python3 scripts/gpu_parts.py small
else
    echo "127 0 sanitizer" >>"$work/parts/ended"
    echo "compute-sanitizer is not installed" >"$work/parts/sanitizer.log"
fi
python3 scripts/gpu_parts.py gather "$work/parts" "$out" || failed=1
tar -C "$work" -czf "$out/runs.tar.gz" runs parts
exit $failed
