#!/usr/bin/env bash
# Runs a command with real brokers at hand, and stops them afterwards, whatever happens.
#
#   .ci/brokers.sh cargo test …
#
# The command finds:
#   ROOMCAST_TEST_KAFKA         127.0.0.1:PORT of an Apache Kafka that all tests share
#   ROOMCAST_TEST_KAFKA_HOME    for a broker of one's own: `$ROOMCAST_TEST_KAFKA_HOME/kafka-start DIR PORT [KEY=VALUE…]`
#   ROOMCAST_TEST_NATS_SERVER   the nats-server program: it starts in 50 ms, so every test starts its own
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "usage: .ci/brokers.sh COMMAND [ARGUMENT…]" >&2; exit 2; }
"$here/fetch.sh" kafka nats
# shellcheck source=.ci/fetch.sh
. "$here/fetch.sh"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-brokers.XXXXXX")
broker=
command=

# Ends what was started here, by pid: the command's own process group first, then the broker.
finish() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  [ -z "$command" ] || kill -TERM -- "-$command" 2>/dev/null || true
  if [ -n "$broker" ]; then
    kill -TERM "$broker" 2>/dev/null || true
    wait "$broker" 2>/dev/null || true
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# So that the broker goes even when this shell is killed with -9.
bound=()
if setpriv --pdeathsig TERM true 2>/dev/null; then bound=(setpriv --pdeathsig TERM); fi

# A port may be taken between the look and the broker's own bind: then another one is tried.
for _ in 1 2 3 4 5; do
  while port=$((RANDOM % 12000 + 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  rm -rf "$scratch/kafka"
  "${bound[@]}" "$kafka_home/kafka-start" "$scratch/kafka" "$port" > "$scratch/kafka.log" 2>&1 &
  broker=$!
  if await_line "$scratch/kafka.log" "Kafka Server started" "$broker"; then break; fi
  grep --quiet --fixed-strings --ignore-case "address already in use" "$scratch/kafka.log" \
    || { cat "$scratch/kafka.log" >&2; fail "Apache Kafka did not start; its log stands above"; }
  kill -KILL "$broker" 2>/dev/null || true
  wait "$broker" 2>/dev/null || true
  broker=
done
[ -n "$broker" ] || fail "no free port was found for Apache Kafka"

export ROOMCAST_TEST_KAFKA=127.0.0.1:$port
export ROOMCAST_TEST_KAFKA_HOME=$kafka_home
export ROOMCAST_TEST_NATS_SERVER=$nats_server

# A process group of its own: a signal to this script ends all that the command has started.
set -m
"${bound[@]}" "$@" <&0 &
command=$!
set +m
status=0
wait "$command" || status=$?
kill -0 "$broker" 2>/dev/null || { tail -n 50 "$scratch/kafka.log" >&2; say "Apache Kafka ended during the run"; status=1; }
exit "$status"
