#!/usr/bin/env bash
# Runs as root on every worker at every boot: takes up the job named in the machine's metadata, so that a machine that
# comes back after maintenance goes on without anybody's help. create.sh hands it to the machines.
set -euo pipefail
launch=$(curl --silent --fail --header 'Metadata-Flavor: Google' \
  "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/attributes/ftcot-launch")
work=${FTCOT_WORK:-/var/ftcot}
mkdir -p "$work"
if gcloud storage cp "$launch/worker.sh" "$work/worker.sh"; then
  bash "$work/worker.sh" boot "$launch"
else
  echo "ftcot: $launch holds no job yet; run.sh or setup.sh brings one" >&2
fi
