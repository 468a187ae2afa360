# shellcheck shell=bash
# Parses the command lines of the scripts that start a job on other machines; they source this file. The script's
# options come first, then the job's method and its arguments.

fail() {
  echo "error: $*" >&2
  exit 2
}

# parse_arguments USAGE "NAME=DEFAULT ..." ARGUMENT...: sets a variable for each --NAME=VALUE, `dry_run`, and the array
# `job`, which is METHOD and all that follows it. An option with the default ? must be given.
parse_arguments() {
  # Local names begin with an underscore, because the options are set as variables of the caller.
  local _usage=$1 _option _name _found _given
  local -a _options
  read -ra _options <<<"$2"
  shift 2
  dry_run="" job=()
  for _option in "${_options[@]}"; do
    printf -v "${_option%%=*}" %s "${_option#*=}"
  done
  while [ $# -gt 0 ]; do
    case $1 in
      --dry_run) dry_run=1 ;;
      -h | --help) echo "usage: $_usage" && exit 0 ;;
      --*=?*)
        _given=${1%%=*} _found=""
        for _option in "${_options[@]}"; do
          _name=${_option%%=*}
          [ "$_given" != "--$_name" ] || { printf -v "$_name" %s "${1#*=}" && _found=1; }
        done
        [ -n "$_found" ] || fail "found $1, expected: $_usage"
        ;;
      -*) fail "found $1, expected: $_usage" ;;
      *) job=("$@") && break ;;
    esac
    shift
  done
  for _option in "${_options[@]}"; do
    _name=${_option%%=*}
    [ "${!_name}" != "?" ] || fail "--$_name: missing, expected: $_usage"
  done
  case ${job[0]:-} in
    sft | dpo | grpo | dapo) ;;
    *) fail "METHOD: found ${job[0]:-nothing}, expected sft, dpo, grpo or dapo, in: $_usage" ;;
  esac
}

# Runs a command, or with --dry_run prints it in a form that can be pasted into a shell.
run() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@" | sed 's/ $//'
    echo
  else
    "$@"
  fi
}

# Quotes words as one string that a shell reads back as the same words.
quoted() {
  printf '%q ' "$@" | sed 's/ $//'
}
