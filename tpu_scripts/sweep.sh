#!/usr/bin/env bash
# sweep.sh [--dry-run] [--yes] [--keep] [--file PATH]... NAME RECIPE [section.key=value ...] \
#          --shard WORD [section.key=value ...] --shard WORD [section.key=value ...] ...
# One grid over several slices: each shard is a run NAME-WORD on machines of its own, by run.sh, with the overrides that
# stand before the first --shard and its own. What BUCKET/NAME/artifacts holds already (completions, pairs, records: see
# `ftcot tokenize RECIPE --out BUCKET/NAME`) is given to each shard, and what the shards made comes back there, so that
# `ftcot report RECIPE --out BUCKET/NAME` finds every student of the whole grid. The same command goes on after anything;
# shards that have finished are not started again.
#
# Exit codes: 0 all finished; 42 some can go on with the same command, none failed; 1 some failed; 2 bad usage.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
name=${words[0]} recipe=${words[1]}
check_name "$name"
read_settings
[[ -f $recipe ]] || die 2 "$recipe: no such recipe"

# The words of shard N are those between its --shard and the next.
shared=() shards=() starts=()
for ((at = 2; at < ${#words[@]}; at++)); do
  if [[ ${words[at]} == --shard ]]; then
    ((++at < ${#words[@]})) || die 2 "--shard wants a name"
    check_name "$name-${words[at]}"
    for shard in "${shards[@]}"; do [[ $shard != "${words[at]}" ]] || die 2 "two shards are called '$shard'"; done
    shards+=("${words[at]}")
    starts+=("$((at + 1))")
  elif ((${#shards[@]} == 0)); then
    shared+=("${words[at]}")
  fi
done
((${#shards[@]})) || die 2 "no --shard given; for a sweep on one slice take run.sh"

options=(--yes)
[[ ! $keep ]] || options+=(--keep)
[[ ! $DRY_RUN ]] || options+=(--dry-run)
for file in "${files[@]}"; do options+=(--file "$file"); done
logs=${XDG_STATE_HOME:-$HOME/.local/state}/ftcot/$name
root=$(out_of "$name")

# sync FROM TO: artefacts are whole folders named by what made them, so copying them together mixes nothing up.
sync() {
  call gcloud storage rsync --recursive '--exclude=(^|/)\.(partial|locks)' "$1/artifacts" "$2/artifacts" "--project=$FTCOT_TPU_PROJECT" 2>"$scratch/error"
}

confirm_cost $((slices * ${#shards[@]}))
prepared=''
if [[ $DRY_RUN ]] || gcloud storage ls "$root/artifacts" "--project=$FTCOT_TPU_PROJECT" >/dev/null 2>&1; then prepared=1; fi
[[ $DRY_RUN ]] || mkdir -p "$logs"

children=()
# shellcheck disable=SC2317,SC2329
stop_watching() {
  trap - INT TERM
  kill -TERM "${children[@]}" 2>/dev/null || true
  wait
  say "$name: stopped watching; machines stay and cost money: run the same command to go on, or delete.sh ${shards[*]/#/$name-}"
  exit 42
}
trap stop_watching INT TERM

for number in "${!shards[@]}"; do
  shard=$name-${shards[number]}
  end=${starts[number + 1]:-$((${#words[@]} + 2))}
  own=("${words[@]:starts[number]:$((end - 2 - starts[number]))}")
  command=("$here/run.sh" "${options[@]}" "$shard" "$recipe" "${shared[@]}" "${own[@]}")
  if [[ $prepared ]]; then sync "$root" "$(out_of "$shard")" || die 1 "cannot copy what is prepared: $(last_error)"; fi
  if [[ $DRY_RUN ]]; then
    "${command[@]}"
  else
    say "$shard: log in $logs/$shard.txt"
    "${command[@]}" </dev/null >>"$logs/$shard.txt" 2>&1 &
    children+=($!)
  fi
done

failed=() resumable=()
for number in "${!shards[@]}"; do
  shard=$name-${shards[number]} code=0
  [[ $DRY_RUN ]] || wait "${children[number]}" || code=$?
  case $code in
    0) sync "$(out_of "$shard")" "$root" || die 1 "$shard finished, but its artefacts could not be collected: $(last_error)" ;;
    42) resumable+=("$shard") ;;
    *) failed+=("$shard") ;;
  esac
  say "$shard: exit code $code"
done
((${#failed[@]} == 0)) || die 1 "failed: ${failed[*]}; their logs are in $logs; the same command tries them again"
((${#resumable[@]} == 0)) || { say "$name: to go on, run the same command (${resumable[*]})" && exit 42; }
say "$name: all ${#shards[@]} shards finished; for the report: $(quoted ftcot report "$recipe" "${shared[@]}" --out "$root")"
