#!/usr/bin/env bash
# Fuzzes readers, each for some seconds, and keeps what takes ways of its own for the tests:
#
#     tests/fuzz/run.sh SECONDS [READER…]
#
# It needs cargo-fuzz and a C++ compiler. Inputs are in tests/fuzz/corpus, those that fail in tests/fuzz/artifacts. The smallest
# set of inputs that reaches all that was reached goes to tests/goldens/hostile/READER.tar.gz, which the test `hostile` reads.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?the seconds for each reader}
shift
corpus=$PWD/corpus
# Sanitizers are for unstable compilers; this one has their run-time libraries.
export RUSTC_BOOTSTRAP=1
FIRSTSIGHT_SEEDS=$corpus cargo test --release --workspace --manifest-path ../../Cargo.toml --test hostile -- --ignored write_seeds > /dev/null
readers=("$@")
[ ${#readers[@]} -gt 0 ] || mapfile -t readers < <(ls "$corpus")
cargo fuzz build --fuzz-dir . --debug-assertions reader
program=$(ls -t "${CARGO_TARGET_DIR:-target}"/*/release/reader | head -1)
for reader in "${readers[@]}"; do
    export FIRSTSIGHT_READER=$reader
    mkdir -p "artifacts/$reader" "corpus/$reader"
    echo "== $reader"
    "$program" "corpus/$reader" -artifact_prefix="artifacts/$reader/" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536 -print_final_stats=1 2>&1 | tee "artifacts/$reader.log" | tail -12
    rm -rf "merged/$reader" && mkdir -p "merged/$reader"
    "$program" -merge=1 -max_len=16384 "merged/$reader" "corpus/$reader" > "artifacts/$reader.merge.log" 2>&1
    # The smallest, 100 kB of them: a golden must be small.
    total=0
    for input in $(ls -Sr "merged/$reader"); do
        total=$((total + $(stat -c %s "merged/$reader/$input")))
        if [ $total -lt 100000 ]; then echo "$input"; fi
    done | tar --directory="merged/$reader" --create --gzip --mtime=@0 --owner=0 --group=0 --mode=644 --files-from=- \
        --file="../goldens/hostile/$reader.tar.gz"
done
