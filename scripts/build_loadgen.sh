#!/bin/sh
# Builds MLPerf LoadGen's C++ harness around its null system, for benchmarks/engine.py.
# Usage: sh scripts/build_loadgen.sh PYTHON FOLDER; the program is FOLDER/loadgen_null.
set -eu
python=$1
folder=$2
here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^mlcommons[-_]loadgen==//p' "$here/constraints.txt")
mkdir -p "$folder"
"$python" -m pip download --quiet --no-deps --no-binary mlcommons-loadgen --dest "$folder" \
    "mlcommons-loadgen==$version"
tar -xzf "$folder/mlcommons_loadgen-$version.tar.gz" -C "$folder"
sources="$folder/mlcommons_loadgen-$version"
# Its setup.py writes this header in the same way: the configuration file as a string.
{
    echo 'const char* mlperf_conf ='
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' "$sources/mlperf.conf"
    echo ';'
} >"$sources/mlperf_conf.h"
${CXX:-c++} -std=c++17 -O3 -w -pthread -I "$sources" -DMAJOR_VERSION="${version%%.*}" \
    -DMINOR_VERSION="$(echo "$version" | cut -d . -f 2)" -o "$folder/loadgen_null" \
    "$here/benchmarks/peers/loadgen_null.cc" "$sources"/*.cc "$sources"/generated/*.cc
