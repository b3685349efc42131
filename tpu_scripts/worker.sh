#!/usr/bin/env bash
# What runs on a worker: a TPU VM, a container of a JobSet, a task of Slurm or SkyPilot. Needs nothing else of this folder.
#
#   worker.sh start LAUNCH   fetch the job from LAUNCH (gs:// folder), install, run it in the background unless it runs
#   worker.sh boot LAUNCH    the same at boot: not again if it has ended by itself
#   worker.sh job FOLDER     run the job of a folder in the foreground; exits as ftcot does (42: preempted, resumable)
#   worker.sh status         one line: ftcot-worker HOST JOB running | exit=CODE | lost | idle
#   worker.sh log [LINES]    the end of the log
#   worker.sh stop           ask the job to save and end
#
# State is in FTCOT_WORK (/var/ftcot). Which of several processes this is, ftcot finds out by itself: from the TPU's
# metadata, from Slurm, or from FTCOT_COORDINATOR, FTCOT_PROCESSES and FTCOT_PROCESS.
set -euo pipefail
work=${FTCOT_WORK:-/var/ftcot}
log=$work/log.txt

say() { printf '%s ftcot-worker: %s\n' "$(date -u +%FT%TZ)" "$*"; }

# The job holds this lock as long as it lives; unlike a process number it cannot be mistaken after a reboot.
running() { [[ -e $work/running ]] && ! flock --nonblock "$work/running" true; }
held_job() { cat "$work/job" 2>/dev/null || echo -; }

status() {
  local state=idle
  if running; then
    state=running
  elif [[ -e $work/exit ]]; then
    state=exit=$(cat "$work/exit")
  elif [[ -e $work/job ]]; then
    state=lost # killed with its supervisor, or the machine was
  fi
  printf 'ftcot-worker %s %s %s\n' "$(hostname)" "$(held_job)" "$state"
}

# A Python that ftcot accepts: TPU images have 3.10, so uv brings one where none is newer.
make_environment() {
  local python
  for python in python3.13 python3.12 python3.11; do
    rm -rf "$work/venv"
    if command -v "$python" >/dev/null && "$python" -m venv "$work/venv" 2>/dev/null; then return; fi
  done
  rm -rf "$work/venv" # what venv leaves where it fails stands in uv's way
  python3 -m pip install --quiet uv
  python3 -m uv venv --quiet --seed --python 3.12 "$work/venv"
}

# install FOLDER: the package from the job's source, unless the same source is installed already.
install() {
  local source
  source=$(sha256sum <"$1/source.tar.gz")
  [[ $(cat "$work/installed" 2>/dev/null) == "$source" ]] && return
  rm -rf "$work/source" "$work/installed"
  mkdir -p "$work/source"
  tar -C "$work/source" -xzf "$1/source.tar.gz"
  "$work/venv/bin/python" -m pip --version >/dev/null 2>&1 || make_environment # none, or one that was cut short
  say "installing"
  (cd "$work/source" && "$work/venv/bin/python" -m pip install --quiet -c constraints.txt ".[${FTCOT_EXTRA:-tpu},gcs]")
  printf '%s\n' "$source" >"$work/installed"
}

# read_secrets VARIABLE=NAME...: from Secret Manager into the environment of the job, nowhere else.
read_secrets() {
  local secret value
  for secret in "$@"; do
    value=$(gcloud secrets versions access latest "--secret=${secret#*=}" "--project=$ftcot_project") ||
      { say "cannot read secret ${secret#*=}; may this machine's service account?" && return 1; }
    export "${secret%%=*}=$value"
  done
}

# read_job FOLDER: sets `command` and the environment it runs in.
read_job() {
  local ftcot=$work/venv/bin/ftcot ftcot_arguments=() ftcot_secrets=() ftcot_project=''
  [[ -x $ftcot ]] || ftcot=ftcot
  # shellcheck source=/dev/null
  source "$1/job.sh"
  read_secrets "${ftcot_secrets[@]}"
  cd "$1"
  command=("$ftcot" "${ftcot_arguments[@]}")
  say "${command[*]}"
}

# The background part of start: holds the lock, keeps the exit code, copies the log out. When the machine announces its
# end it tells every process, ftcot included, which then saves and exits 42: a second SIGTERM would end it at once, so
# none is passed on from here.
supervise() {
  exec 8>>"$work/running"
  flock --timeout 10 8 || exit 0 # who looks whether it runs holds the lock for a moment
  local code=1 signalled=1
  trap 'signalled=1' TERM INT HUP
  if read_job "$work/launch"; then
    "${command[@]}" &
    echo $! >"$work/pid"
    while [[ $signalled ]]; do # a signal ends the wait, not the job
      signalled='' code=0
      wait $! || code=$?
    done
    say "ftcot ended with exit code $code"
  fi
  printf '%s\n' "$code" >"$work/exit.partial"
  mv "$work/exit.partial" "$work/exit"
  gcloud storage cp "$log" "${1%/launch}/logs/$(hostname).txt" >/dev/null 2>&1 || say "the log could not be copied out"
}

start() {
  local launch=$1 job
  mkdir -p "$work"
  exec 9>>"$work/starting"
  flock 9 # the boot script and a command over ssh may come at once
  job=$(gcloud storage cat "$launch/job")
  if running; then
    [[ $(held_job) == "$job" ]] && say "runs already" && return
    say "another job runs here ($(held_job)); end it with stop.sh first"
    return 1
  fi
  mkdir -p "$work/launch"
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$launch" "$work/launch" 2>&1 | tail -n 1
  install "$work/launch"
  rm -f "$work/exit"
  printf '%s\n' "$job" >"$work/job"
  setsid bash "$work/launch/worker.sh" supervise "$launch" </dev/null >>"$log" 2>&1 9>&- &
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    if running || [[ -e $work/exit ]]; then
      say "started"
      return
    fi
    sleep 0.1
  done
  say "did not start; see $log"
  return 1
}

boot() {
  local code
  code=$(cat "$work/exit" 2>/dev/null || true)
  if [[ $code && $code != 42 && $(held_job) == "$(gcloud storage cat "$1/job")" ]]; then
    say "ended before with exit code $code: nothing to go on with"
    return
  fi
  start "$1"
}

stop() {
  if running; then kill -TERM "$(cat "$work/pid")"; else say "nothing runs"; fi
}

case ${1:-} in
  start) start "$2" ;;
  boot) boot "$2" ;;
  job)
    read_job "$2"
    exec "${command[@]}" # signals reach ftcot itself, and once
    ;;
  supervise) supervise "$2" ;;
  status) status ;;
  log) tail -n "${2:-50}" "$log" ;;
  stop) stop ;;
  *)
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
    exit 2
    ;;
esac
