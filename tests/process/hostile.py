#!/usr/bin/env python3
"""A plug-in that does one thing wrong: the first argument says which."""

import json
import os
import signal
import sys
import time

mode = sys.argv[1]
# What the test sees of it: one line a start, and one a request.
diary = open(sys.argv[2], "a", buffering=1)
diary.write("start %d\n" % os.getpid())
config, secrets = {}, {}


def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message):
    write(json.dumps(dict(jsonrpc="2.0", **message)) + "\n")


def refuse(request, data, code=-32000, message="no."):
    say({"id": request["id"], "error": {"code": code, "message": message, "data": data}})


DESCRIPTOR = {"protocol": 1, "name": "hostile", "version": mode, "model": "value", "batch": 100, "settles": True}


def good(request):
    params = request["params"]
    say({"id": request["id"], "result": {
        "initialize": lambda: DESCRIPTOR,
        "zones": lambda: {"zones": [{"name": "example.test"}]},
        "observe": lambda: {"sets": [{"name": name, "ttl": None, "values": []} for name in params["names"]]},
        "apply": lambda: {"receipt": "r"},
        "settle": lambda: {"settled": "unknown"},
    }[request["method"]]()})


def zones_of(zones):
    return lambda request: say({"id": request["id"], "result": {"zones": zones}})


def sets_of(*sets):
    return lambda request: say({"id": request["id"], "result": {"sets": list(sets)}})


def forever(act):
    def again(request):
        while True:
            act()
    return again


def then_end(act, status):
    def last(request):
        act()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return last


def twice(request):
    good(request)
    good(request)


def flood_of_errors(request):
    for line in range(100_000):
        sys.stderr.write("line %d \033[31m\n" % line)
    sys.stderr.write("x" * 5_000_000 + "\n")
    sys.stderr.flush()
    good(request)


def asks_back(request):
    say({"id": "mine", "method": "host.http", "params": {}})
    say({"method": "progress", "params": {"percent": 50}})
    answer = json.loads(sys.stdin.readline())
    diary.write("told %s %d\n" % (answer["id"], answer["error"]["code"]))
    good(request)


def tells_its_secret(request):
    token = secrets["token"]
    sys.stderr.write("the token is %s\n" % token)
    sys.stderr.flush()
    refuse(request, {"kind": "auth", "code": token, "hint": "use " + token}, message="bad token " + token)


def writes_its_secret(request):
    write(secrets["token"] + "\n")


def waits_for_cancel(request):
    cancel = json.loads(sys.stdin.readline())
    diary.write("%s %d\n" % (cancel["method"], cancel["params"]["id"]))
    refuse(request, {"kind": "transient"})


def closes_its_output(request):
    os.close(1)
    time.sleep(600)


def leaves_a_child(request):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    diary.write("child %d\n" % child)
    good(request)


def slow_start(request):
    while not os.path.exists(config["gate"]):
        time.sleep(0.01)
    good(request)


def hang(request):
    time.sleep(600)


def heeds_nothing(request):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    diary.write("heeds nothing\n")
    time.sleep(600)


def first_then(first, then):
    """The first request of this start is treated in one way, and those after it in another."""
    seen = []
    def act(request):
        seen.append(request)
        (first if len(seen) == 1 else then)(request)
    return act


FAR = {"name": "elsewhere.test", "ttl": 60, "values": ["v"]}
HERE = {"name": "a.example.test", "ttl": 60, "values": ["v"]}
verbs = {
    "good": {},
    "garbage": {"zones": lambda request: write("Hello \033[31mworld\n")},
    "not-utf-8": {"zones": lambda request: sys.stdout.buffer.write(b'{"jsonrpc": "2.0", "id": 2, "result": {"x": "\xff"}}\n') and sys.stdout.flush()},
    "deep": {"zones": lambda request: write('{"jsonrpc": "2.0", "id": 2, "result": {"zones": ' + "[" * 100_000 + "\n")},
    "list": {"zones": lambda request: write('["2.0", 2, null, {"zones": []}, null]\n')},
    "result-of-a-list": {"zones": lambda request: say({"id": request["id"], "result": [[]]})},
    "batch": {"zones": lambda request: write('[{"jsonrpc": "2.0", "id": 2, "result": {}}]\n')},
    "version-1-of-json-rpc": {"zones": lambda request: write('{"jsonrpc": "1.0", "id": 2, "result": {}}\n')},
    "no-id": {"zones": lambda request: say({"result": {}})},
    "text-id": {"zones": lambda request: say({"id": "2", "result": {}})},
    "wrong-id": {"zones": lambda request: say({"id": 99, "result": {"zones": []}})},
    "twice": {"zones": twice},
    "null": {"zones": lambda request: say({"id": request["id"], "result": None})},
    "both": {"zones": lambda request: say({"id": request["id"], "result": {}, "error": {"code": 1, "message": ""}})},
    "flood": {"zones": forever(lambda: say({"method": "progress", "params": {}}))},
    "endless-line": {"zones": forever(lambda: write("x" * 65536))},
    "flood-of-errors": {"zones": flood_of_errors},
    "hang": {"zones": hang},
    "never-answers": {"zones": lambda request: say({"method": "progress", "params": {}})},
    "heeds-nothing": {"zones": heeds_nothing},
    "waits-for-cancel": {"zones": first_then(waits_for_cancel, good)},
    "ends": {"zones": then_end(lambda: sys.stderr.write("Traceback\n  one\nKeyError: 'view'\n"), 3)},
    "killed": {"zones": lambda request: os.kill(os.getpid(), 9)},
    "dies-mid-line": {"zones": then_end(lambda: sys.stdout.write('{"jsonrpc": "2.0", "id": 2, "res'), 1)},
    "answers-and-ends": {"zones": lambda request: (good(request), os._exit(0))},
    "closes-its-output": {"zones": closes_its_output},
    "leaves-a-child": {"zones": leaves_a_child},
    "zone-elsewhere": {"zones": zones_of([{"name": "elsewhere.test"}])},
    "zone-below": {"zones": zones_of([{"name": "www.a.example.test"}])},
    "zone-no-name": {"zones": zones_of([{"name": "a b"}])},
    "zone-bad-id": {"zones": zones_of([{"name": "example.test", "id": "a\nb"}])},
    "zone-twice": {"zones": zones_of([{"name": "example.test"}, {"name": "example.test"}])},
    "zones-not-a-list": {"zones": zones_of("example.test")},
    "name-elsewhere": {"observe": sets_of(HERE, FAR)},
    "name-missing": {"observe": sets_of()},
    "name-twice": {"observe": sets_of(HERE, HERE)},
    "no-ttl": {"observe": sets_of(dict(HERE, ttl=None))},
    "bad-receipt": {"apply": lambda request: say({"id": request["id"], "result": {"receipt": "x" * 2000}})},
    "bad-settled": {"settle": lambda request: say({"id": request["id"], "result": {"settled": "maybe"}})},
    "error-without-kind": {"zones": lambda request: refuse(request, {"code": "E1"})},
    "error-without-data": {"zones": lambda request: refuse(request, None)},
    "error-unknown-kind": {"zones": lambda request: refuse(request, {"kind": "sad"})},
    "error-no-method": {"zones": lambda request: say({"id": request["id"], "error": {"code": -32601, "message": "no such method"}})},
    "errors": {"zones": lambda request: refuse(request, config["data"], message=config["message"])},
    "asks-back": {"zones": asks_back},
    "tells-its-secret": {"zones": tells_its_secret},
    "writes-its-secret": {"zones": writes_its_secret},
    "slow-start": {"initialize": slow_start},
    "other-version": {"initialize": lambda request: say({"id": request["id"], "result": {"protocol": 2, "title": "new"}})},
    "no-version": {"initialize": lambda request: say({"id": request["id"], "result": {}})},
    "bad-model": {"initialize": lambda request: say({"id": request["id"], "result": dict(DESCRIPTOR, model="sets")})},
    "no-slots": {"initialize": lambda request: say({"id": request["id"], "result": dict(DESCRIPTOR, model="slots")})},
    "bad-batch": {"initialize": lambda request: say({"id": request["id"], "result": dict(DESCRIPTOR, batch=0)})},
    "bad-propagation": {"initialize": lambda request: say({"id": request["id"], "result": dict(DESCRIPTOR, propagation=-1)})},
    "bad-rate": {"initialize": lambda request: say({"id": request["id"], "result": dict(DESCRIPTOR, rate={"burst": 0, "every": 1})})},
    "refuses-to-start": {"initialize": lambda request: refuse(request, {"kind": "invalid", "hint": "write config: {view: …}"}, message="config.view is missing")},
}

if mode == "ends-at-once":
    sys.stderr.write("no such view\n")
    sys.exit(7)
if mode == "never-reads":
    say({"id": 1, "result": DESCRIPTOR})
    time.sleep(600)

verbs = verbs[mode]
while True:
    line = sys.stdin.readline()
    if not line:
        diary.write("end of input\n")
        break
    request = json.loads(line)
    diary.write("%s\n" % request["method"])
    if request["method"] == "initialize":
        config, secrets = request["params"]["config"], request["params"]["secrets"]
    if "id" in request:
        verbs.get(request["method"], good)(request)
