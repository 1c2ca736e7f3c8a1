#!/usr/bin/env python3
"""The names of Let's Encrypt on this host, before Pebble: /directory is Pebble's /dir, everything else goes through as it is.
Pebble names its own URLs by the Host header, so that an account and an order belong to the name that was asked."""
import http.client, http.server, ssl, sys

class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pebble = http.client.HTTPSConnection("127.0.0.1", 14000, context=ssl._create_unverified_context())
        pebble.request(self.command, "/dir" if self.path == "/directory" else self.path, body, dict(self.headers))
        answer = pebble.getresponse()
        text = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
        pebble.close()

    do_GET = do_POST = do_HEAD = forward

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Front)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
