#!/usr/bin/env python3
"""A process plug-in that changes a zone by BIND's nsupdate, as somebody might have written it for himself."""

import json
import subprocess
import sys

config = {}


def update(lines):
    script = "server {host} {port}\nzone {zone}.\n".format(**config) + lines + "send\n"
    subprocess.run([config["nsupdate"], "-v", "-k", config["key"]], input=script, text=True, check=True)


def line(change):
    verb = "add {name}. {ttl}" if change["verb"] == "ensure" else "delete {name}."
    return ("update " + verb + " TXT \"{value}\"\n").format(**change)


def answer(method, params):
    if method == "initialize":
        config.update(params["config"])
        traits = {"model": "value", "batch": 50, "propagation": 1}
        return {"protocol": 1, "name": "nsupdate", "version": "1", **traits}
    if method == "zones":
        inside = ("." + params["name"]).endswith("." + config["zone"])
        return {"zones": [{"name": config["zone"]}] if inside else []}
    if method == "apply":
        update("".join(map(line, params["changes"])))
        return {}
    raise NotImplementedError(method)


for request in map(json.loads, sys.stdin):
    if "id" in request:
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        reply["result"] = answer(request["method"], request["params"])
        print(json.dumps(reply), flush=True)
