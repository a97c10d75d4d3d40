#!/bin/sh
# Runs a command that needs programs which not every machine has, or says that it is skipped, what
# is missing, and which Debian packages have it: a proof that did not run must not look like one
# that did. It is then no failure.
#
#   need.sh WHAT "PROGRAM..." "PACKAGE..." COMMAND [ARGUMENT...]
#
# PROGRAM may be libfuzzer:COMPILER: a compiler that can link a fuzz target.
set -u

what=$1
programs=$2
packages=$3
shift 3

has_libfuzzer() {
    tried=$(mktemp) || exit 1
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long n) { return n ? *data & 0 : 0; }' |
        "$1" -fsanitize=fuzzer,address,undefined -x c - -o "$tried" 2>/dev/null
    status=$?
    rm -f "$tried"
    return $status
}

missing=
for program in $programs; do
    case $program in
    libfuzzer:*) has_libfuzzer "${program#libfuzzer:}" || missing="$missing libFuzzer" ;;
    *) command -v "$program" >/dev/null || missing="$missing $program" ;;
    esac
done
if [ -n "$missing" ]; then
    echo "SKIPPED: $what. Missing:$missing; on Debian: apt-get install $packages"
    exit 0
fi
exec "$@"
