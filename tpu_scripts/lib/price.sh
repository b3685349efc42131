# shellcheck shell=bash
# What a slice costs, said before it is created.

# cost_line SLICES: reads prices.tsv for the type's generation. Prices there are from memory and carry a date.
cost_line() {
  local generation on_demand spot price each
  while read -r generation on_demand spot; do
    [[ $FTCOT_TPU_TYPE == "$generation"-* ]] && break
    generation=
  done < <(grep -v '^#' "$here/prices.tsv")
  if [[ ! $generation ]]; then
    say "cost: $1 x $FTCOT_TPU_TYPE, $((chips * $1)) chips, $capacity; prices.tsv has no price: look it up before you go on"
    return
  fi
  price=$on_demand each=''
  [[ $capacity == spot ]] && price=$spot
  [[ $capacity == reserved ]] && each=' at most (your contract decides)'
  say "cost: $1 x $FTCOT_TPU_TYPE = $((chips * $1)) chips, $capacity, about \$$(awk "BEGIN {printf \"%.2f\", $price * $chips * $1}") an hour$each,"
  say "      for as long as the machines exist, busy or idle. $(sed -n 's/^# stand: //p' "$here/prices.tsv")"
}

# Asks before money is spent; without a terminal --yes must have been said.
confirm_cost() {
  cost_line "$1"
  [[ $DRY_RUN || $yes ]] && return
  [[ -t 0 ]] || die 2 "creating machines costs money: say --yes to go ahead without a terminal"
  local answer
  read -r -p "Create? [y/N] " answer
  [[ $answer == [yY]* ]] || die 1 "nothing was created"
}
