#!/usr/bin/env python3
"""A process plug-in with one fault, which its argument names; without a fault it is as it should be."""

import fcntl
import json
import os
import sys
import time

FAULT = sys.argv[1]


class Host:
    """Records in a file, one JSON list a line: name, TTL, value."""

    def __init__(self, config):
        self.zone, self.file = config["zone"], config["file"]
        self.kept = None

    def inside(self, name):
        return name == self.zone or name.endswith("." + self.zone)

    def read(self):
        if FAULT == "remembers" and self.kept is not None:
            return self.kept
        try:
            with open(self.file) as file:
                records = [json.loads(line) for line in file]
        except FileNotFoundError:
            records = []
        self.kept = records
        return records

    def write(self, records):
        self.kept = records
        with open(self.file + ".new", "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        os.replace(self.file + ".new", self.file)

    def apply(self, params):
        if FAULT == "does-nothing":
            return {}
        handles = []
        with open(self.file + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = self.read()
            for change in params["changes"][: 200 if FAULT == "forgets-after-200" else None]:
                if not self.inside(change["name"]):
                    return None
                is_there = [change["name"], change["value"]] in [[it[0], it[2]] for it in records]
                if FAULT == "wants-handles" and change["verb"] == "absent" and is_there and "handle" not in change:
                    return None
                handles.append("h-%d" % len(records) if change["verb"] == "ensure" else None)
                records = self.change(records, **change)
            self.write(records)
        return {"handles": handles} if FAULT == "wants-handles" else {}

    def same(self, one, other):
        return one.lower() == other.lower() if FAULT == "ignores-case" else one == other

    def change(self, records, verb, name, value, ttl, handle=None):
        there = [it for it in records if it[0] == name]
        same = [it for it in there if self.same(it[2], value)]
        if verb == "absent" and FAULT == "removes-nothing":
            return records
        if verb == "absent":
            gone = there if FAULT == "removes-the-set" and same else same
            return [it for it in records if it not in gone]
        if same:
            return records
        if FAULT == "loses-the-ttl":
            records = [[it[0], ttl, it[2]] if it[0] == name else it for it in records]
        elif there:
            ttl = there[0][1]
        if FAULT == "cuts-values":
            value = value[:255]
        if FAULT == "drops-an-octet" and len(value) % 255 == 1:
            value = value[:-1]
        return records + [[name, ttl, value]]

    def observe(self, params):
        records = self.read()
        sets = []
        for name in params["names"]:
            there = [it for it in records if it[0] == name]
            sets.append({"name": name, "ttl": there[0][1] if there else None, "values": [it[2] for it in there]})
        return {"sets": sets}

    def zones(self, params):
        held = self.inside(params["name"]) or FAULT == "holds-everything"
        return {"zones": [{"name": self.zone}] if held else []}


def answer(host, request):
    method, params = request["method"], request["params"]
    if method == "initialize":
        host[0] = Host(params["config"])
        batch = 0 if FAULT == "batch-of-none" else 500
        return {"result": {"protocol": 1, "name": "broken", "version": "1", "model": "value", "batch": batch}}
    if method not in ("zones", "observe", "apply"):
        if FAULT == "swallows-methods":
            return {"result": {}}
        return {"error": {"code": -32601, "message": "there is no such method"}}
    result = getattr(host[0], method)(params)
    if result is None:
        return {"error": {"code": -32000, "message": "not in the zone", "data": {"kind": "invalid"}}}
    return {"result": result}


def main():
    host = [None]
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            break
        request = json.loads(line)
        if request["method"] == "shutdown" and FAULT != "ignores-shutdown":
            break
        if "id" not in request:
            continue
        number = request["id"]
        if FAULT == "answers-another-id":
            number &= 0x7FFFFFFF
        print(json.dumps({"jsonrpc": "2.0", "id": number, **answer(host, request)}), flush=True)
    if FAULT == "says-goodbye":
        print("goodbye", flush=True)
    if FAULT == "never-ends":
        time.sleep(600)


main()
