#!/usr/bin/env python3
"""A program for --filter-exec that fails as the path of a request says, and tells of itself."""

import json
import os
import sys
import time


def tell():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    # Without that of the list itself, which is closed by then.
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
    facts = {
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "groups": os.getgroups(),
        "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapAmb"], 16),
        "no_new_privs": int(status["NoNewPrivs"]),
        "fds": fds,
        "environment": sorted(os.environ),
    }
    print("facts " + json.dumps(facts), file=sys.stderr, flush=True)


def say(reply):
    print(json.dumps(reply), flush=True)


tell()
for line in sys.stdin:
    request = json.loads(line)
    passes = {"id": request["id"], "action": "pass"}
    fault = request["target"].rsplit("?", 1)[-1]
    if fault == "hang":
        continue
    elif fault == "crash":
        os._exit(3)
    elif fault == "freeze":
        time.sleep(3600)
    elif fault == "inject":
        headers = request["headers"] + [["X", "a\r\nInjected: yes"]]
        say({"id": request["id"], "action": "send", "headers": headers})
    elif fault == "babble":
        print("no JSON", flush=True)
        say({"id": 1_000_000, "action": "pass"})
        say(passes)
    else:
        say(passes)
