#!/usr/bin/env bash
# Measures the detection engine and prints one table: figure, goal, and how it stands to two other engines,
# measured in the same run on the same rules and events. Nothing is judged. Takes about five minutes besides
# building. A peer that can't be built is left out, with the reason.
#
# RAMPART_CORPORA: folder with sigma/ (rules) and evtx/ (recorded logs), else ../shared/corpora.
# RAMPART_BENCH_SECONDS: how long each peer is measured (10); RAMPART_BENCH_JOBS: cargo's -j.
set -euo pipefail
cd "$(dirname "$0")/.."

corpora=${RAMPART_CORPORA:-../shared/corpora}
seconds=${RAMPART_BENCH_SECONDS:-10}
target=${CARGO_TARGET_DIR:-$PWD/target}
jobs=()
[ -z "${RAMPART_BENCH_JOBS:-}" ] || jobs=(-j "$RAMPART_BENCH_JOBS")

if ! [ -d "$corpora/sigma/rules" ] || ! [ -d "$corpora/evtx" ]; then
    echo "skipped: no Sigma rules and recorded logs at $corpora; set RAMPART_CORPORA to a folder with sigma/ and evtx/"
    exit 0
fi

cargo build --release --locked "${jobs[@]}" -p cli
cargo build --release --locked "${jobs[@]}" -p log-reader --example flatten
cargo build --release --locked "${jobs[@]}" -p rule-engine --example sigma_throughput --example throughput
cargo build --release --locked "${jobs[@]}" -p indicators --example lookup_speed
cargo build --release --locked "${jobs[@]}" -p file-scan --example yara_speed
# A crate that one peer brings along asks for a newer compiler than it needs.
peers_log=$(mktemp)
peers=(sigma-rust rsigma)
if ! CARGO_TARGET_DIR="$target/engine-peers" cargo build --release --locked --ignore-rust-version "${jobs[@]}" \
    --manifest-path benches/engine-peers/Cargo.toml > "$peers_log" 2>&1; then
    echo "left out: sigma-rust, rsigma: they could not be built: $(grep -m 1 '^error' "$peers_log" || tail -n 1 "$peers_log")"
    peers=()
fi
rm -f "$peers_log"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
examples=$target/release/examples

number() { # number FILE REGEX: the first group of the regex in the file, `-` where it is not there
    local found
    found=$(sed -nE "s/.*$2.*/\\1/p" "$1" | head -n 1)
    echo "${found:--}"
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.1f", a / b; else printf "-" }'; }
row() { printf '%-42s %10s %12s %12s %7s %12s %7s\n' "$@"; }
compared() { # compared NAME GOAL OWN REGEX more|less: our figure beside each peer's, and how many times better it is
    local cells=() peer value
    for peer in sigma-rust rsigma; do
        value=$(number "$work/$peer" "$4")
        case $5 in
            more) cells+=("$value" "$(ratio "$3" "$value")") ;;
            less) cells+=("$value" "$(ratio "$value" "$3")") ;;
            same) cells+=("$value" "") ;;
        esac
    done
    row "$1" "$3" "$2" "${cells[@]}"
}
alone() { row "$1" "$3" "$2" "" "" "" ""; }

"$examples/flatten" "$corpora/evtx" > "$work/events.ndjson"
echo "events: $(wc -l < "$work/events.ndjson") recorded ones; load of the machine before: $(cut -d ' ' -f 1-3 /proc/loadavg)"

"$examples/sigma_throughput" "$corpora/sigma" "$work/events.ndjson" > "$work/parsed"
touch "$work/sigma-rust" "$work/rsigma"
for peer in "${peers[@]}"; do
    if ! "$target/engine-peers/release/engine-peers" "$peer" "$corpora/sigma" "$work/events.ndjson" "$seconds" > "$work/$peer"; then
        echo "left out: $peer: it ended with an error, see above"
    fi
done

# Files in which loading an index counts for little: the same events many times over.
copies=$(( 600000 / $(wc -l < "$work/events.ndjson") + 1 ))
mkdir "$work/evtx"
for ((copy = 0; copy < copies; copy++)); do
    cat "$work/events.ndjson"
    # Links have names of their own, so that none is taken for another.
    ln -s "$(realpath "$corpora/evtx")" "$work/evtx/$copy"
done > "$work/many.ndjson"
# As the other rates, these are of the best pass: what else the machine does only slows them.
passes=3
best_of() { # best_of OUT REGEX COMMAND...: what the pass printed whose figure, the first group of the regex, is largest
    local out=$1 regex=$2 pass figure best=0
    shift 2
    for ((pass = 0; pass < passes; pass++)); do
        "$@" > "$work/pass"
        figure=$(number "$work/pass" "$regex")
        if [ "$pass" = 0 ] || awk -v a="$figure" -v b="$best" 'BEGIN { exit !(a > b) }'; then
            best=$figure
            mv "$work/pass" "$out"
        fi
    done
}
# The rules for Windows that the other figures are of; folders of other systems only cost loading.
replay() { # replay INPUT: its statistics
    "$target/release/edr" replay --rules "$corpora/sigma/rules" --rules "$corpora/sigma/rules-emerging-threats" \
        --rules "$corpora/sigma/rules-threat-hunting" --stats --json-errors --threads 1 "$1" 2>&1 > /dev/null | grep '"stats"' || true
}
per_second='"events_per_cpu_second":([0-9]+)'
best_of "$work/ndjson" "$per_second" replay "$work/many.ndjson"
best_of "$work/evtx-stats" "$per_second" replay "$work/evtx"

"$examples/throughput" 0 "$corpora/sigma" > "$work/linux"
"$examples/yara_speed" > "$work/yara"
lookups='^all +([0-9.]+) M'
best_of "$work/indicators" "$lookups" "$examples/lookup_speed"

echo
row "" "Rampart" "goal" "sigma-rust" "times" "rsigma" "times"
compared "Windows rules loaded" "all" "$(number "$work/parsed" '^([0-9]+) rules')" '^([0-9]+) rules' same
compared "parsed events/s, one core" ">= 400000" "$(number "$work/parsed" 'one core: best ([0-9]+)')" 'one core: best ([0-9]+)' more
compared "  matches in one pass" "" "$(number "$work/parsed" ', ([0-9]+) matches')" ', ([0-9]+) matches' same
alone "two threads / one, by CPU time" "2.0" "$(number "$work/parsed" '; ([0-9.]+) times by CPU')"
alone "two threads / one, by the clock" "2.0" "$(number "$work/parsed" '; ([0-9.]+) times; ')"
alone "NDJSON events/s, one core" ">= 300000" "$(number "$work/ndjson" "$per_second")"
alone "EVTX events/s, one core" ">= 100000" "$(number "$work/evtx-stats" "$per_second")"
compared "load, ms of CPU" "<= 500" "$(number "$work/parsed" 'load ([0-9]+) ms')" 'load ([0-9]+) ms' less
compared "resident memory with rules, KiB" "<= 61440" "$(number "$work/parsed" 'memory: ([0-9]+) KiB with rules and')" 'memory: ([0-9]+) KiB with rules' less
alone "one process start, all Linux rules, best us" "<= 3" "$(number "$work/linux" 'best pass ([0-9.]+)')"
alone "YARA, 5,900 generated rules, MB/s" ">= 30" "$(number "$work/yara" ': ([0-9.]+) MB\/s')"
alone "YARA, resident MB" "<= 90" "$(number "$work/yara" 'resident ([0-9]+) MB, at most')"
alone "indicators, 5 x 1,000,000: M look-ups/s" ">= 10" "$(number "$work/indicators" "$lookups")"
alone "indicators, MB of memory" "<= 12" "$(number "$work/indicators" '; ([0-9.]+) MB of memory')"
echo
echo "times: how much better Rampart is. Rates are by CPU time of the measuring thread, the best of several passes; two threads by the clock"
echo "need two cores that nobody else uses. Recorded attacks: other logs match less. load of the machine after: $(cut -d ' ' -f 1-3 /proc/loadavg)"
