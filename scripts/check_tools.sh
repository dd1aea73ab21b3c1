#!/bin/sh
# Says which of the tools that building needs is missing or too old, all at once; changes nothing.
# Usage: sh scripts/check_tools.sh [PYTHON]
python=${1:-python3}
missing=0

lacks() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    missing=1
}

if ! command -v "$python" >/dev/null; then
    lacks "python3 is missing (3.11 or newer)" "install the package python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lacks "$("$python" --version 2>&1) is too old (3.11 or newer is needed)" \
        "install a newer python3, or name one: make PYTHON=python3.12"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    lacks "$python has no venv" "install the package python3-venv"
fi

compiler=${CC:-cc}
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo '#include <stdio.h>
int main(void) { return puts("") < 0; }' >"$probe/probe.c"
if ! command -v "$compiler" >/dev/null; then
    lacks "no C compiler ($compiler)" "install the package build-essential (gcc and libc6-dev)"
elif ! "$compiler" "$probe/probe.c" -o "$probe/probe" 2>"$probe/log"; then
    lacks "$compiler cannot compile and link a C program: $(tail -n 1 "$probe/log")" \
        "install the package build-essential (gcc and libc6-dev)"
fi

if ! command -v cargo >/dev/null; then
    lacks "cargo is missing (1.85 or newer)" "install Rust 1.85 or newer, with rustup for example"
else
    version=$(cargo --version | cut -d ' ' -f 2)
    major=${version%%.*}
    rest=${version#*.}
    if [ "$major" -eq 1 ] && [ "${rest%%.*}" -lt 85 ]; then
        lacks "cargo $version is too old (1.85 or newer is needed)" "update Rust to 1.85 or newer"
    fi
fi
exit $missing
