#!/usr/bin/env bash
# Starts the server and an agent on this machine and prints where the console is.
# Ctrl-C stops both. Data stays in .run/ (or RAMPART_DATA), so a second start goes on with it.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${RAMPART_DATA:-$PWD/.run}
addr=${RAMPART_ADDR:-127.0.0.1:8443}
bin=${RAMPART_BIN:-${CARGO_TARGET_DIR:-target}/release}
fail() { printf 'run: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "the agent watches the kernel and must run as root; use: sudo make run"
for binary in edr-server edr-agent edr; do
    [ -x "$bin/$binary" ] || fail "$bin/$binary is not there; run: make build"
done
mkdir -p "$data" && chmod 700 "$data"
exec 9>"$data/lock"
flock -n 9 || fail "another 'make run' uses $data; stop it, or set RAMPART_DATA and RAMPART_ADDR to others"

server_pid='' agent_pid=''
stop() {
    trap '' INT TERM
    [ -n "$server_pid" ] || return 0
    echo
    echo "stopping"
    # The agent first, so that its last batch finds a server.
    if [ -n "$agent_pid" ]; then kill -TERM "$agent_pid" 2>/dev/null || true; wait "$agent_pid" 2>/dev/null || true; fi
    if [ -n "$server_pid" ]; then kill -TERM "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true; fi
    rm -f "$data/console-url"
}
trap 'exit 130' INT
trap 'exit 143' TERM
trap stop EXIT

# Waits until FILE has a line with TEXT, as long as PID lives.
wait_for_line() { # FILE TEXT PID NAME
    local tries=0
    until grep -qF "$2" "$1" 2>/dev/null; do
        kill -0 "$3" 2>/dev/null || { tail -n 20 "$data/$4.log" >&2; fail "edr-$4 ended; its last words are above"; }
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "nothing from edr-$4 within a minute; see $data/$4.log"
        sleep 0.1
    done
}

# Children start without the terminal's Ctrl-C: this script stops them in order.
umask 077
: > "$data/server.out"
setsid "$bin/edr-server" -addr="$addr" -db="$data/rampart.db" > "$data/server.out" 2>> "$data/server.log" 9>&- &
server_pid=$!
wait_for_line "$data/server.out" "listening on https://" "$server_pid" server
url=$(sed -n 's/.*listening on \(https:\/\/[^ ]*\).*/\1/p' "$data/server.out" | head -1)
echo "$url" > "$data/console-url"

password=$(sed -n 's/^  password: *\([^ ]*\).*/\1/p' "$data/server.out")

agent=("$bin/edr-agent" -server="$url" -cert="$data/ca.pem" -state="$data/agent")
if [ ! -e "$data/agent/identity.json" ]; then
    token=$("$bin/edr" token create --db "$data/rampart.db" 2>> "$data/server.log") ||
        fail "no enrolment token could be made; see $data/server.log"
    agent+=(-token="$token")
fi
: > "$data/agent.log"
setsid "${agent[@]}" >> "$data/agent.log" 2>&1 9>&- &
agent_pid=$!
wait_for_line "$data/agent.log" "agent is running" "$agent_pid" agent

echo
echo "  Rampart is running."
echo
echo "  console    $url"
if [ -n "$password" ]; then
    echo "  user       admin"
    echo "  password   $password   (shown this once; you choose your own when you sign in)"
fi
echo "  logs       $data/server.log  $data/agent.log"
echo
echo "  The certificate is from this server's own CA ($data/ca.pem): the browser will ask once."
echo "  Act a harmless attack:  make demo      (in another terminal)"
echo "  Forgotten password:     $bin/edr user reset-password --db $data/rampart.db admin"
echo "  Stop:                   Ctrl-C"
echo

# Ends when either ends; that is then an error.
set +e
wait -n "$server_pid" "$agent_pid"
fail "server or agent ended by itself; see $data/server.log and $data/agent.log"
