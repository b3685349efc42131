#!/usr/bin/env bash
# gke.sh [--dry-run] [--yes] NAME RECIPE [section.key=value ...]
# Run NAME on GKE, in the cluster that kubectl points to: a JobSet of FTCOT_TPU_SLICES slices of FTCOT_TPU_TYPE, with
# the image FTCOT_TPU_IMAGE (Dockerfile). The only way, besides xpk.sh, to TPU7x. The cluster needs JobSet, a node pool
# of the type, and a node service account that may write to the bucket. Keys for the job come from the Kubernetes secret
# ftcot-secrets, if there is one. The same command goes on: a run that has ended is started again, one that runs is left.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
name=${words[0]} recipe=${words[1]}
check_name "$name"
need FTCOT_TPU_BUCKET FTCOT_TPU_TYPE FTCOT_TPU_IMAGE
((${#files[@]} == 0)) || die 2 "--file is for machines; on GKE put the file into the image"
[[ ! ${FTCOT_TPU_SECRETS:-} ]] || die 2 "FTCOT_TPU_SECRETS is for machines; on GKE: kubectl create secret generic ftcot-secrets"
[[ -f $recipe ]] || die 2 "$recipe: no such recipe"
[[ $FTCOT_TPU_IMAGE =~ ^[a-z0-9][a-zA-Z0-9._:/@-]*$ ]] || die 2 "FTCOT_TPU_IMAGE='$FTCOT_TPU_IMAGE' is no image"
check_place
read_type
read_terms
jobset=$(slice_of "$name")

state=''
if [[ ! $DRY_RUN ]]; then
  state=$(kubectl get jobset "$jobset" --ignore-not-found '--output=jsonpath={.metadata.name}={.status.terminalState}') ||
    die 1 "kubectl does not answer; gcloud container clusters get-credentials CLUSTER sets it up"
  if [[ $state == "$jobset=" ]]; then
    say "$name: runs already; kubectl get jobset $jobset"
    exit
  fi
fi

edits=(-e "s|@NAME@|$jobset|" -e "s|@SLICES@|$slices|" -e "s|@HOSTS@|$gke_hosts|" -e "s|@CHIPS@|$gke_chips|"
  -e "s|@ACCELERATOR@|$gke_label|" -e "s|@TOPOLOGY@|$gke_topology|" -e "s|@IMAGE@|$FTCOT_TPU_IMAGE|")
if [[ $capacity == spot ]]; then edits+=(-e 's/ # spot only$//'); else edits+=(-e '/# spot only$/d'); fi
sed "${edits[@]}" "$here/gke_jobset.yaml" >"$scratch/jobset.yaml"
mkdir "$scratch/launch"
describe_job "${words[@]}" >"$scratch/launch/job.sh"
cp "$recipe" "$scratch/launch/"

if [[ $DRY_RUN ]]; then
  say "# job.sh, in the ConfigMap beside $recipe:"
  sed 's/^/# /' "$scratch/launch/job.sh" >&2
  confirm_cost "$slices"
  quoted kubectl delete jobset "$jobset" --ignore-not-found --wait
  echo "kubectl create configmap $jobset --from-file=LAUNCH --dry-run=client --output=yaml | kubectl apply --filename=-"
  echo "kubectl apply --filename=- <<'JOBSET'"
  cat "$scratch/jobset.yaml"
  echo JOBSET
  exit
fi
confirm_cost "$slices"
kubectl delete jobset "$jobset" --ignore-not-found --wait >&2
kubectl create configmap "$jobset" "--from-file=$scratch/launch" --dry-run=client --output=yaml >"$scratch/configmap.yaml"
kubectl apply "--filename=$scratch/configmap.yaml" >&2
kubectl apply "--filename=$scratch/jobset.yaml" >&2
say "$name: started; kubectl get jobset $jobset; kubectl logs --selector=jobset.sigs.k8s.io/jobset-name=$jobset --follow"
