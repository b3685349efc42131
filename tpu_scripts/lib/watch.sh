# shellcheck shell=bash
# The loop of run.sh. It keeps nothing that must survive it: where the run stands is read from the cloud each time, so
# killing the loop at any point and starting it again is safe.

# The other bounds are settings (settings.sh).
max_silences=30 # in a row: nobody says what state the machines are in
max_stalls=3    # polls for which some workers may outlive the others

# One driver a run on this computer. Between computers it is for the user to know.
hold_driver_lock() {
  local folder=${XDG_STATE_HOME:-$HOME/.local/state}/ftcot
  mkdir -p "$folder"
  exec 7>>"$folder/$FTCOT_TPU_PROJECT.$1.lock"
  flock --nonblock 7 || die 1 "$1: another run.sh is at it on this computer"
}

is_finished() {
  [[ $(gcloud storage cat "$(out_of "$1")/launch.done" "--project=$FTCOT_TPU_PROJECT" 2>/dev/null) == "$job" ]]
}

mark_finished() {
  printf '%s\n' "$job" >"$scratch/done"
  gcloud storage cp "$scratch/done" "$(out_of "$1")/launch.done" "--project=$FTCOT_TPU_PROJECT" 2>"$scratch/error" ||
    say "note: $(out_of "$1")/launch.done was not written: $(last_error)"
}

# What one undisturbed passage calls, in order, for --dry-run.
show_passage() {
  slice_state "$(slice_of "$1")"
  create_slice "$1"
  on_workers "$(slice_of "$1")" "$(worker_command status)"
  on_workers "$(slice_of "$1")" "$(start_command "$(out_of "$1")/launch")"
  [[ $keep ]] || delete_slice "$1"
}

interrupted() {
  trap - INT TERM
  exec 2>&6 # the command that was cut short may have turned it elsewhere
  say "$1: stopped watching; its machines, if any, stay and cost money: run the same command to go on, or delete.sh $1"
  exit 42
}

# finish NAME CODE LINE: the end, for good or ill.
finish() {
  say "$1: $3"
  if [[ $keep ]]; then
    say "$1: its machines stay (--keep) and cost money until delete.sh $1"
  else
    delete_slice "$1" || say "$1: its machines may still be there and cost money; delete.sh $1"
  fi
  exit "$2"
}

# refused NAME WHY: counts what may pass by itself, waiting longer each time.
refused() {
  ((++refusals <= max_refusals)) || finish "$1" 1 "gave up after $max_refusals refusals ($2)"
  say "$1: $2 (refusal $refusals of at most $max_refusals)"
  pause $((refusals < 10 ? refusals : 10))
}

# preempted NAME WHY
preempted() {
  ((++preemptions <= max_preemptions)) || finish "$1" 42 "gave up after $max_preemptions preemptions ($2); the same command goes on"
  say "$1: $2 (preemption $preemptions of at most $max_preemptions); going on from the last checkpoint"
}

# A signal ends the wait at once.
pause() {
  sleep "$(awk "BEGIN {print $poll * $1}")" 7>&- &
  wait $!
}

watch_run() {
  local name=$1 slice state said='' asked=''
  preemptions=0 failures=0 refusals=0 silences=0 stalls=0 suspected='' had=''
  slice=$(slice_of "$name")
  exec 6>&2
  # shellcheck disable=SC2064
  trap "interrupted '$name'" INT TERM
  while :; do
    state=$(slice_state "$slice")
    [[ $state == "$said" ]] || say "$slice: $state"
    said=$state
    [[ $state == UNKNOWN ]] || silences=0
    case $state in
      ABSENT)
        [[ ! $had ]] || preempted "$name" "the machines are gone"
        had='' suspected=''
        [[ $asked ]] || confirm_cost "$slices"
        asked=1
        if create_slice "$name"; then pause 0.1; else refused "$name" "no room in $FTCOT_TPU_ZONE"; fi
        ;;
      CREATING | ACCEPTED | PROVISIONING | WAITING_FOR_RESOURCES | SUSPENDING | DELETING) pause 1 ;;
      ACTIVE)
        had=1
        tend "$name"
        ;;
      SUSPENDED)
        if delete_slice "$name"; then
          preempted "$name" "the machines were taken away"
          had='' suspected=''
        else
          refused "$name" "the machines taken away cannot be deleted"
        fi
        ;;
      FAILED)
        delete_slice "$name" || true
        refused "$name" "the request failed"
        ;;
      *)
        ((++silences <= max_silences)) ||
          finish "$name" 1 "gave up: $max_silences times no answer about $slice: $(last_error)"
        pause 1
        ;;
    esac
  done
}

# tend NAME: what to do with machines that are there, by the state of the job on each worker.
tend() {
  local name=$1 slice states running finished preempted failed foreign worst
  slice=$(slice_of "$name")
  if ! states=$(worker_states "$slice"); then
    refused "$name" "not every worker answers: $(last_error)"
    return
  fi
  running=$(grep -c " $job running$" <<<"$states" || true)
  finished=$(grep -c " $job exit=0$" <<<"$states" || true)
  preempted=$(grep -c " $job exit=42$" <<<"$states" || true)
  failed=$(grep -cE " $job (exit=|lost$)" <<<"$states" || true)
  failed=$((failed - finished - preempted))
  foreign=$(grep " running$" <<<"$states" | grep -vc " $job running$" || true)
  worst=$(sed -nE "s/.* $job exit=([0-9]+)$/\1/p" <<<"$states" | grep -vxE '0|42' | sort -n | tail -n 1 || true)

  if ((foreign)); then
    die 1 "$name: another job runs on its machines; stop.sh $name ends it"
  elif ((finished == workers)); then
    mark_finished "$name"
    finish "$name" 0 "finished; results are in $results"
  elif ((running == workers)); then
    refusals=0 stalls=0 suspected=''
    pause 1
  elif ((running)); then
    # Some have ended: the others hear of it and end too. Those that do not are stopped.
    if ((++stalls > max_stalls)); then
      # Counted, for a job that hangs in the device does not hear of it.
      refused "$name" "only $running of $workers workers run: stopping them"
      on_workers "$slice" "$(worker_command stop)" >/dev/null 2>"$scratch/error" || true
      stalls=0
    fi
    pause 1
  elif ((preempted)); then
    suspected=''
    preempted "$name" "the job was told to stop"
    begin "$name"
  elif ((failed)); then
    if [[ ! $suspected ]]; then
      suspected=1 # when machines go, the job on the others may fail before the state says so
      pause 1
      return
    fi
    suspected=''
    show_failure "$slice"
    [[ $worst != 2 ]] || finish "$name" 2 "the recipe or the command is wrong (exit code 2); see above"
    ((++failures < max_failures)) ||
      finish "$name" 1 "failed $failures times (exit code ${worst:-unknown, the job was killed}); logs are in $(out_of "$name")/logs"
    say "$name: failed (exit code ${worst:-unknown, the job was killed}); trying again ($failures of at most $max_failures)"
    begin "$name"
  else
    begin "$name"
  fi
}

# begin NAME: starts the job on all workers; they install the package first.
begin() {
  local slice
  slice=$(slice_of "$1")
  say "$1: starting on $workers workers"
  if on_workers "$slice" "$(start_command "$(out_of "$1")/launch")" >"$scratch/output" 2>"$scratch/error"; then
    stalls=0
    pause 1
  else
    tail -n 5 "$scratch/output" >&2
    refused "$1" "the job did not start on every worker: $(last_error)"
  fi
}

# The end of worker 0's log, so that the reason is on the screen.
show_failure() {
  say "--- the end of worker 0's log"
  on_workers "$1" "$(worker_command "log 20")" 0 >&2 2>/dev/null || true
  say "---"
}
