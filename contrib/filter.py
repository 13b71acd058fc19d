#!/usr/bin/env python3
"""An example of a program for `shadowtap mirror --filter-exec contrib/filter.py`; see docs/shaping.md.

Each line on standard input is a request that would be sent to the shadow, as JSON; for each, a line on
standard output says what becomes of it. Standard error goes to the mirror's log.

This one drops what pays, marks orders as tests, and lets all else pass.
"""

import base64
import json
import sys


def decide(request):
    """Gives what is to be done with a request, without its id."""
    path = request["target"].split("?", 1)[0]
    if path.startswith("/payments/"):
        return {"action": "drop"}
    if request["method"] == "POST" and path == "/orders":
        order = json.loads(base64.b64decode(request["body"]))
        order["test"] = True
        return {
            "action": "send",
            "headers": request["headers"] + [["X-Test", "1"]],
            "body": base64.b64encode(json.dumps(order).encode()).decode(),
        }
    return {"action": "pass"}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = decide(request)
        except (KeyError, TypeError, ValueError) as error:
            # What is not understood is better not sent.
            print(f"{request['method']} {request['target']}: {error!r}", file=sys.stderr, flush=True)
            reply = {"action": "drop"}
        print(json.dumps({"id": request["id"], **reply}), flush=True)


if __name__ == "__main__":
    main()
