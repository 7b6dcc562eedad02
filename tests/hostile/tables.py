"""What is not HTTP, or not quite: the tables behind `protocol.py`."""

from __future__ import annotations

from collections.abc import Mapping

_WORDS = "GET HEAD PUT DELETE OPTIONS PATCH TRACE CONNECT PROPFIND MKCOL M-SEARCH SOURCE QUERY "
_WORDS += 'PURGE PRI post Post POSTS POS PÖST POST/ "POST" P,OST '
METHODS = (
    *_WORDS.split(),
    *("", " ", "P OST", "\tPOST", "POST\t", "POST\x00", "POST\r\nGET", "A" * 9000),
)
VERSIONS = ("", "HTTP/0.9", "HTTP/1.2", "HTTP/2", "HTTP/9.9", "HTTP/1", "http/1.1", "X" * 99)

#: Paths of nothing. HERE is the webhook's own.
PATHS = (
    *"""
*
/
//
///HERE
/HERE
HERE/
HERE//
HERE/nobody
HERE/default/more
HERE/DEFAULT
HERE/Default
HERE/{bot}
HERE/%7Bbot%7D
HERE/<script>
HERE/a b
HERE/%00
HERE%00
HERE/.
HERE/%2e%2e
HERE/%2e%2e%2f%2e%2e%2f
HERE/%ff
HEREé
HERE\\
HERE/default\\
\\HERE
HERE;a=b
HERE%23a
HERE%3Fa
HERE%20
HERE a
HERE%
HERE%zz
HERE%c3%28
HERE.json
HERE.php
//evil.example/x
http://
http://[::1HERE
javascript:alert(1)
/.git/config
/.env
/admin
/wecom/webhook
""".strip().split("\n"),
    *("", "HERE\x00", "HERE" * 40, "/" + "a" * 8000, "/" + "a/" * 4000, "/" + "%41" * 2500),
    "HERE/" + "a" * 9000,
)
#: The webhook's own path in other words: taken or refused, as aiohttp reads it.
SAME_PATHS = (
    *"""
HERE?HERE
HERE#a
HERE/..
HERE/../../etc/passwd
HERE/default/..
/x/..HERE
/.HERE
/metrics/..HERE
//evil.exampleHERE
http://evil.exampleHERE
https://gatewayHERE
file://HERE
http:HERE
http://a:99999HERE
http://user:pw@gatewayHERE
""".strip().split("\n"),
    "HERE?a=" + "b" * 7000,
)

HEADERS: Mapping[str, bytes] = {
    "a NUL in a value": b"X-A: a\x00b",
    "a NUL in a name": b"X-\x00A: b",
    "a bare CR": b"X-A: a\rX-B: b",
    "a bare LF": b"X-A: a\nX-B: b",
    "a folded value": b"X-A: a\r\n  b",
    "a folded first line": b" X-A: a",
    "no colon": b"nonsense",
    "no name": b": a",
    "a space before the colon": b"X-A : a",
    "a space in a name": b"X A: a",
    "a name of bytes": b"\xff\xfe: a",
    "a value of bytes": b"X-A: \xff\xfe\x80",
    "a value of controls": b"X-A: \x01\x02\x1b[2J",
    "a long name": b"X" * 9000 + b": a",
    "a long value": b"X-A: " + b"a" * 9000,
    "a very long value": b"X-A: " + b"a" * 300_000,
    "129 headers": b"X-A: b\r\n" * 129,
    "5000 headers": b"X-A: b\r\n" * 5000,
    "5000 headers of one letter": b"".join(b"%x: \r\n" % n for n in range(5000)),
    "100 long headers": b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8000) for n in range(100)),
    "a second host": b"Host: evil.example",
    "an empty host": b"Host:",
    "a host with a user": b"Host: user@evil.example",
    "a host that is a URL": b"Host: http://evil.example/",
    "a second length": b"Content-Length: 1",
    "a chunked coding beside the length": b"Transfer-Encoding: chunked",
    "an unknown coding beside the length": b"Transfer-Encoding: cow",
    "a hidden coding": b"Transfer-Encoding : chunked",
    "an upgrade to websocket": b"Upgrade: websocket\r\nConnection: Upgrade",
    "an old upgrade": b"Upgrade: websocket\r\nSec-WebSocket-Key1: x",
    "an upgrade to HTTP/2": b"Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: A",
    "an upgrade to anything": b"Upgrade: " + b"x," * 2000 + b"\r\nConnection: upgrade",
    "an unknown expectation": b"Expect: the worst",
    "two expectations": b"Expect: 100-continue\r\nExpect: 100-continue",
    "another method": b"X-HTTP-Method-Override: DELETE",
    "another path": b"X-Original-URL: /metrics\r\nX-Rewrite-URL: /metrics",
    "a range": b"Range: bytes=0-18446744073709551615,1-,2-",
    "a condition": b'If-Match: "x"\r\nIf-Modified-Since: yesterday',
    "trailers": b"Trailer: Content-Length",
    "a hop-by-hop proof": b"Connection: close, sign, X-Lark-Signature",
    "a thousand cookies": b"Cookie: " + b"a=b; " * 1000,
    "a basic login": b"Authorization: Basic OjpiYXNl",
    "a forged address": b"X-Forwarded-For: 127.0.0.1, ::1, \xff\r\nForwarded: for=127.0.0.1",
    "a chain of addresses": b"X-Forwarded-For: " + b"127.0.0.1," * 800,
    "a trace": b"traceparent: 00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-01\r\ntracestate: \xff=",
    "a language": b"Accept-Language: " + b"*;q=0.1," * 500,
    "a page wanted": b"Accept: text/html",
    "a format string": b"User-Agent: %s%n${jndi:ldap://x}{0.__class__}",
    "a shell": b"User-Agent: () { :; }; true",
    "an origin": b"Origin: null\r\nAccess-Control-Request-Method: POST",
}

#: Name: (line about it, body as sent, whether it is a call as it should be; None: taken or not).
_CHUNKED = "Transfer-Encoding: chunked"
LENGTHS: Mapping[str, tuple[str, bytes, bool | None]] = {
    "as it is": ("Content-Length: N", b"BODY", True),
    "with zeros": ("Content-Length: 000N", b"BODY", None),
    "in blanks": ("Content-Length:   N  ", b"BODY", True),
    "none": ("X-A: b", b"BODY", False),
    "of nothing": ("Content-Length: 0", b"BODY", False),
    "one": ("Content-Length: 1", b"BODY", False),
    "more than there is": ("Content-Length: 999999", b"BODY", False),
    "more than is allowed": ("Content-Length: 1048577", b"BODY" + b" " * 1_048_577, False),
    "of an exabyte": ("Content-Length: 1152921504606846976", b"BODY", False),
    "of more than 64 bits": ("Content-Length: 18446744073709551617", b"BODY", False),
    "of 400 digits": (f"Content-Length: 1{'0' * 400}", b"BODY", False),
    "negative": ("Content-Length: -N", b"BODY", False),
    "with a plus": ("Content-Length: +N", b"BODY", False),
    "a fraction": ("Content-Length: N.0", b"BODY", False),
    "hexadecimal": ("Content-Length: 0xN", b"BODY", False),
    "a list of two": ("Content-Length: N, N", b"BODY", None),
    "twice the same": ("Content-Length: N\r\nContent-Length: N", b"BODY", None),
    "twice": ("Content-Length: N\r\nContent-Length: 1", b"BODY", False),
    "a word": ("Content-Length: many", b"BODY", False),
    "in wide digits": ("Content-Length: １２", b"BODY", False),
    "and chunks": (f"Content-Length: N\r\n{_CHUNKED}", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "chunks": (_CHUNKED, b"SIZE\r\nBODY\r\n0\r\n\r\n", True),
    "chunks in capitals": ("transfer-encoding: CHUNKED", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "chunks twice": (f"{_CHUNKED}, chunked", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "chunks in two lines": (f"{_CHUNKED}\r\n{_CHUNKED}", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "zipped chunks": ("Transfer-Encoding: gzip, chunked", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "nearly chunks": ("Transfer-Encoding: xchunked", b"SIZE\r\nBODY\r\n0\r\n\r\n", False),
    "chunks and identity": (f"{_CHUNKED}, identity", b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "chunks with extensions": (_CHUNKED, b'SIZE;a="b;c"\r\nBODY\r\n0;x\r\n\r\n', None),
    "chunks with a long name": (
        _CHUNKED,
        b"SIZE;" + b"a" * 90_000 + b"\r\nBODY\r\n0\r\n\r\n",
        None,
    ),
    "chunks with trailers": (_CHUNKED, b"SIZE\r\nBODY\r\n0\r\nsign: x\r\nX: y\r\n\r\n", None),
    "5000 trailers": (_CHUNKED, b"SIZE\r\nBODY\r\n0\r\n" + b"a: b\r\n" * 5000 + b"\r\n", None),
    "chunks without an end": (_CHUNKED, b"SIZE\r\nBODY\r\n", False),
    "chunks that end at once": (_CHUNKED, b"0\r\n\r\nBODY", False),
    "chunks of no size": (_CHUNKED, b"\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of a bad size": (_CHUNKED, b"zz\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of a negative size": (_CHUNKED, b"-SIZE\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of a prefixed size": (_CHUNKED, b"0xSIZE\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of a huge size": (_CHUNKED, b"f" * 40 + b"\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of an exabyte": (_CHUNKED, b"fffffffffffffff\r\nBODY\r\n0\r\n\r\n", False),
    "chunks of a size in zeros": (_CHUNKED, b"0" * 300 + b"SIZE\r\nBODY\r\n0\r\n\r\n", None),
    "chunks that are too short": (_CHUNKED, b"2\r\nBODY\r\n0\r\n\r\n", False),
    "chunks with bare line feeds": (_CHUNKED, b"SIZE\nBODY\n0\n\n", None),
    "a chunk too many": (_CHUNKED, b"SIZE\r\nBODY\r\n1\r\nx\r\n0\r\n\r\n", False),
    "50 000 chunks of a byte": (_CHUNKED, b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n", False),
    "a chunk of a mebibyte": (_CHUNKED, b"100001\r\n" + b" " * 0x100001 + b"\r\n0\r\n\r\n", False),
}

RUBBISH: Mapping[str, bytes] = {
    "zeros": bytes(4096),
    "every byte": bytes(range(256)) * 16,
    "line feeds": b"\r\n" * 5000,
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "an SSH hello": b"SSH-2.0-x\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /health HTTP/1.1\r\n\r\n",
    "a command for Redis": b"*1\r\n$8\r\nFLUSHALL\r\n",
    "half a call": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Le",
    "a call without a host": b"GET /health HTTP/1.1\r\n\r\n",
    "an empty method": b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "40 calls for nothing": b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 40,
    "40 bodies unasked for": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 40,
    "a smuggled call": b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
}
