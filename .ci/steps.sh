# shellcheck shell=bash
# For .ci/run and .ci/nightly: named steps, which all run, and a summary of them.

summary=()
failures=0

# step TITLE COMMAND...: run it, time it, and go on: one run shows all that is wrong.
step() {
    local title=$1 since=$SECONDS verdict=ok
    shift
    printf '\n=== %s\n' "$title"
    "$@" </dev/null || { verdict=FAILED && failures=$((failures + 1)); }
    summary+=("$(printf '%-7s %4d s  %s' "$verdict" $((SECONDS - since)) "$title")")
    printf '=== %s: %s\n' "$title" "$verdict"
}

# Exit if a step that the others need has failed.
stop_if_failed() {
    [ "$failures" -eq 0 ] || finish
}

finish() {
    printf '\n=== summary\n'
    printf '%s\n' "${summary[@]}"
    [ "$failures" -eq 0 ]
    exit
}
