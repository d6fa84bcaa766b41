#!/bin/sh
# Runs the tests of kernels under valgrind and AddressSanitizer, from anywhere in the workspace:
#
#     crates/ops/tests/memory-checks.sh [valgrind|address]
#
# valgrind emulates a processor without AVX-512, so it checks the plain and the AVX2 kernels; AddressSanitizer checks
# all kernels of the processor. RUSTC_BOOTSTRAP lets the stable compiler take -Z flags.
# Each has its own build folder. x86-64 Linux.
set -eu
cd "$(dirname "$0")/../../.."
root=${CARGO_TARGET_DIR:-target}
target=x86_64-unknown-linux-gnu

# The path of a test binary, from cargo's messages.
binary() {
    cargo test --release -p firstsight-ops --no-run --message-format json "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

under_valgrind() {
    for test in instructions conv_block; do
        program=$(binary --test $test)
        echo "valgrind: $test"
        FIRSTSIGHT_CASES=4 RAYON_NUM_THREADS=2 valgrind --error-exitcode=1 --leak-check=no --quiet \
            --fair-sched=yes "$program" --nocapture --test-threads 1
    done
}

under_address_sanitizer() {
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR="$root/address-sanitizer"
    # Memory in the buffer pools at the end is not a leak.
    export ASAN_OPTIONS=detect_leaks=0
    cargo test --release -p firstsight-ops --target $target --test instructions --test conv_block --test ops -- --nocapture
}

case ${1:-all} in
valgrind) under_valgrind ;;
address) under_address_sanitizer ;;
all) under_valgrind && under_address_sanitizer ;;
*)
    echo "expected valgrind or address, found $1" >&2
    exit 2
    ;;
esac
