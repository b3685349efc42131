# shellcheck shell=bash
# The bucket must be where the machines are: reading across regions is slow and billed by the byte.

check_region() {
  local bucket region=${FTCOT_TPU_ZONE%-*} location command
  bucket=gs://$(cut -d/ -f3 <<<"$FTCOT_TPU_BUCKET")
  command=(gcloud storage buckets describe "$bucket" --project="$FTCOT_TPU_PROJECT" '--format=value(location)')
  if [[ $DRY_RUN ]]; then
    quoted "${command[@]}"
    return
  fi
  location=$("${command[@]}" 2>"$scratch/error") ||
    die 1 "cannot read $bucket: $(tail -n 1 "$scratch/error"); create it with: gcloud storage buckets create $bucket --location=$region --project=$FTCOT_TPU_PROJECT"
  location=${location,,}
  case $location in
    "$region") ;;
    us | eu | asia)
      [[ $region == "$location"-* || ($location == eu && $region == europe-*) ]] ||
        die 2 "$bucket is in $location, the machines in $region; take a bucket in $region"
      say "note: $bucket is in all of $location; one in $region alone is faster and costs less to read"
      ;;
    *) die 2 "$bucket is in $location, the machines in $region; take a bucket in $region, or a zone in $location" ;;
  esac
}
