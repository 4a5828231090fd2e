#!/usr/bin/env python3
"""ClickHouse's HTTP interface over chdb, the real ClickHouse engine in process.

usage: ch_server.py PORT DATA_DIR

GET /ping; GET or POST /?query=…&setting=…&param_name=… with the rest of the query (SQL, or the data of an INSERT) as body, in any
of the content encodings gzip, deflate, zstd and lz4. Errors are answered with the status that ClickHouse has for their code, and
the code in X-ClickHouse-Exception-Code. Where CH_PASSWORD is set, requests need it in X-ClickHouse-Key. Queries run one at a time.
"""
import gzip
import os
import re
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session

# What the engine itself takes the compression of an INSERT's data by: the same code that its own HTTP interface uses.
ENGINES = {"": "none", "identity": "none", "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "lz4": "lz4", "deflate": "deflate"}
NOT_SETTINGS = {"query", "database", "default_format", "user", "password", "query_id", "session_id", "role", "compress", "decompress",
                "wait_end_of_query", "buffer_size", "quota_key", "stacktrace"}
# exceptionCodeToHTTPStatus of ClickHouse for the common ones; everything else is 500.
STATUS = {60: 404, 81: 404, 46: 404, 47: 404, 36: 400, 26: 400, 27: 400, 38: 400, 41: 400, 53: 400, 62: 400, 70: 400, 72: 400, 117: 400,
          6: 400, 16: 404, 44: 404, 159: 408, 164: 403, 202: 429, 241: 500, 242: 500, 252: 500, 516: 403, 497: 403}
PASSWORD = os.environ.get("CH_PASSWORD")
DATA_FILE = os.path.abspath(sys.argv[2]) + ".insert"
lock = threading.Lock()


def decode(encoding, body):
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding == "zstd":
        import zstandard
        return zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    if encoding == "lz4":
        import lz4.frame
        return lz4.frame.decompress(body)
    raise ValueError(f"Code: 432. DB::Exception: Unknown compression method {encoding}. (UNKNOWN_COMPRESSION_METHOD)")


def quoted(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def run(query, encoding, raw, params, fmt):
    settings = {k: v for k, v in params.items() if k not in NOT_SETTINGS and not k.startswith("param_")}
    for name in settings:
        if not re.fullmatch(r"\w+", name):
            raise ValueError(f"Code: 115. DB::Exception: Unknown setting {name}. (UNKNOWN_SETTING)")
    insert = re.match(r"(?is)(insert\s+into\s+.*?)(\s+settings\s+.*?)?(\s+format\s+\w+)\s*$", query)
    if insert:
        # The data by way of a file: in the text of a query the engine would look for further queries in it.
        path = f"{DATA_FILE}-{threading.get_ident()}"
        if encoding not in ENGINES:
            raise ValueError(f"Code: 432. DB::Exception: Unknown compression method {encoding}. (UNKNOWN_COMPRESSION_METHOD)")
        with open(path, "wb") as file:
            file.write(raw)
        extra = ", ".join(f"{k}={quoted(v)}" for k, v in settings.items())
        sets = ", ".join(part for part in ((insert[2] or "").strip()[len("settings"):].strip(), extra) if part)
        sets = f" SETTINGS {sets}" if sets else ""
        sql = f"{insert[1]} FROM INFILE {quoted(path)} COMPRESSION '{ENGINES[encoding]}'{sets}{insert[3]}".encode()
    else:
        sql = query.encode() + (b"\n" if query else b"") + decode(encoding, raw)
    with lock:
        try:
            if params.get("database"):
                S.query(f"USE `{params['database']}`")
            for name, value in params.items():
                if name.startswith("param_"):
                    S.query(f"SET {name}={quoted(value)}")
            if not insert:
                for name, value in settings.items():
                    S.query(f"SET {name}={quoted(value)}")
            return S.query(sql, fmt).bytes()
        finally:
            if insert:
                os.unlink(path)
            if params.get("database"):
                S.query("USE default")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def reply(self, status, body=b"", code=None, fmt="TabSeparated"):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        else:
            self.send_header("X-ClickHouse-Format", fmt)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        out = b""
        while True:
            length = int(self.rfile.readline().split(b";")[0], 16)
            out += self.rfile.read(length)
            self.rfile.readline()
            if length == 0:
                return out

    def serve(self):
        raw = self.body() if self.command == "POST" else b""
        url = urlsplit(self.path)
        if url.path == "/ping" or (self.command == "GET" and not url.query):
            return self.reply(200, b"Ok.\n")
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        fmt = self.headers.get("X-ClickHouse-Format") or params.get("default_format", "TabSeparated")
        try:
            if PASSWORD is not None and self.headers.get("X-ClickHouse-Key") != PASSWORD:
                raise ValueError("Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
            encoding = self.headers.get("Content-Encoding", "").lower()
            out = run(params.get("query", "").rstrip().rstrip(";"), encoding, raw, params, fmt)
            self.reply(200, out or b"", fmt=fmt)
        except Exception as error:  # noqa: BLE001: whatever it is, the client is told
            text = str(error)
            found = re.search(r"Code: (\d+)\.", text)
            code = int(found[1]) if found else 1002
            print(self.headers.get("Content-Length"), text[:1000].encode("utf-8", "replace"), flush=True)
            self.reply(STATUS.get(code, 500), text.encode("utf-8", "surrogateescape") + b"\n", code=code)


S = session.Session(sys.argv[2])
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.serve_forever()
