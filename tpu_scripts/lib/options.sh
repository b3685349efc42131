# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is read by the scripts that source it
# Options all scripts share. They stand before the first word that is none; the rest is left in `words`.

# parse_options "$@": sets DRY_RUN, yes, keep, files, words; and worker, workers_wanted for the scripts that say so in
# own_option. The usage text is the head of the calling script.
parse_options() {
  DRY_RUN='' yes='' keep='' files=() worker='' workers_wanted=''
  while (($#)); do
    case $1 in
      --dry-run) DRY_RUN=1 ;;
      --yes) yes=1 ;;
      --keep) keep=1 ;;
      --file)
        (($# > 1)) || die 2 "--file wants a path"
        files+=("$2")
        shift
        ;;
      --worker | --workers)
        [[ $1 == "${own_option:-}" ]] || die 2 "unknown option $1; --help shows those there are"
        (($# > 1)) || die 2 "$1 wants a value"
        if [[ $1 == --worker ]]; then worker=$2; else workers_wanted=$2; fi
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      --) shift && break ;;
      -*) die 2 "unknown option $1; --help shows those there are" ;;
      *) break ;;
    esac
    shift
  done
  words=("$@")
  # Passed on to ftcot, a --dry-run in the wrong place would create machines.
  local word
  for word in "${words[@]}"; do
    case $word in
      --dry-run | --yes | --keep | --file | --worker | --workers | -h | --help) die 2 "$word belongs before ${words[0]}" ;;
    esac
  done
}

# The comment at the head of the script is its help.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }
