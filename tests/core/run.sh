#!/bin/sh
# Runs test programs, one line of report for each, and what a program printed below it. Ends with
# the sum, and with status 1 if one failed. A program ends with 0 when it passed, with 77 when it
# can't run here (it prints why), and with anything else when it failed.
#
#   run.sh [--under "COMMAND ARGS"] PROGRAM...     --under: run each by this command
set -u

under=
if [ "$1" = --under ]; then
    under=$2
    shift 2
fi

passed=0
failed=0
skipped=0
for program in "$@"; do
    # shellcheck disable=SC2086  # a command with its arguments
    output=$($under "$program" 2>&1)
    status=$?
    case $status in
    0) verdict=ok passed=$((passed + 1)) ;;
    77) verdict=skip skipped=$((skipped + 1)) ;;
    *) verdict="FAIL ($status)" failed=$((failed + 1)) ;;
    esac
    echo "$verdict  ${program##*/tests/}"
    [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/    /'
done

echo "core: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
