#!/usr/bin/env python3
"""Plays the plug-in's side of a conversation, and writes down the other side as it was heard."""

import sys

conversation, heard = open(sys.argv[1], encoding="utf-8"), open(sys.argv[2], "a", buffering=1, encoding="utf-8")
for line in conversation:
    side, message = line.rstrip("\n").split(" ", 1)
    if side == "→":
        heard.write(sys.stdin.readline())
    else:
        print(message, flush=True)
sys.stdin.read()
