#!/bin/sh
# Make .venv with everything that the demo and the tests need. Uses uv when it is there, else python3 -m venv.
set -eu
cd "$(dirname "$0")"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 2
}

# a Python that we support, by any of its usual names
find_python() {
    for name in python3 python3.13 python3.12 python3.14 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

# torch from the package index brings CUDA on Linux: about 6 GB in all
free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
need_mb=8000
[ "${TORCH_BACKEND:-}" = cpu ] && need_mb=2500
[ -x .venv/bin/python ] || [ "${free_mb:-99999}" -ge "$need_mb" ] ||
    fail "only ${free_mb} MB free here, the environment needs ${need_mb} MB (TORCH_BACKEND=cpu makes it smaller)"

python=$(find_python)
if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null; then
    say "using the .venv that is here"
elif command -v uv >/dev/null 2>&1; then
    say "making .venv with uv"
    uv venv --quiet --clear --python "${python:->=3.11,<3.15}" .venv ||
        fail "uv found no Python 3.11 to 3.14: install one, for example with: uv python install 3.12"
elif [ -n "$python" ]; then
    say "making .venv with $python -m venv"
    "$python" -m venv --clear .venv 2>/dev/null || {
        rm -rf .venv
        fail "$python cannot make a virtual environment. Install uv (pip install uv, or your system's package), or" \
            "Python's venv module (on Debian and Ubuntu: apt install python3-venv), then run this again"
    }
else
    fail "found neither uv nor a Python 3.11 to 3.14: install one of them, then run this again"
fi

if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    [ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv ||
        fail "pip could not fetch uv from the package index; is the network there?"
    uv=.venv/bin/uv
fi

say "installing torch, torchvision and the rest (some minutes, once)"
VIRTUAL_ENV=.venv "$uv" pip install --quiet --python .venv/bin/python \
    ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} --constraint constraints.txt -e '.[dev]' ||
    fail "the packages could not be installed; the lines above say which${TORCH_BACKEND:+ and from which address. With \
TORCH_BACKEND=$TORCH_BACKEND torch comes from an index of its own: where that is out of reach, run this again without it}"
touch .venv/ready
