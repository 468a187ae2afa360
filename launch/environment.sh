# shellcheck shell=bash
# Makes the virtual environment .venv in the checkout. The scripts in this folder source this file.

fail() {
  echo "error: $*" >&2
  exit 2
}

# Prints the name of a Python 3.11 or newer that can make virtual environments: $PYTHON, or the first one on the PATH.
find_python() {
  local candidate missing=""
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.13 python; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
    missing=$candidate
  done
  [ -z "$missing" ] || fail "$missing cannot make virtual environments, install its venv module (Debian: python3-venv)"
  fail "found no Python 3.11 or newer on the PATH; install one, or name it: PYTHON=/path/to/python bash $0"
}

# prepare_environment [EXTRA]: makes .venv if it is missing, and installs the package if it is not yet installed or
# setup.py has changed. A stamp file records what was installed, so a second run starts at once.
prepare_environment() {
  local extra=${1:-} python sources stamp
  # A .venv whose Python does not start, or is older than 3.11, is made again.
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)" >&2
    rm -rf .venv
    "$python" -m venv .venv || fail "$python -m venv .venv failed"
  fi
  sources="$PWD $(cksum <setup.py)"
  stamp=.venv/installed${extra:+-$extra}
  if [ "$(cat "$stamp" 2>/dev/null)" != "$sources" ]; then
    echo "installing posttrain_jax${extra:+ with what its tests need} into .venv, about 1 GB" >&2
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --editable ".${extra:+[$extra]}" ||
      fail "pip could not install the package, see above"
    echo "$sources" | tee .venv/installed >"$stamp"
  fi
}
