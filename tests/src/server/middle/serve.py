"""A service that knows nothing of lanes: asks another one for each request, and answers what that says.

serve.py HOW PORT ADDRESS PORT [NAME [HEADER]]: listens on all addresses at the first port, and calls the second one's address. With a name it says
in the answer that the request came by it; a header of that name goes on with the call.
"""

import asyncio
import json
import os
import socket
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ForkingMixIn, ThreadingMixIn

HOW, PORT, TO, TO_PORT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
NAME, HEADER = (sys.argv[5:] + ["", ""])[:2]


def call(path, more={}):
    c = HTTPConnection(TO, TO_PORT, timeout=30)
    c.request("GET", path, headers={"Connection": "close", **more})
    body = c.getresponse().read()
    c.close()
    return body


def in_a_thread(path, more={}):
    out = []
    t = threading.Thread(target=lambda: out.append(call(path, more)))
    t.start()
    t.join()
    return out[0]


def in_a_process(path, more={}):
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(r)
        os.write(w, call(path, more))
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        body = f.read()
    os.wait()
    return body


def named(body):
    if not NAME:
        return body
    answer = json.loads(body)
    answer["via"] = [NAME] + answer.get("via", [])
    return json.dumps(answer).encode() + b"\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        more = {HEADER: self.headers[HEADER]} if HEADER and HEADER in self.headers else {}
        body = named({"threads": call, "helpers": in_a_thread, "forks": in_a_process}[HOW](self.path, more))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Listens:
    request_queue_size = 1024
    address_family = socket.AF_INET6
    daemon_threads = True
    max_children = 200


class Threads(Listens, ThreadingMixIn, HTTPServer):
    pass


class Forks(Listens, ForkingMixIn, HTTPServer):
    pass


async def waits(reader, writer):
    """Between a request and the call there is time for others."""
    head = await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.002)
    r, w = await asyncio.open_connection(TO, TO_PORT)
    w.write(b"GET " + head.split(b" ")[1] + b" HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
    answer = await r.read()
    w.close()
    body = answer.split(b"\r\n\r\n", 1)[1]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def loop():
    server = await asyncio.start_server(waits, None, PORT, backlog=1024)
    await server.serve_forever()


if HOW == "loop":
    asyncio.run(loop())
else:
    (Forks if HOW == "forks" else Threads)(("::", PORT), Handler).serve_forever()
