#!/usr/bin/env python3
"""A DNS plug-in for Countersign that keeps the TXT records of one zone in a file.

The file has one record a line, as zone files have them, so that a nameserver can $INCLUDE it:

    _acme-challenge.example.com. 60 IN TXT "value"

Take it as a start for a plug-in of your own: what is between the two lines of dashes is about this file, everything
else is the protocol, which providers/PROTOCOL.md describes. It needs nothing but Python 3.7 or later.

    providers:
      ours:
        process:
          command: [/usr/local/lib/countersign/example.py]
          config: {zone: example.com, file: /etc/bind/acme.inc}
"""

import fcntl
import json
import os
import re
import sys


class Refusal(Exception):
    """An error for Countersign; `kind` is one of the protocol's."""

    def __init__(self, kind, message, **more):
        super().__init__(message)
        self.answer = {"code": -32000, "message": message, "data": dict(kind=kind, **more)}


class Plugin:
    def initialize(self, params):
        config = params["config"]
        versions = params["protocol"]
        if not versions["min"] <= 1 <= versions["max"]:
            raise Refusal("unsupported", "example.py speaks version 1 of the protocol")
        for key in ("zone", "file"):
            if not isinstance(config.get(key), str):
                raise Refusal("invalid", "config.%s is missing" % key, hint="write config: {zone: …, file: …}")
        self.zone = config["zone"].lower().rstrip(".")
        self.file = config["file"]
        return {
            "protocol": 1,
            "name": "example",
            "version": "1.0",
            "model": "value",
            "batch": 500,
            "propagation": 5,
        }

    def zones(self, params):
        name = params["name"]
        if name == self.zone or name.endswith("." + self.zone):
            return {"zones": [{"name": self.zone}]}
        return {"zones": []}

    def observe(self, params):
        records = self.read()
        return {"sets": [self.set_at(records, name) for name in params["names"]]}

    def apply(self, params):
        # Two processes may use one file: the one that reads it in order to write it is alone.
        with open(self.file + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = self.read()
            for change in params["changes"]:
                self.change(records, change)
            self.write(records)
        return {}

    def change(self, records, change):
        name, value = change["name"], change["value"]
        if not (name == self.zone or name.endswith("." + self.zone)):
            raise Refusal("invalid", "%s is not in the zone %s" % (name, self.zone))
        there = [record for record in records if record[0] == name]
        same = [record for record in there if record[2] == value]
        if change["verb"] == "absent":
            for record in same:
                records.remove(record)
        elif change["verb"] == "ensure":
            if not same:
                # All values at a name have one TTL, and what is there keeps its own.
                records.append((name, there[0][1] if there else change["ttl"], value))
        else:
            raise Refusal("unsupported", "%s is no verb that example.py knows" % change["verb"])

    @staticmethod
    def set_at(records, name):
        there = [record for record in records if record[0] == name]
        ttl = there[0][1] if there else None
        return {"name": name, "ttl": ttl, "values": [record[2] for record in there]}

    # -----------------------------------------------------------------------------------------------------------------

    LINE = re.compile(r'(\S+)\. (\d+) IN TXT((?: "(?:[^"\\]|\\.)*")+)')
    STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')

    def read(self):
        """All records: name, TTL and value of each."""
        try:
            with open(self.file, encoding="ascii") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Refusal("transient", "%s cannot be read: %s" % (self.file, error.strerror))
        records = []
        for number, line in enumerate(lines, 1):
            found = self.LINE.fullmatch(line)
            if not found:
                raise Refusal("invalid", "line %d of %s is not a record" % (number, self.file))
            value = b"".join(self.octets(text) for text in self.STRING.findall(found[3]))
            records.append((found[1].lower(), int(found[2]), value.decode("utf-8", "replace")))
        return records

    def write(self, records):
        """Puts all records in place of the old ones, or none of them."""
        new = self.file + ".new"
        try:
            with open(new, "w", encoding="ascii") as file:
                for name, ttl, value in records:
                    octets = value.encode()
                    # A string of a TXT record has at most 255 octets.
                    parts = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
                    text = " ".join(self.quoted(part) for part in parts)
                    file.write("%s. %d IN TXT %s\n" % (name, ttl, text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.file)
        except OSError as error:
            raise Refusal("transient", "%s cannot be written: %s" % (self.file, error.strerror))

    @staticmethod
    def quoted(octets):
        def one(octet):
            if octet in b'"\\':
                return "\\" + chr(octet)
            return chr(octet) if 32 <= octet < 127 else "\\%03d" % octet

        return '"%s"' % "".join(map(one, octets))

    @staticmethod
    def octets(text):
        escape = re.compile(r"\\(\d{3}|.)")
        plain = escape.sub(lambda it: chr(int(it[1])) if len(it[1]) == 3 else it[1], text)
        return plain.encode("latin-1")

    # -----------------------------------------------------------------------------------------------------------------


def answer(plugin, request):
    methods = {
        "initialize": plugin.initialize,
        "zones": plugin.zones,
        "observe": plugin.observe,
        "apply": plugin.apply,
    }
    method = methods.get(request["method"])
    try:
        if method is None:
            return {"error": {"code": -32601, "message": "there is no %s here" % request["method"]}}
        return {"result": method(request["params"])}
    except Refusal as refusal:
        return {"error": refusal.answer}


def main():
    plugin = Plugin()
    # The loop ends when Countersign closes the pipe, or dies: then so does the plug-in.
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request.get("method") == "shutdown":
            break
        if "id" not in request:
            continue  # `cancel`: one request after another is answered here, so there is nothing to break off
        reply = dict(jsonrpc="2.0", id=request["id"], **answer(plugin, request))
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
