# shellcheck shell=bash
# What the scripts share. Sourced by them, never run.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# A plain user's PATH on Debian lacks the folders of ip, ethtool and nginx.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "scripts/$(basename -- "$0")" "$*" >&2
    exit 1
}

# The text between the first line and the first line that is no comment: each script's --help.
help_of() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"; }

# version_at_least HAVE WANT: both as 1.88.0
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The oldest compiler that builds this workspace.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

# toolchain_suits DIR [lints]: whether DIR/cargo and DIR/rustc are recent enough, and whether
# they can format and lint where that was asked for.
toolchain_suits() {
    local dir=$1 tool version
    for tool in cargo rustc; do
        [ -x "$dir/$tool" ] || return 1
        version=$(cd "$ROOT" && "$dir/$tool" --version 2>/dev/null | cut -d' ' -f2) || return 1
        [ -n "$version" ] && version_at_least "$version" "$(rust_wanted)" || return 1
    done
    [ "${2:-}" = lints ] || return 0
    (cd "$ROOT" && env PATH="$dir:$PATH" cargo fmt --version &&
        env PATH="$dir:$PATH" cargo clippy --version) >/dev/null 2>&1
}

# find_toolchain [lints]: prints the first folder whose toolchain suits; fails if there is none.
find_toolchain() {
    local dir
    local -a folders
    IFS=: read -ra folders <<<"$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/bin"
    for dir in "${folders[@]}"; do
        if [ -n "$dir" ] && toolchain_suits "$dir" "${1:-}"; then
            printf '%s\n' "$dir"
            return 0
        fi
    done
    return 1
}

# use_toolchain [lints]: puts that folder first on PATH.
use_toolchain() {
    local dir
    dir=$(find_toolchain "${1:-}") || fail "no cargo of version $(rust_wanted) or later; run scripts/setup as root"
    export PATH="$dir:$PATH"
}

# Where cargo leaves what it builds.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$ROOT/target}"; }

# build_shipped PROFILE PACKAGE...: as they are installed and measured, with DPDK and its drivers inside
# the binaries; without, where DPDK's static libraries are not here (Debian's libdpdk-dev has them).
build_shipped() {
    local profile=$1 libraries package
    local -a what=()
    shift
    # What is missing altogether the build says, and what to do about it.
    libraries=$(pkg-config --variable=libdir libdpdk 2>/dev/null) || true
    for package in "$@"; do
        what+=(-p "$package")
        case $package in
        sluiced | ring)
            if [ -n "$libraries" ] && [ -e "$libraries/librte_eal.a" ]; then what+=(--features "$package/static-pmd"); fi
            ;;
        esac
    done
    (cd "$ROOT" && cargo build --locked --profile "$profile" "${what[@]}" --bins)
}

# The last processor that this process may use: the first one has the most interrupts.
last_core() {
    local list
    list=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
    list=${list##*,}
    printf '%s\n' "${list##*-}"
}

# Why no network namespace with a TAP can be made here, as one line; nothing if all is there.
why_no_lab() {
    if [ "$(id -u)" != 0 ]; then
        say "needs root: network namespaces and TAP interfaces are made (try sudo $0)"
    elif [ ! -e /dev/net/tun ]; then
        say "/dev/net/tun is missing: load the module (modprobe tun), or give the container the device"
    elif ! (: <>/dev/net/tun) 2>/dev/null; then
        say "/dev/net/tun cannot be opened: the container needs access to this device"
    elif ! unshare --net --mount true 2>/dev/null; then
        say "no capability to make network namespaces: CAP_SYS_ADMIN and CAP_NET_ADMIN are needed"
    fi
}

HUGEPAGES=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

# set_hugepages N: asks again where memory was in pieces, once the kernel has put them together.
set_hugepages() {
    local tries
    for tries in 1 2 3; do
        echo "$1" >"$HUGEPAGES"
        if [ "$(cat "$HUGEPAGES")" -ge "$1" ]; then return; fi
        if [ "$tries" = 1 ] && [ -w /proc/sys/vm/compact_memory ]; then echo 1 >/proc/sys/vm/compact_memory; fi
        sleep 0.2
    done
}

# lend_hugepages N: at least N of 2 MiB until give_back_hugepages; as many as there were, if memory is
# in pieces.
lend_hugepages() {
    lent_before=$(cat "$HUGEPAGES")
    [ "$lent_before" -lt "$1" ] || return 0
    set_hugepages "$1"
    if [ "$(cat "$HUGEPAGES")" -lt "$1" ]; then echo "$lent_before" >"$HUGEPAGES"; fi
}

# Again where somebody who is just ending still had some of them.
give_back_hugepages() {
    local tries
    [ -n "${lent_before:-}" ] || return 0
    for tries in 1 2 3 4 5; do
        echo "$lent_before" >"$HUGEPAGES"
        if [ "$(cat "$HUGEPAGES")" -le "$lent_before" ]; then return; fi
        if [ "$tries" -lt 5 ]; then sleep 0.2; fi
    done
}

# --- Counting results -------------------------------------------------------------------------

passed=0 failed=0 skipped=0
LOGS=

# A folder for the steps' output, gone at the end unless a step failed.
open_logs() {
    LOGS=$(mktemp -d "${TMPDIR:-/tmp}/sluice-${1}.XXXXXX")
    trap 'if [ "$failed" = 0 ]; then rm -rf "$LOGS"; fi' EXIT
}

# report NAME PASSED FAILED SKIPPED SECONDS LOG: adds to the sums, says so on one line, and shows
# the log of what failed.
report() {
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    local verdict=ok
    if [ "$3" != 0 ]; then verdict=FAILED; elif [ "$2" = 0 ]; then verdict=skipped; fi
    printf '%-44s %-8s %5s passed %3s failed %3s skipped %5s s\n' "$1" "$verdict" "$2" "$3" "$4" "$5"
    if [ "$3" != 0 ]; then
        sed 's/^/    /' "$6" | tail -n 60
        printf '    (all of it: %s)\n' "$6"
    fi
}

log_of() { printf '%s/%s.log\n' "$LOGS" "${1//[^a-z0-9]/-}"; }

# step NAME COMMAND...: one check, passed if the command exits with 0.
step() {
    local name=$1 log start=$SECONDS status=0
    log=$(log_of "$name")
    shift
    # Not as a condition: a function that is one runs on after a command that failed.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        report "$name" 1 0 0 $((SECONDS - start)) "$log"
    else
        report "$name" 0 1 0 $((SECONDS - start)) "$log"
    fi
}

# skip NAME REASON: a check that cannot run here; where it must run (CI=true) that is a failure.
skip() {
    local log
    log=$(log_of "$1")
    printf 'cannot run here: %s\n' "$2" | tee "$log"
    if [ "${CI:-}" = true ]; then report "$1" 0 1 0 0 "$log"; else report "$1" 0 0 1 0 "$log"; fi
}

# tests NAME COMMAND...: a command that prints `test result:` lines as cargo test does. A test
# that finds it cannot run prints a line `SKIP reason` and returns.
tests() {
    local name=$1 log start=$SECONDS status=0 p f i s
    log=$(log_of "$name")
    shift
    "$@" >"$log" 2>&1 || status=$?
    read -r p f i < <(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
    # `#[ignore = "measures ..."]` marks a measurement, to be started by hand: no test.
    i=$((i - $(grep -c '^test .* \.\.\. ignored, measures' "$log" || true)))
    s=$(grep -c '^SKIP ' "$log" || true)
    p=$((p - s)) s=$((s + i))
    if [ "${CI:-}" = true ]; then f=$((f + s)) s=0; fi
    # What stops before or between tests (it does not compile, it crashed) is a failure too.
    if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ "$status" = 0 ] && [ $((p + f + s)) = 0 ]; then
        echo "no test ran" >>"$log"
        f=1
    fi
    report "$name" "$p" "$f" "$s" $((SECONDS - start)) "$log"
    sed -n 's/^SKIP /    skipped: /p; /ignored, measures/d; s/^test \(.*\) \.\.\. ignored/    skipped: \1/p' "$log"
}

# The last line, and the exit code.
summary() {
    printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
}
