#!/usr/bin/env bash
# Acts a harmless attack against a running `make run`, and shows what the product made of it.
# Starts (and afterwards stops) one by itself if none runs.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${RAMPART_DATA:-$PWD/.run}
bin=${RAMPART_BIN:-${CARGO_TARGET_DIR:-target}/release}
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

own_run='' miner='' mode_before='' token_id=''
work=$(mktemp -d)
cleanup() {
    # The rule must not stay able to kill, nor the key valid, whatever happened in between.
    if [ -n "$mode_before" ]; then api PATCH "/rules/$miner" "{\"mode\":\"$mode_before\"}" > /dev/null || true; fi
    if [ -n "$token_id" ]; then api DELETE "/api-tokens/$token_id" > /dev/null || true; fi
    rm -rf "$work"
    if [ -n "$own_run" ]; then kill -TERM "$own_run" 2>/dev/null || true; wait "$own_run" 2>/dev/null || true; fi
}
trap cleanup EXIT

running() { [ -e "$data/console-url" ] && api GET /health >/dev/null 2>&1; }
api() { # METHOD PATH [BODY]
    local url; url=$(cat "$data/console-url")
    curl --silent --show-error --fail-with-body --max-time 10 --cacert "$data/ca.pem" -X "$1" "$url/api/v1$2" \
        -H "authorization: Bearer ${token:-}" ${3:+-H 'content-type: application/json' -d "$3"}
}

if ! running; then
    echo "nothing is running yet: starting server and agent (make run keeps them running)"
    scripts/run.sh > "$work/run.log" 2>&1 &
    own_run=$!
    for _ in $(seq 600); do running && break; kill -0 "$own_run" 2>/dev/null || { cat "$work/run.log" >&2; fail "make run failed"; }; sleep 0.1; done
    for _ in $(seq 300); do grep -q 'Stop:' "$work/run.log" && break; sleep 0.1; done
    sed -n '/console/,/password/p' "$work/run.log"
fi
token=$("$bin/edr" api-token create --db "$data/rampart.db" --name "demo-$$" --role administrator --ttl 1h 2>/dev/null)

token_id=$(api GET '/api-tokens' | jq -r --arg name "demo-$$" '[.items[] | select(.name == $name)][-1].id // empty')

rules=$(api GET '/rules?limit=500')
miner=$(jq -r '[.items[] | select(.name | ascii_downcase | contains("miner"))][0].id // empty' <<< "$rules")
[ -n "$miner" ] || fail "there is no rule about miners any more; restore rules/linux-starter/crypto-miner.json in the console"
mode_before=$(jq -r --arg id "$miner" '.items[] | select(.id == $id) | .mode' <<< "$rules")
since=$(date -u +%Y-%m-%dT%H:%M:%S.000000000Z)
versions() { api GET /hosts | jq -c '[.items[] | select(.online) | .rules_version]'; }

echo
echo "1. rule $miner (crypto miner): from mode '$mode_before' to 'auto'; now it may kill"
before=$(versions)
if [ "$mode_before" != auto ]; then
    api PATCH "/rules/$miner" '{"mode":"auto"}' > /dev/null
    for _ in $(seq 100); do [ "$(versions)" != "$before" ] && break; sleep 0.1; done
fi

echo "2. the attack: a miner (sleep under the name xmrig), an encoded shell command, a shell from a web server"
cp /bin/sleep "$work/xmrig"
cp /bin/sh "$work/nginx"
started=$(date +%s.%N)
status=0
"$work/xmrig" 30 || status=$?
took=$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN{printf "%.3f", b - a}')
sh -c 'echo ZWNobyBoYXJtbGVzcwo= | base64 -d | sh' > /dev/null
"$work/nginx" -c 'sh -c "id; true"; true' > /dev/null
if [ "$status" -gt 128 ]; then
    echo "   the miner was killed by signal $((status - 128)) after $took s (it wanted 30 s)"
else
    echo "   the miner ended with status $status after $took s"
fi

echo "3. what the server shows:"
mine='[.items[] | select(.last_time >= $since)]'
for _ in $(seq 100); do
    alerts=$(api GET "/alerts?limit=100" | jq --arg since "$since" "$mine")
    missing=$(jq -r --arg rules "$miner 1002 1003" '($rules | split(" ")) - [.[].rule.id] | join(", ")' <<< "$alerts")
    killed=$(jq 'any(.[].responses[]; .state == "verified")' <<< "$alerts")
    [ -z "$missing" ] && [ "$killed" = true ] && break
    sleep 0.1
done
jq -r '.[] | "   \(.severity // .rule.severity)\t\(.rule.name): \(.process.command_line[0:70])",
    (.responses[-1:][] | "            \(.action): \(.state) (\(.reason))")' <<< "$alerts"
echo
jq -r '"   \(length) alerts, \([.[].responses[] | select(.state == "verified")] | length) process(es) killed with a verified receipt"' <<< "$alerts"
logs="see $data/agent.log and $data/server.log"
[ -z "$missing" ] || fail "no alert of rule $missing (1002: encoded shell command, 1003: shell started by a web server); are they enabled in the console? $logs"
[ "$killed" = true ] || fail "no receipt is verified; $logs"
echo "   open $(cat "$data/console-url") and there: Alerts"
echo "   (rule $miner goes back to mode '$mode_before')"
