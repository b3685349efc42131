# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is read by the scripts that source it
# Where a run takes place, from the environment (README.md lists all of it), checked before anything is called.

need() {
  local name
  for name in "$@"; do
    [[ ${!name:-} ]] || die 2 "$name is not set; tpu_scripts/README.md says what it is for"
  done
}

# whole DEFAULT VARIABLE: its value, or the default; a number of at most six digits.
whole() {
  local value=${!2:-$1}
  [[ $value =~ ^(0|[1-9][0-9]{0,5})$ ]] || die 2 "$2='$value' is no whole number"
  printf '%s\n' "$value"
}

# A run's name becomes the name of machines and of a folder in the bucket.
check_name() {
  [[ $1 =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    die 2 "run name '$1': at most 40 lower-case letters, digits and hyphens, beginning with a letter"
}

slice_of() { printf 'ftcot-%s\n' "$1"; }
out_of() { printf '%s/%s\n' "${FTCOT_TPU_BUCKET%/}" "$1"; }

# What types.tsv knows of FTCOT_TPU_TYPE: sets chips, hosts, runtime, gke_label, gke_topology, gke_hosts, gke_chips.
read_type() {
  local type
  while read -r type chips hosts runtime gke_label gke_topology gke_hosts gke_chips; do
    [[ $type == "$FTCOT_TPU_TYPE" ]] && return
  done < <(grep -v '^#' "$here/types.tsv")
  die 2 "FTCOT_TPU_TYPE=$FTCOT_TPU_TYPE is not in $here/types.tsv; add a line for it, or take one of those there"
}

# How many slices, on what terms: sets capacity and slices.
read_terms() {
  capacity=${FTCOT_TPU_CAPACITY:-spot} slices=${FTCOT_TPU_SLICES:-1}
  case $capacity in
    spot | reserved | on-demand) ;;
    *) die 2 "FTCOT_TPU_CAPACITY='$capacity'; take spot, reserved or on-demand" ;;
  esac
  [[ $slices =~ ^[1-9][0-9]{0,2}$ ]] || die 2 "FTCOT_TPU_SLICES='$slices' is no number of slices"
}

# Project and zone, where they are set, and the bucket: as they must look.
check_place() {
  [[ ${FTCOT_TPU_PROJECT:-p} =~ ^[a-z][a-z0-9:.-]*$ ]] || die 2 "FTCOT_TPU_PROJECT='$FTCOT_TPU_PROJECT' is no project id"
  [[ ${FTCOT_TPU_ZONE:-us-west4-a} =~ ^[a-z]+-[a-z]+[0-9]+-(ai[0-9]+)?[a-z]$ ]] ||
    die 2 "FTCOT_TPU_ZONE='$FTCOT_TPU_ZONE' is no zone; they look like us-west4-a"
  [[ $FTCOT_TPU_BUCKET =~ ^gs://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9._/-]*)?$ ]] ||
    die 2 "FTCOT_TPU_BUCKET='$FTCOT_TPU_BUCKET' is no bucket; give gs://BUCKET or gs://BUCKET/FOLDER"
}

# Everything that commands on Cloud TPU machines need. TPU7x has no such machines.
read_settings() {
  need FTCOT_TPU_PROJECT FTCOT_TPU_ZONE FTCOT_TPU_BUCKET FTCOT_TPU_TYPE
  check_place
  read_terms
  read_type
  [[ $FTCOT_TPU_TYPE != tpu7x* ]] ||
    die 2 "TPU7x is offered through GKE only, not as machines of its own; take gke.sh or xpk.sh for $FTCOT_TPU_TYPE"
  [[ $DRY_RUN ]] || command -v gcloud >/dev/null || die 1 "gcloud is not on PATH; https://cloud.google.com/sdk/docs/install"
  runtime=${FTCOT_TPU_RUNTIME:-$runtime}
  workers=$((hosts * slices))
  read -ra create_flags <<<"${FTCOT_TPU_CREATE_FLAGS:-}"
  read -ra ssh_flags <<<"${FTCOT_TPU_SSH_FLAGS:-}"
  poll=${FTCOT_TPU_POLL:-60}
  [[ $poll =~ ^[0-9]{1,5}(\.[0-9]+)?$ && $poll =~ [1-9] ]] || die 2 "FTCOT_TPU_POLL='$poll' is no number of seconds above 0"
  ssh_seconds=$(whole 300 FTCOT_TPU_SSH_SECONDS)
  # Read now: a bound that is no number would end the loop where it counts, with the machines there.
  max_preemptions=$(whole 100 FTCOT_TPU_MAX_PREEMPTIONS) # of machines taken away or jobs that ended with 42
  max_failures=$(whole 3 FTCOT_TPU_MAX_FAILURES)         # of jobs that ended otherwise, with nothing wrong with the machines
  max_refusals=$(whole 20 FTCOT_TPU_MAX_REFUSALS)        # without the job running in between: no room, workers out of reach
}
