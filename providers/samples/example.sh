#!/bin/sh
# A DNS plug-in for Countersign that keeps the TXT records of one zone in a file, one JSON object a line:
#
#     {"name":"_acme-challenge.example.com","ttl":60,"value":"value"}
#
# Take it as a start for a plug-in of your own. providers/PROTOCOL.md describes the protocol. It needs a POSIX shell and
# jq 1.6 or later: JSON cannot be read safely with the shell alone. One plug-in at a time may use the file.
#
#     providers:
#       ours:
#         process:
#           command: [/usr/local/lib/countersign/example.sh]
#           config: {zone: example.com, file: /var/lib/ours/records}
set -u

# Every request is data for jq, on its standard input: nothing of it becomes a word of the shell.
ask() { printf '%s\n' "$line" | jq -c --arg zone "${zone-}" "$@"; }

readonly answers='
def answer: {jsonrpc: "2.0", id: .id};
def result($it): answer + {result: $it};
def refuse($kind; $message): answer + {error: {code: -32000, message: $message, data: {kind: $kind}}};
def inside: . == $zone or endswith("." + $zone);
'

initialize() {
    zone=$(ask -r '.params.config.zone // ""')
    file=$(ask -r '.params.config.file // ""')
    if [ -z "$zone" ] || [ -z "$file" ]; then
        ask "$answers"'refuse("invalid"; "config.zone and config.file are wanted")'
        return
    fi
    # jq reads the file at each request, so it must be there.
    : >>"$file"
    ask "$answers"'result({protocol: 1, name: "example", version: "1.0", model: "value", batch: 500, propagation: 5})'
}

zones() {
    ask "$answers"'result({zones: [if .params.name | inside then {name: $zone} else empty end]})'
}

observe() {
    ask --slurpfile records "$file" "$answers"'
        result({sets: [.params.names[] as $name
            | [$records[] | select(.name == $name)]
            | {name: $name, ttl: .[0].ttl, values: map(.value)}]})'
}

apply() {
    # The answer comes first, then all records as they will be.
    if ! ask --slurpfile records "$file" "$answers"'
        [.params.changes[].name | select(inside | not)] as $outside
        | if $outside != [] then refuse("invalid"; "\($outside[0]) is not in the zone \($zone)"), $records[]
          else result({}), ((reduce .params.changes[] as $change ($records;
              map(select(.name == $change.name)) as $there
              | if $change.verb == "absent" then map(select(.name != $change.name or .value != $change.value))
                elif $change.verb != "ensure" then error("no verb: \($change.verb)")
                elif any($there[]; .value == $change.value) then .
                else . + [{name: $change.name, ttl: ($there[0].ttl // $change.ttl), value: $change.value}]
                end)) | .[])
          end' >"$file.new"
    then
        ask "$answers"'refuse("transient"; "jq failed; its words are in the log")'
        return
    fi
    if tail -n +2 "$file.new" >"$file.records" && mv "$file.records" "$file"; then
        head -n 1 "$file.new"
    else
        ask "$answers"'refuse("transient"; "the file could not be written; see the log")'
    fi
}

# The loop ends when Countersign closes the pipe, or dies: then so does the plug-in.
while IFS= read -r line; do
    case $(ask -r 'if has("id") or .method == "shutdown" then .method else "" end') in
    initialize) initialize ;;
    zones) zones ;;
    observe) observe ;;
    apply) apply ;;
    shutdown) exit 0 ;;
    "") ;; # nobody waits for an answer; of `cancel`, since one request after another is answered here
    *) ask "$answers"'answer + {error: {code: -32601, message: "there is no \(.method) here"}}' ;;
    esac
done
