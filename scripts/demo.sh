#!/usr/bin/env bash
# Acts a harmless attack against a running `make run`, and shows what the product made of it.
# Starts (and afterwards stops) one by itself if none runs.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${RAMPART_DATA:-$PWD/.run}
bin=${RAMPART_BIN:-${CARGO_TARGET_DIR:-target}/release}
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

own_run=''
work=$(mktemp -d)
cleanup() {
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
# One value of a JSON document on standard input: json '.a[0].b' in Python's words.
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }

if ! running; then
    echo "nothing is running yet: starting server and agent (make run keeps them running)"
    scripts/run.sh > "$work/run.log" 2>&1 &
    own_run=$!
    for _ in $(seq 600); do running && break; kill -0 "$own_run" 2>/dev/null || { cat "$work/run.log" >&2; fail "make run failed"; }; sleep 0.1; done
    for _ in $(seq 300); do grep -q 'Rampart is running' "$work/run.log" && break; sleep 0.1; done
fi
token=$("$bin/edr" api-token create --db "$data/rampart.db" --name "demo-$$" --role administrator --ttl 1h | tail -1)

miner_rule=$(api GET '/rules?limit=500' | json "next(r['id'] for r in d['items'] if 'miner' in r['name'].lower())")
mode_before=$(api GET "/rules/$miner_rule" | json "d['mode']")
since=$(date -u +%Y-%m-%dT%H:%M:%S.000000000Z)

echo
echo "1. rule $miner_rule (crypto miner) from mode '$mode_before' to 'auto': it may now kill"
api PATCH "/rules/$miner_rule" '{"mode":"auto"}' > /dev/null
version=$(api GET '/rules?limit=1' | json "d.get('rules_version') or 0")
for _ in $(seq 100); do
    api GET /hosts | json "all((h['rules_version'] or 0) >= $version for h in d['items'] if h['online'])" | grep -q True && break
    sleep 0.1
done

echo "2. the attack: a miner (sleep under the name xmrig), an encoded shell command, a shell from a web server"
cp /bin/sleep "$work/xmrig"
cp /bin/sh "$work/nginx"
set +e
started=$(date +%s.%N)
"$work/xmrig" 30
status=$?
took=$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN{printf "%.3f", b - a}')
sh -c 'echo ZWNobyBoYXJtbGVzcwo= | base64 -d | sh' > /dev/null
"$work/nginx" -c 'sh -c "id; true"; true' > /dev/null
set -e
if [ $status -gt 128 ]; then
    echo "   the miner was killed by signal $((status - 128)) after $took s (it wanted 30 s)"
else
    echo "   the miner ended with status $status after $took s"
fi

echo "3. what the server shows:"
for _ in $(seq 100); do
    alerts=$(api GET "/alerts?limit=100")
    ready=$(printf '%s' "$alerts" | json "len([a for a in d['items'] if a['last_time'] >= '$since']) >= 3 and any(r['state'] == 'verified' for a in d['items'] if a['last_time'] >= '$since' for r in a['responses'])")
    [ "$ready" = True ] && break
    sleep 0.1
done
api PATCH "/rules/$miner_rule" "{\"mode\":\"$mode_before\"}" > /dev/null
printf '%s' "$alerts" | SINCE="$since" python3 -c '
import json, os, sys
alerts = [a for a in json.load(sys.stdin)["items"] if a["last_time"] >= os.environ["SINCE"]]
for a in alerts:
    rule = a["rule"]
    print("   %-8s %-44s %s" % (rule["severity"], rule["name"], a["process"]["command_line"][:60]))
    for r in a["responses"]:
        print("            %s: %s (%s)" % (r["action"], r["state"], r["reason"]))
verified = sum(r["state"] == "verified" for a in alerts for r in a["responses"])
print("\n   %d alerts, %d process(es) killed with a verified receipt" % (len(alerts), verified))
sys.exit(0 if len(alerts) >= 3 and verified >= 1 else 1)
' || fail "fewer than three alerts or no verified receipt; see $data/agent.log and $data/server.log"
echo "   open $(cat "$data/console-url") → Alerts"
echo "   (the rule is back in mode '$mode_before')"
