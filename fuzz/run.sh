#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other: fuzz/run.sh [SECONDS [TARGET…]]; ten minutes each and all
# of them where nothing is said. What a target found before is in fuzz/corpus/TARGET and is gone on from. Where one
# crashes, its input is in fuzz/artifacts/TARGET and the script ends with an error once all have run.
#
# The coverage that libFuzzer needs is no stable part of the compiler; RUSTC_BOOTSTRAP has the stable one do it.
# RAMPART_CORPORA: folder with sigma/ and evtx/ to begin with, else ../shared/corpora.
# RAMPART_FUZZ_JOBS: cargo's -j.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-600}
targets=("${@:2}")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
fi
corpora=${RAMPART_CORPORA:-../../shared/corpora}
triple=$(rustc -vV | sed -n 's/^host: //p')

export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
jobs=()
[ -z "${RAMPART_FUZZ_JOBS:-}" ] || jobs=(-j "$RAMPART_FUZZ_JOBS")
cargo build --release --locked --target "$triple" "${jobs[@]}"

seeds() { # seeds TARGET: folders with inputs to begin with
    case $1 in
        native_rules) echo ../rules/linux-starter ;;
        behaviours) echo ../crates/rule-engine/data/behaviour ;;
        sigma_rules) echo "$corpora/sigma/rules/linux/process_creation" "$corpora/sigma/rules-emerging-threats/2024" ;;
        read_evtx) echo "$corpora/evtx" ;;
    esac
}

failed=()
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    folders=("corpus/$target")
    for folder in $(seeds "$target"); do
        [ ! -d "$folder" ] || folders+=("$folder")
    done
    begun=$(date +%s)
    "target/$triple/release/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -max_len=262144 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" "${folders[@]}" > "artifacts/$target.log" 2>&1 \
        || failed+=("$target")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target.log")
    echo "$target: $(($(date +%s) - begun)) s, ${runs:-?} inputs, coverage $(grep -o 'cov: [0-9]*' "artifacts/$target.log" | tail -n 1)"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "ended with an error: ${failed[*]}; see fuzz/artifacts/TARGET.log" >&2
    exit 1
fi
