# shellcheck shell=bash
# Commands on every worker of every slice at once. gcloud takes 64 workers at a time unless told otherwise; a job whose
# processes wait for one another needs all of them, hence --batch-size=all.

# The first lines fetch the worker's own script, so that they work on a machine that has just booted.
start_command() {
  printf '%s' "sudo mkdir -p /var/ftcot && sudo gcloud storage cp $1/worker.sh /var/ftcot/worker.sh && sudo bash /var/ftcot/worker.sh start $1"
}

worker_command() { printf '%s' "if [ -e /var/ftcot/worker.sh ]; then sudo bash /var/ftcot/worker.sh $1; else echo \"ftcot-worker \$HOSTNAME - idle\"; fi"; }

# on_workers SLICE COMMAND [WORKER]: for as long as FTCOT_TPU_SSH_SECONDS, because a connection to a machine that is taken
# away may never end; starting a job, which installs the package, may take twelve times as long.
on_workers() {
  local node=all worker=all seconds=$ssh_seconds
  [[ ${3:-} ]] && node=0 worker=$3
  [[ $2 != *"worker.sh start "* ]] || seconds=$((12 * ssh_seconds))
  call_within "$seconds" gcloud compute tpus queued-resources ssh "$1" "--node=$node" "--worker=$worker" --batch-size=all \
    --quiet "--command=$2" "${ssh_flags[@]}" "--project=$FTCOT_TPU_PROJECT" "--zone=$FTCOT_TPU_ZONE"
}

# worker_states SLICE: a line `HOST JOB STATE` for each worker. Fails unless every worker answered: gcloud's own exit
# code is 0 when it could not prepare a machine.
worker_states() {
  local lines
  lines=$(on_workers "$1" "$(worker_command status)" 2>"$scratch/error" | sed -n 's/^ftcot-worker //p') || return
  if [[ $(grep -c . <<<"$lines") -ne $workers ]]; then
    echo "$(grep -c . <<<"$lines") of $workers answered" >"$scratch/error"
    return 1
  fi
  printf '%s\n' "$lines"
}
