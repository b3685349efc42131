# shellcheck shell=bash
# The queued resource of a run: its state, its creation, its end. Needs read_settings; errors of gcloud are read, not
# guessed at: each kind has one answer.

tpu() { call gcloud compute tpus queued-resources "$@" "--project=$FTCOT_TPU_PROJECT" "--zone=$FTCOT_TPU_ZONE"; }

# Says what in gcloud's last error matters: its last line that says ERROR, or its last line.
last_error() { { grep 'ERROR' "$scratch/error" || cat "$scratch/error"; } | tail -n 1; }

# slice_state SLICE: prints the state of the queued resource, ABSENT, or UNKNOWN when nobody answered.
slice_state() {
  if [[ $DRY_RUN ]]; then
    tpu describe "$1" '--format=value(state.state)'
    return
  fi
  local state
  if state=$(tpu describe "$1" '--format=value(state.state)' 2>"$scratch/error"); then
    printf '%s\n' "${state:-UNKNOWN}"
    return
  fi
  if grep -qE 'NOT_FOUND|was not found' "$scratch/error"; then
    echo ABSENT
  elif grep -qE 'PERMISSION_DENIED|UNAUTHENTICATED|gcloud auth login|has not been used in project' "$scratch/error"; then
    die 1 "$(last_error)"
  else
    echo UNKNOWN
  fi
}

# create_slice NAME: asks for the machines. Returns 0 if asked, 3 where there is no room now and it is worth asking again;
# ends the script when asking again cannot help.
create_slice() {
  local slice where=() terms=()
  slice=$(slice_of "$1")
  if ((slices > 1)); then
    where=("--node-count=$slices" "--node-prefix=$slice")
  else
    where=("--node-id=$slice")
  fi
  case $capacity in
    spot) terms=(--spot) ;;
    reserved) terms=(--reserved) ;;
    on-demand) ;;
  esac
  # The machines find their job by the metadata, at their first boot and at each later one.
  tpu create "$slice" "${where[@]}" "--accelerator-type=$FTCOT_TPU_TYPE" "--runtime-version=$runtime" "${terms[@]}" \
    "--metadata=ftcot-launch=$(out_of "$1")/launch" "--metadata-from-file=startup-script=$here/startup.sh" \
    "${create_flags[@]}" 2>"$scratch/error" && return
  if grep -qiE 'ALREADY_EXISTS|already exists' "$scratch/error"; then
    return # asked for by an earlier call that was cut short
  elif grep -qiE 'no more capacity|stockout|insufficient capacity|not enough resources' "$scratch/error"; then
    say "$slice: $FTCOT_TPU_ZONE has no room now: $(last_error)"
    return 3
  elif grep -qiE 'quota' "$scratch/error"; then
    die 1 "$slice: the project's quota does not allow it: $(last_error); delete other slices (status.sh) or ask for more"
  elif grep -qE 'INVALID_ARGUMENT|PERMISSION_DENIED|UNAUTHENTICATED|NOT_FOUND|gcloud auth login|unrecognized arguments' "$scratch/error"; then
    die 1 "$slice: $(last_error)"
  fi
  say "$slice: $(last_error)"
  return 3
}

# Ends the machines; what is in the bucket stays. Already ended is as good.
delete_slice() {
  local slice
  slice=$(slice_of "$1")
  tpu delete "$slice" --force --quiet 2>"$scratch/error" && return
  if grep -qE 'NOT_FOUND|was not found' "$scratch/error"; then
    say "$slice: not there in $FTCOT_TPU_ZONE"
    return
  fi
  say "$slice: not deleted: $(last_error)"
  return 1
}
