# shellcheck shell=bash
# What the workers need to start a job, as one folder in the bucket: the package's source, the recipe, the job and the
# worker's own script. Arguments travel in a file, so no shell on the way reads them; secrets do not travel at all, only
# the names under which Secret Manager has them.

# describe_job NAME RECIPE OVERRIDE...: the text of job.sh, which worker.sh reads. With --worker K/N it is that worker of
# the sweep whose folder is `results`; otherwise all stages into the run's own folder.
describe_job() {
  local recipe=$2 secret secrets=() verb=(run) own=(--out "$(out_of "$1")")
  shift 2
  # shellcheck disable=SC2154  # run.sh sets results
  [[ ! ${worker:-} ]] || verb=(sweep run) own=(--worker "$worker" --out "$results")
  read -ra secrets <<<"${FTCOT_TPU_SECRETS:-}"
  for secret in "${secrets[@]}"; do # what may be a key is not repeated in what is said
    [[ $secret =~ ^([A-Z_][A-Z0-9_]*)=([A-Za-z0-9_-]+)$ ]] ||
      die 2 "FTCOT_TPU_SECRETS is not VARIABLE=NAME-IN-SECRET-MANAGER ...; never write a key itself there"
    [[ ${!BASH_REMATCH[1]:-} != "${BASH_REMATCH[2]}" ]] ||
      die 2 "FTCOT_TPU_SECRETS: ${BASH_REMATCH[1]} has the key itself, not its name in Secret Manager"
  done
  printf 'ftcot_arguments=('
  quoted "${verb[@]}" "$(basename "$recipe")" "$@" "${own[@]}" | tr -d '\n'
  printf ')\nftcot_secrets=(%s)\nftcot_project=%s\n' "${secrets[*]}" "${FTCOT_TPU_PROJECT:-}"
}

# pack_source FILE: the checkout's tracked files as they are now, the same bytes for the same content.
pack_source() {
  local root
  root=$(cd "$here/.." && pwd)
  git -C "$root" ls-files -z -- ftcot_jax configs pyproject.toml constraints.txt README.md LICENSE |
    tar -C "$root" --null -T - --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c | gzip -n >"$1"
}

# send_bundle NAME RECIPE OVERRIDE...: makes the folder and copies it; sets `job`, the digest of all that is in it. Not while
# another job runs on the machines: a worker that is started again would take this one up.
send_bundle() {
  local name=$1 recipe=$2 folder launch file
  folder=$scratch/launch launch=$(out_of "$name")/launch
  [[ -f $recipe ]] || die 2 "$recipe: no such recipe"
  local -A seen=()
  for file in "${files[@]}"; do
    [[ -e $file ]] || die 2 "--file $file: no such file or folder"
    [[ ! ${seen[$(basename "$file")]:-} ]] || die 2 "--file $file: a second one of this name; files/NAME can be only one"
    seen[$(basename "$file")]=1
  done
  if [[ $DRY_RUN ]]; then
    say "# job.sh, which goes to $launch with the source, $recipe and ${#files[@]} more files:"
    describe_job "$@" | sed 's/^/# /'
    quoted gcloud storage rsync --recursive --delete-unmatched-destination-objects 'BUNDLE' "$launch" "--project=$FTCOT_TPU_PROJECT"
    job=-
    return
  fi
  mkdir -p "$folder/files"
  describe_job "$@" >"$folder/job.sh"
  cp "$recipe" "$folder/$(basename "$recipe")"
  cp "$here/worker.sh" "$folder/worker.sh"
  for file in "${files[@]}"; do cp -r "$file" "$folder/files/"; done
  pack_source "$folder/source.tar.gz"
  job=$(cd "$folder" && find . -type f ! -name worker.sh -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-12)
  printf '%s\n' "$job" >"$folder/job"
  keep_running_job "$name"
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$folder" "$launch" "--project=$FTCOT_TPU_PROJECT" 2>"$scratch/error" ||
    die 1 "cannot write $launch: $(last_error)"
}

# keep_running_job NAME: ends the script where a job of another bundle runs on the machines, of those that answer.
keep_running_job() {
  local held slice states
  slice=$(slice_of "$1")
  held=$(gcloud storage cat "$(out_of "$1")/launch/job" "--project=$FTCOT_TPU_PROJECT" 2>/dev/null) || return 0
  [[ $held != "$job" && $(slice_state "$slice") == ACTIVE ]] || return 0
  states=$(on_workers "$slice" "$(worker_command status)" 2>/dev/null) || true
  ! grep -q " $held running$" <<<"$states" || die 1 "$1: another job runs on its machines; stop.sh $1 ends it"
}
