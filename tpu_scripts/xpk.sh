#!/usr/bin/env bash
# xpk.sh [--dry-run] [--yes] NAME RECIPE [section.key=value ...]
# Run NAME as an xpk workload on the cluster FTCOT_TPU_CLUSTER, with the image FTCOT_TPU_IMAGE (Dockerfile). xpk itself
# starts a workload again on exit code 42 and on signals, up to --max-restarts; a finished workload of the same name must
# be deleted first (`xpk workload delete`), then the same command goes on. xpk has no place for keys: bring bought
# completions (teacher.import) instead of buying on the cluster.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
name=${words[0]} recipe=${words[1]}
check_name "$name"
need FTCOT_TPU_PROJECT FTCOT_TPU_ZONE FTCOT_TPU_BUCKET FTCOT_TPU_TYPE FTCOT_TPU_IMAGE FTCOT_TPU_CLUSTER
((${#files[@]} == 0)) || die 2 "--file is for machines; with xpk put the file into the image"
[[ ! ${FTCOT_TPU_SECRETS:-} ]] || die 2 "FTCOT_TPU_SECRETS is for machines; xpk has no place for keys"
[[ -f $recipe ]] || die 2 "$recipe: no such recipe"
check_place
read_type
read_terms
terms=()
case $capacity in
  spot) terms=(--spot) ;;
  on-demand) terms=(--on-demand) ;;
  reserved)
    need FTCOT_TPU_RESERVATION
    terms=("--reservation=$FTCOT_TPU_RESERVATION")
    ;;
esac
check_region
mkdir "$scratch/launch"
describe_job "${words[@]}" >"$scratch/launch/job.sh"
cp "$recipe" "$scratch/launch/"
# The job travels as letters and digits: neither xpk, nor YAML, nor the shell in the pod can misread it.
bundle=$(tar -C "$scratch/launch" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . | gzip -n | base64 -w 0)
[[ $DRY_RUN ]] && sed 's/^/# /' "$scratch/launch/job.sh" >&2 && bundle=JOB
confirm_cost "$slices"
call xpk workload create "--project=$FTCOT_TPU_PROJECT" "--zone=$FTCOT_TPU_ZONE" "--cluster=$FTCOT_TPU_CLUSTER" \
  "--workload=$(slice_of "$name")" "--tpu-type=$FTCOT_TPU_TYPE" "--num-slices=$slices" "${terms[@]}" --max-restarts=100 \
  "--docker-image=$FTCOT_TPU_IMAGE" \
  "--command=mkdir -p /tmp/launch && echo $bundle | base64 -d | tar -xz -C /tmp/launch && bash /opt/ftcot/tpu_scripts/worker.sh job /tmp/launch"
