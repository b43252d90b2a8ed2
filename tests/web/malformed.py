"""What clients send that cannot be a token. None of it may cost a store read, and none may end in a 500."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

_GOOD = urlsafe_b64encode(b"sas" + bytes(range(16)) + b"\xfb\xff" * 16)

MALFORMED_BEARER = {
    "nothing after the scheme": b"Bearer",
    "an empty token": b"Bearer ",
    "only padding": b"Bearer ====",
    "two spaces": b"Bearer  " + _GOOD,
    "a tab for the space": b"Bearer\t" + _GOOD,
    "a space after the token": b"Bearer " + _GOOD + b" ",
    "a second token": b"Bearer " + _GOOD + b" " + _GOOD,
    "two credentials joined by a proxy": b"Bearer " + _GOOD + b", Bearer " + _GOOD,
    "quoted": b'Bearer "' + _GOOD + b'"',
    "parameters": b"Bearer token=" + _GOOD,
    "one megabyte": b"Bearer " + b"c2Fz" * (1 << 18),
    "one megabyte of padding": b"Bearer c2Fz" + b"=" * (1 << 20),
    "one megabyte of spaces": b"Bearer " + b" " * (1 << 20),
    "the standard base64 alphabet": b"Bearer " + b64encode(b"sas" + bytes(range(16)) + b"\xfb\xff" * 16),
    "another prefix": b"Bearer " + urlsafe_b64encode(b"jwt" + bytes(48)),
    "bits after the last byte": b"Bearer " + urlsafe_b64encode(b"sas" + bytes(33))[:-2] + b"B=",
    "padding left out": b"Bearer " + urlsafe_b64encode(b"sas" + bytes(34)).rstrip(b"="),
    "padding too much": b"Bearer " + _GOOD + b"=",
    "truncated to the id": b"Bearer " + _GOOD[:25],
    "truncated by one": b"Bearer " + _GOOD[:-1],
    "only the prefix": b"Bearer c2Fz",
    "a JWT": b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "unicode": "Bearer c2Fzé\N{SNOWMAN}".encode(),
    "latin-1": b"Bearer c2Fz\xe9\xff",
    "broken utf-8": b"Bearer c2Fz\xc3\x28\xf0\x90",
    "full width letters": "Bearer \uff43\uff12\uff26\uff5a".encode(),
    "a NUL in it": b"Bearer " + _GOOD[:30] + b"\x00" + _GOOD[30:],
    "a NUL after it": b"Bearer " + _GOOD + b"\x00",
    "a newline after it": b"Bearer " + _GOOD + b"\n",
    "a header injected": b"Bearer " + _GOOD + b"\r\nX-Admin: 1",
    "escape sequences": b"Bearer \x1b[31m" + _GOOD,
    "all control bytes": b"Bearer " + bytes(range(32)) + b"\x7f",
    "a NUL for the space": b"Bearer\x00" + _GOOD,
    "an SQL quote": b"Bearer ' OR '1'='1",
    "JSON": b'Bearer {"$ne": null}',
}

NO_TOKEN_AT_ALL = {
    "an empty header": b"",
    "Basic": b"Basic YW5uOnNlY3JldA==",
    "a scheme that begins like ours": b"BearerToken " + _GOOD,
    "a token without a scheme": _GOOD,
    "a NUL before the scheme": b"\x00Bearer " + _GOOD,
    "control bytes": bytes(range(32)),
    "not ASCII": "Bäarer ".encode() + _GOOD,
    "one megabyte of another scheme": b"Digest " + b"x" * (1 << 20),
}

MALFORMED_COOKIE = {
    "empty": b"__Host-sid=",
    "twice": b"__Host-sid=" + _GOOD + b"; __Host-sid=" + _GOOD,
    "twice without a space": b"__Host-sid=" + _GOOD + b";__Host-sid=other",
    "twice, one quoted": b"__Host-sid=" + _GOOD + b'; a=b; __Host-sid="x"',
    "quoted": b'__Host-sid="' + _GOOD + b'"',
    "one megabyte": b"__Host-sid=" + b"c2Fz" * (1 << 18),
    "one megabyte of other cookies": b"__Host-sid=" + _GOOD + b"; a=b" * (1 << 18),
    "one megabyte of semicolons": b"__Host-sid=" + _GOOD + b";" * (1 << 20),
    "one megabyte of backslashes": b"__Host-sid=" + _GOOD + b'; a="' + b"\\" * (1 << 20),
    "a space in it": b"__Host-sid=" + _GOOD[:20] + b" " + _GOOD[20:],
    "a NUL after it": b"__Host-sid=" + _GOOD + b"\x00",
    "unicode": "__Host-sid=c2Fzé\N{SNOWMAN}".encode(),
    "latin-1": b"__Host-sid=\xe9\xff",
    "control bytes": b"__Host-sid=" + bytes(range(32)),
    "not canonical": b"__Host-sid=" + urlsafe_b64encode(b"sas" + bytes(34)).rstrip(b"="),
}


def refusal_of(cookie: bytes) -> tuple[int, str]:
    """Status and code of the answer to a malformed cookie: one that is too long to be read may hold a token."""
    return (401, "invalid_token") if len(cookie) <= 16 * 1024 else (431, "too_many_cookies")


NO_COOKIE_AT_ALL = {
    "an empty header": b"",
    "only separators": b"; ;;\t; ",
    "one megabyte of separators": b";" * (1 << 20),
    "one megabyte of backslashes": b'a="' + b"\\" * (1 << 20),
    "another name": b"session=" + _GOOD,
    "another case": b"__Host-SID=" + _GOOD + b"; __Host-Sid=" + _GOOD,
    "a longer name": b"x__Host-sid=" + _GOOD + b"; __Host-sidx=" + _GOOD,
    "no prefix": b"sid=" + _GOOD,
    "no equals sign": b"__Host-sid",
    "nameless": b"=__Host-sid=" + _GOOD,
    "a space before the equals sign": b"__Host-sid =" + _GOOD,
    "U+2000 before the name": "\u2000__Host-sid=".encode() + _GOOD,
    "U+0085 before the name": b"\x85__Host-sid=" + _GOOD,
    "U+00A0 before the name": b"\xa0__Host-sid=" + _GOOD,
    "a vertical tab before the name": b"\x0b__Host-sid=" + _GOOD,
    "in another cookie's value": b"a=__Host-sid=" + _GOOD,
    "separated by a comma": b"a=b, __Host-sid=" + _GOOD,
    "the prefix in another case": b"__HOST-sid=" + _GOOD,
}
