#!/usr/bin/env bash
# run.sh [--dry-run] [--yes] [--keep] [--file PATH]... [--worker K/N] NAME RECIPE [section.key=value ...]
# From nothing to a finished run: creates the machines, starts `ftcot run RECIPE ... --out BUCKET/NAME` on all workers,
# and watches. When the machines are taken away they are deleted, asked for again, and the run goes on where it was.
# The same command goes on after anything, this script's own end included. --file puts a file or folder beside the recipe
# on the workers, as files/NAME. When the run is finished or has failed the machines are deleted, unless --keep.
# --worker K/N makes it the K-th of N workers of the sweep NAME: `ftcot sweep run RECIPE ... --worker K/N --out BUCKET/NAME`
# on machines of its own, called NAME-K; sweep.sh starts all N.
#
# Exit codes: 0 finished; 1 failed; 2 bad usage; 42 stopped on the way, the same command goes on.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
source "$here/lib/watch.sh"
own_option=--worker
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
name=${words[0]}
check_name "$name"
read_settings
results=$(out_of "$name")
if [[ $worker ]]; then
  if [[ ! $worker =~ ^([1-9][0-9]?)/([1-9][0-9]?)$ ]] || ((BASH_REMATCH[1] > BASH_REMATCH[2])); then
    die 2 "--worker $worker: give K/N, the K-th of N workers, as 1/4"
  fi
  name+=-${worker%/*}
  check_name "$name"
  words[0]=$name
fi
check_region
[[ $DRY_RUN ]] || hold_driver_lock "$name"
send_bundle "${words[@]}"
if [[ $DRY_RUN ]]; then
  confirm_cost "$slices"
  show_passage "$name"
elif is_finished "$name"; then
  say "$name: finished before; its results are in $results"
else
  watch_run "$name"
fi
