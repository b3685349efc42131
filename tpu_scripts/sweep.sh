#!/usr/bin/env bash
# sweep.sh [--dry-run] [--yes] [--keep] [--file PATH]... --workers N NAME RECIPE [section.key=value ...]
# One grid over N slices: each is a worker of the sweep in BUCKET/NAME, on machines of its own called NAME-1 to NAME-N.
# Workers claim trials in the bucket; what is bought, made or trained by one is there for all. A worker whose machines are
# taken away is brought back by run.sh and goes on, unless another has taken its trials over in the meantime. Machines are
# deleted as soon as their worker finds nothing left to do. The same command goes on after anything; workers that have
# finished are not started again.
#
# Exit codes: 0 all finished; 42 some can go on with the same command, none failed; 1 some failed; 2 bad usage.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
own_option=--workers
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
name=${words[0]} recipe=${words[1]}
[[ $workers_wanted =~ ^[1-9][0-9]?$ ]] || die 2 "--workers says how many slices work on the grid, 1 to 99; for one, run.sh does it all"
check_name "$name-$workers_wanted"
read_settings
[[ -f $recipe ]] || die 2 "$recipe: no such recipe"

options=(--yes)
[[ ! $keep ]] || options+=(--keep)
[[ ! $DRY_RUN ]] || options+=(--dry-run)
for file in "${files[@]}"; do options+=(--file "$file"); done
logs=${XDG_STATE_HOME:-$HOME/.local/state}/ftcot/$name
results=$(out_of "$name")
confirm_cost $((slices * workers_wanted))
[[ $DRY_RUN ]] || mkdir -p "$logs"

all=() children=()
for ((number = 1; number <= workers_wanted; number++)); do all+=("$name-$number"); done

# shellcheck disable=SC2317,SC2329
stop_watching() {
  trap - INT TERM
  kill -TERM "${children[@]}" 2>/dev/null || true
  wait
  say "$name: stopped watching; machines stay and cost money: run the same command to go on, or delete.sh ${all[*]}"
  exit 42
}
trap stop_watching INT TERM

for ((number = 1; number <= workers_wanted; number++)); do
  command=("$here/run.sh" "${options[@]}" --worker "$number/$workers_wanted" "${words[@]}")
  if [[ $DRY_RUN ]]; then
    "${command[@]}"
  else
    say "$name-$number: log in $logs/$number.txt"
    "${command[@]}" </dev/null >>"$logs/$number.txt" 2>&1 &
    children+=($!)
  fi
done

failed=() resumable=()
for ((number = 1; number <= workers_wanted; number++)); do
  code=0
  [[ $DRY_RUN ]] || wait "${children[number - 1]}" || code=$?
  case $code in
    0) ;;
    42) resumable+=("$name-$number") ;;
    *) failed+=("$name-$number") ;;
  esac
  say "$name-$number: exit code $code"
done
((${#failed[@]} == 0)) || die 1 "failed: ${failed[*]}; their logs are in $logs; the same command tries them again"
((${#resumable[@]} == 0)) || { say "$name: to go on, run the same command (${resumable[*]})" && exit 42; }
say "$name: all $workers_wanted workers finished; for the report: $(quoted ftcot report "$results")"
