#!/usr/bin/env bash
# status.sh [--dry-run] [NAME]
# The state of run NAME's machines and of the job on each worker; without a name, all queued resources of the zone.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
read_settings
if ((${#words[@]} == 0)); then
  call gcloud compute tpus queued-resources list "--project=$FTCOT_TPU_PROJECT" "--zone=$FTCOT_TPU_ZONE"
  exit
fi
check_name "${words[0]}"
slice=$(slice_of "${words[0]}")
state=$(slice_state "$slice")
printf '%s\n' "$state"
[[ $state != UNKNOWN ]] || die 1 "$slice: no answer: $(last_error)"
if [[ $DRY_RUN ]]; then
  on_workers "$slice" "$(worker_command status)"
elif [[ $state == ACTIVE ]]; then
  worker_states "$slice" || die 1 "not every worker answers: $(last_error)"
fi
