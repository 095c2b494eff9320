"""A judge for tests: answers chat completions by script, over real sockets.

    judge_server.py FOLDER      prints its port; ends when standard input does

The URL http://127.0.0.1:PORT/NAME/v1/chat/completions plays FOLDER/NAME.json, a list of steps: request n takes step n,
the last step goes on for ever. Every request is a line of FOLDER/NAME.log before it is answered. A step is an object:
    answer     the assistant's text ("hash": Yes or No by the body's hash)
    content    the assistant's content where it is no text
    status     200 where it is left out
    headers    of the response
    body       the response's whole body; {authorization} stands for what the request sent
    size       the response's body has that many bytes
    hang       true: no response until the client leaves
    close      true: the connection ends without a response
    together   wait until that many requests are here
"""

import hashlib
import http.server
import json
import os
import pathlib
import sys
import threading

FOLDER = pathlib.Path(sys.argv[1])


class Script:
    def __init__(self, name):
        self.steps = json.loads((FOLDER / f"{name}.json").read_text())
        self.log = open(FOLDER / f"{name}.log", "w")
        self.count = 0
        self.barriers = {}

    def next_step(self, request):
        step = self.steps[min(self.count, len(self.steps) - 1)]
        self.count += 1
        self.log.write(json.dumps(request) + "\n")
        self.log.flush()
        if "together" in step:
            self.barriers.setdefault(step["together"], threading.Barrier(step["together"], timeout=5))
        return step


scripts = {}
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        authorization = self.headers.get("Authorization", "")
        name = self.path.split("/")[1]
        with lock:
            script = scripts.setdefault(name, None) or Script(name)
            scripts[name] = script
            step = script.next_step({"path": self.path, "authorization": authorization,
                                     "content_type": self.headers["Content-Type"], "body": body})
        if step.get("hang"):
            self.rfile.read(1)
            return
        if step.get("close"):
            return
        if "together" in step:
            script.barriers[step["together"]].wait()
        content = step.get("content", step.get("answer"))
        if content == "hash":
            content = ["No", "Yes"][hashlib.sha256(body.encode()).digest()[0] % 2]
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})
        if "body" in step:
            reply = step["body"].replace("{authorization}", authorization)
        reply = b" " * step["size"] if "size" in step else reply.encode()
        self.send_response(step.get("status", 200))
        for header, value in step.get("headers", {}).items():
            self.send_header(header, value.replace("{authorization}", authorization))
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        try:
            self.wfile.write(reply)
        except ConnectionError:  # a client that has read enough
            pass

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
os._exit(0)
