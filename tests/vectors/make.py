"""Makes the test vectors of pinring's wire contracts: ring.json and pin.json.

A second, independent implementation of the contracts: it was written from their text alone, before
and without reading pinring's own code. Other proxies may use the two JSON files as they are.

    python3 -m venv venv && venv/bin/pip install xxhash==4.1.0
    venv/bin/python make.py            # writes both files beside this one
    venv/bin/python make.py --check    # says whether the kept files are what it would write

Vectors are never edited, only added to: a change that alters or removes one breaks pins that clients hold.

In the files, a byte string is {"ascii": "..."} where it is printable ASCII, else {"hex": "..."};
64-bit numbers are 16 hex digits; keys, key ids, bindings and raw pins are plain hex.
"""

import base64
import bisect
import hashlib
import hmac
import json
import pathlib
import sys

import xxhash

HERE = pathlib.Path(__file__).parent
NODES = 160  # virtual nodes of a backend: always as many, whatever its weight
MAX = 2**64 - 1

# ---------------------------------------------------------------- the contract: names and virtual nodes


def position(data: bytes) -> int:
    """The position of a key: XXH3-64, seed 0, of its bytes."""
    return xxhash.xxh3_64_intdigest(data, seed=0)


def point(name: bytes, i: int) -> int:
    """Point i of a backend: XXH3-64, seed 0, of its name, 0x00, then i as u32 big-endian."""
    return position(name + b"\0" + i.to_bytes(4, "big"))


def ring(names: list[bytes]) -> list[tuple[int, bytes]]:
    """All points in order. Where two backends own one point, the bytewise smaller name has it."""
    owners: dict[int, bytes] = {}
    for name in sorted(names):
        for i in range(NODES):
            owners.setdefault(point(name, i), name)
    return sorted(owners.items())


def owner(points: list[tuple[int, bytes]], at: int) -> bytes:
    """The owner of the first point at or after a position; past the last point, the ring wraps."""
    found = bisect.bisect_left(points, (at, b""))
    return points[found % len(points)][1]


def node_number(string: bytes) -> int:
    """Which virtual node of its backend a carrier gets."""
    return position(string) % NODES


# ---------------------------------------------------------------- the contract: what a client sees

SESSION, ENDPOINT, REQUEST_STATE, TASK = 1, 2, 3, 4
KIND_NAMES = {SESSION: "session", ENDPOINT: "endpoint", REQUEST_STATE: "requestState", TASK: "task"}


def key_id(key: bytes) -> int:
    """The first byte of SHA-256(key)."""
    return hashlib.sha256(key).digest()[0]


def raw_pin(kind: int, key: bytes, coordinate: int, binding: bytes, string: bytes) -> bytes:
    """20 bytes: version and kind, key id, coordinate, and the first 10 bytes of the HMAC."""
    assert len(binding) in (0, 32)
    head = bytes([0x10 | kind, key_id(key)]) + coordinate.to_bytes(8, "big")
    signed = b"pinring/1" + b"\0" + head + bytes([len(binding)]) + binding + string
    return head + hmac.digest(key, signed, "sha256")[:10]


def base32(raw: bytes) -> bytes:
    """RFC 4648 in lower case; 20 bytes are exactly 32 characters, so there is no padding."""
    return base64.b32encode(raw).lower()


def attach(kind: int, string: bytes, characters: bytes) -> bytes:
    """What the client sees: of an endpoint its whole raw query, of the other kinds the whole string."""
    if kind == ENDPOINT:
        return (string + b"&" if string else b"") + b"pinring=" + characters
    assert string, "only an endpoint's query may be empty"
    return string + b"-" + characters


def client_text(kind: int, key: bytes, coordinate: int, binding: bytes, string: bytes) -> bytes:
    return attach(kind, string, base32(raw_pin(kind, key, coordinate, binding, string)))


# ---------------------------------------------------------------- how values are written


def text(data: bytes) -> dict:
    if all(0x20 <= byte <= 0x7E for byte in data):
        return {"ascii": data.decode("ascii")}
    return {"hex": data.hex()}


def u64(number: int) -> str:
    return f"{number:016x}"


# ---------------------------------------------------------------- ring.json

NAMES = [
    b"a",
    b"10.0.0.1:8080",
    b"[2001:db8::1]:80",
    b"mcp-0.mcp.default.svc:9001",
    b"!~",
    b"n" * 255,
]

FLEETS = [
    [b"b", b"a"],
    [b"10.0.0.3:8080", b"10.0.0.1:8080", b"10.0.0.2:8080"],
    [
        b"mcp-0.mcp.default.svc:9001",
        b"[2001:db8::1]:80",
        b"a",
        b"mcp-1.mcp.default.svc:9001",
        b"10.0.0.1:8080",
        b"A",
        b"n" * 255,
    ],
]

UUID = b"3f2b8c1e-5d47-4a90-9c6e-0b7d21f4a853"
HEX32 = b"9f86d081884c7d659a2feaa0c55ad015"
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImlhdCI6MTc2MDAwMDAwMH0.c2lnbmF0dXJl_-c2ln"
LONG = b"".join(b"%03d." % i for i in range(60))  # 240 bytes
UTF8 = "Zürich → 東京 🚲".encode()

# XXH3 has a branch of its own for 0, 1-3, 4-8, 9-16, 17-128, 129-240 and more bytes, and blocks of 1024.
HASHED = (
    [b"", b"a", b"abc", UUID, HEX32, JWT, UTF8, b"\0", b"\xff\xfe\xfd", b"a\0\0\0\0", bytes(range(256))]
    + [bytes((7 * i + 3) % 251 for i in range(n)) for n in (2, 4, 8, 9, 16, 17, 128, 129, 240, 241, 300, 1024, 1025)]
)


def backend(name: bytes) -> dict:
    points = [point(name, i) for i in range(NODES)]
    return {
        "name": text(name),
        "nodes": [{"number": i, "point": u64(points[i])} for i in (0, 1, 2, 79, 158, 159)],
        # XXH3-64 over all 160 points, in the order of their numbers, 8 bytes big-endian each
        "digest": u64(position(b"".join(p.to_bytes(8, "big") for p in points))),
    }


def fleet(names: list[bytes]) -> dict:
    points = ring(names)
    assert len(points) == NODES * len(names), "no two points collide in these fleets"
    keys = [UUID, HEX32, JWT, UTF8, b"", b"pinring", b"default"] + [b"key-%d" % i for i in range(10)]
    first, last = points[0][0], points[-1][0]
    crafted = [0, MAX, first, first - 1, first + 1, last, last + 1, MAX // 2]
    for name in (names[0], names[-1]):
        node = point(name, 79)
        crafted += [node, node + 1]
    crafted.append(point(names[1], 0))
    lookups = [{"key": text(key), "position": u64(position(key))} for key in keys]
    lookups += [{"position": u64(at)} for at in crafted]
    for lookup in lookups:
        at = int(lookup["position"], 16)
        lookup["owner"] = text(owner(points, at))
        lookup["exact"] = at in dict(points)
    return {"names": [text(name) for name in names], "lookups": lookups}


def make_ring() -> dict:
    carriers = []
    for string in (UUID, HEX32, JWT, LONG, UTF8, b"x", b"", b"sessionId=" + UUID):
        for name in NAMES[:3]:
            number = node_number(string)
            carriers.append(
                {"string": text(string), "name": text(name), "number": number, "coordinate": u64(point(name, number))}
            )
    return {
        "hashes": [{"bytes": text(data), "xxh3_64": u64(position(data))} for data in HASHED],
        "backends": [backend(name) for name in NAMES],
        "fleets": [fleet(names) for names in FLEETS],
        "carriers": carriers,
    }


# ---------------------------------------------------------------- pin.json

ZERO = bytes(32)  # the key where no secret is configured
SHORT = bytes(range(1, 33))  # the shortest secret
ASCII = b"correct horse battery staple, and then some more words"
BIG = bytes((11 * i + 128) % 256 for i in range(100))  # longer than HMAC's block, no UTF-8
KEYS = {"zero": ZERO, "short": SHORT, "ascii": ASCII, "big": BIG}
STRANGER = b"a secret that no reader of these vectors has"
assert len({key_id(key) for key in [*KEYS.values(), STRANGER]}) == 5

# Another key that has the id of SHORT: its pins are bad for a reader of SHORT, not unknown.
TWIN = next(key for key in (b"twin of the short key %010d" % i for i in range(10**6)) if key_id(key) == key_id(SHORT))

BINDINGS = [hashlib.sha256(b"alice").digest(), hashlib.sha256(b"bob").digest()]
TEXT_BINDING = b"0123456789abcdefghijklmnopqrstuv"  # 32 bytes that could stand in a string too

COORDINATES = [point(b"a", 0), 0, MAX, point(b"10.0.0.1:8080", 159), 0x0123456789ABCDEF]


def strings(kind: int) -> list[bytes]:
    """Strings of backends, one of which ends in a pin of its own (another pinring, further down the chain)."""
    if kind == ENDPOINT:
        plain = [b"", b"sessionId=" + UUID, b"session_id=" + HEX32, b"x", b"token=" + JWT, b"a=1&", b"q=" + LONG, b"a=%C3%BC&b=-"]
    else:
        plain = [UUID, HEX32, b"x", JWT, LONG, b"-"]
    if kind in (REQUEST_STATE, TASK):
        plain += [UTF8, b'say "no"\\\n\t']
    chained = client_text(kind, STRANGER, 0x1122334455667788, b"", plain[1])
    return plain + [chained]


def case(kind: int, key: bytes, coordinate: int, binding: bytes, string: bytes) -> dict:
    raw = raw_pin(kind, key, coordinate, binding, string)
    return {
        "kind": kind,
        "kind_name": KIND_NAMES[kind],
        "key": key.hex(),
        "key_id": f"{key_id(key):02x}",
        "binding": binding.hex(),
        "coordinate": u64(coordinate),
        "string": text(string),
        "raw": raw.hex(),
        "characters": base32(raw).decode(),
        "query" if kind == ENDPOINT else "client": text(attach(kind, string, base32(raw))),
    }


def cases() -> list[dict]:
    made = []
    for kind in KIND_NAMES:
        for i, string in enumerate(strings(kind)):
            for j, key in enumerate(KEYS.values()):
                binding = BINDINGS[j % 2] if (i + j) % 2 else b""
                made.append(case(kind, key, COORDINATES[(i + j) % len(COORDINATES)], binding, string))
    made.append(case(SESSION, SHORT, 0, TEXT_BINDING, UUID))
    return made


def also_reads() -> list[dict]:
    """Good pins in a form that minting does not give: a query that is nothing but `&` before its pin."""
    made = case(ENDPOINT, SHORT, COORDINATES[4], b"", b"")
    made["query"] = text(b"&pinring=" + made["characters"].encode())
    return [made]


def principal(bind: str, *parts: bytes) -> bytes:
    """The binding of a principal: SHA-256 of what `bind` says and the principal's parts, 0x00 between them."""
    return hashlib.sha256(b"\0".join([bind.encode(), *parts])).digest()


def token(claims: dict) -> str:
    """The header that carries a token with these claims. What its signature is worth, only servers know."""
    parts = [json.dumps({"alg": "RS256"}).encode(), json.dumps(claims).encode(), b"signature"]
    return "Bearer " + ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def bound() -> list[dict]:
    """Good pins of sessions that are somebody's, with what a request of that one says of itself."""
    issuer = "https://id.example"
    alice, tokyo, user = b"alice", UTF8, b"alice@example.com"
    whose = [
        ("jwt:sub", "authorization", token({"iss": issuer, "sub": alice.decode()}), [issuer.encode(), alice]),
        ("jwt:sub", "authorization", token({"sub": tokyo.decode(), "exp": 1, "iss": issuer}), [issuer.encode(), tokyo]),
        ("jwt:client_id", "authorization", token({"iss": issuer, "client_id": "alice"}), [issuer.encode(), alice]),
        ("header:x-user", "x-user", user.decode(), [user]),
    ]
    made = []
    for kind in KIND_NAMES:
        for i, (bind, name, value, parts) in enumerate(whose):
            string, at = strings(kind)[1], COORDINATES[i % len(COORDINATES)]
            said = {"bind": bind, "header": {"name": name, "value": value}}
            made.append(said | case(kind, SHORT, at, principal(bind, *parts), string))
    return made


def no_shape() -> list[dict]:
    """Texts that are no pin in their place, whatever the reader's keys."""
    made = []

    def add(kind: int, data: bytes, why: str) -> None:
        made.append({"kind": kind, "text": text(data), "why": why})

    for kind in KIND_NAMES:
        string = strings(kind)[1]
        raw = raw_pin(kind, SHORT, COORDINATES[0], b"", string)
        good = base32(raw)
        add(kind, b"", "empty")
        add(kind, string, "no pin")
        add(kind, good, "the 32 characters alone")
        add(kind, attach(kind, string, good[:-1]), "31 characters")
        add(kind, attach(kind, string, good + b"a"), "33 characters")
        add(kind, attach(kind, string, good.upper()), "upper case")
        add(kind, attach(kind, string, good[:-1] + b"A"), "one upper-case letter, the last")
        add(kind, attach(kind, string, good + b"="), "padding behind 32 characters")
        add(kind, attach(kind, string, good[:-1] + b"="), "padding as the last of 32 characters")
        for digit in b"0189":
            add(kind, attach(kind, string, good[:20] + bytes([digit]) + good[21:]), f"digit {digit:c} in the middle")
        add(kind, attach(kind, string, good[:9] + b"-" + good[10:]), "a hyphen in the middle")
        add(kind, attach(kind, string, good) + b" ", "a space behind")
        add(kind, attach(kind, string, good) + b"\n", "a line end behind")
        for version in (0, 2, 9):
            other = base32(bytes([version << 4 | kind]) + raw[1:])
            add(kind, attach(kind, string, other), f"version {version}")
        for other in (0, 1, 2, 3, 4, 5, 15):
            if other != kind:
                foreign = base32(raw_pin(other, SHORT, COORDINATES[0], b"", string))
                add(kind, attach(kind, string, foreign), f"a pin of kind {other} in the place of kind {kind}")
        if kind == ENDPOINT:
            add(kind, attach(kind, string, good) + b"&a=1", "not the last parameter")
            add(kind, attach(kind, string, good) + b"&", "an & behind")
            add(kind, attach(kind, string, good) + b"#f", "a fragment behind")
            add(kind, string + b"&PINRING=" + good, "the parameter's name in upper case")
            add(kind, string + b"&pinring%3D" + good, "an escaped =")
            add(kind, string + b"&pinring" + good, "no =")
            add(kind, string + b"&pinring-" + good, "- for =")
            add(kind, string + b"&xpinring=" + good, "another parameter's name")
            add(kind, string + b";pinring=" + good, "; for &")
            add(kind, b"?pinring=" + good, "a ? before it: not the beginning of the raw query")
            add(kind, string + b"-" + good, "a pin behind a hyphen")
        else:
            add(kind, b"-" + good, "an empty string before it")
            add(kind, string + good, "no hyphen")
            add(kind, string + b"_" + good, "_ for the hyphen")
            add(kind, string + b"&pinring=" + good, "a pin in a query parameter")
    return made


def bad() -> list[dict]:
    """Texts that have the shape, with the id of a key that the reader has, and must not verify."""
    made = []

    def add(kind: int, data: bytes, binding: bytes, why: str) -> None:
        made.append({"kind": kind, "key": SHORT.hex(), "binding": binding.hex(), "text": text(data), "why": why})

    alice, bob = BINDINGS
    at = COORDINATES[4]
    for kind in KIND_NAMES:
        string = strings(kind)[1]
        raw = raw_pin(kind, SHORT, at, b"", string)
        good = base32(raw)
        bits = {16: "the coordinate's first bit", 79: "the coordinate's last bit", 80: "the tag's first bit"}
        bits |= {119: "a bit in the tag's middle", 159: "the tag's last bit"}
        for bit, what in bits.items():
            flipped = int.from_bytes(raw, "big") ^ (1 << (159 - bit))
            add(kind, attach(kind, string, base32(flipped.to_bytes(20, "big"))), b"", f"{what} flipped")
        for index in (0, len(string) - 1):
            changed = bytearray(string)
            changed[index] ^= 1
            add(kind, attach(kind, bytes(changed), good), b"", f"a bit of the string's byte {index} flipped")
        add(kind, attach(kind, string[1:], good), b"", "the string's first byte missing")
        add(kind, attach(kind, string[:-1], good), b"", "the string's last byte missing")
        add(kind, attach(kind, b"x" + string, good), b"", "a byte before the string")
        add(kind, attach(kind, attach(kind, string, good), good), b"", "the pin twice: the string then ends in a pin")
        add(kind, attach(kind, string, base32(raw[:10] + bytes(10))), b"", "a tag of zeros")
        add(kind, attach(kind, string, good), alice, "made without a binding, read with one")
        bound = client_text(kind, SHORT, at, alice, string)
        add(kind, bound, b"", "made with a binding, read without one")
        add(kind, bound, bob, "made for another binding")
        smuggled = base32(raw_pin(kind, SHORT, at, TEXT_BINDING, string))
        add(kind, attach(kind, TEXT_BINDING + string, smuggled), b"", "the binding moved into the string")
        other = raw_pin(kind % 4 + 1, SHORT, at, b"", string)
        add(kind, attach(kind, string, base32(raw[:1] + other[1:])), b"", "the tag of another kind")
        add(kind, client_text(kind, TWIN, at, b"", string), b"", "another key with the same key id")
        if kind == ENDPOINT:
            add(kind, b"pinring=" + good, b"", "the whole string missing")
    return made


def unknown_key() -> list[dict]:
    """Texts that have the shape, with a key id that belongs to none of the reader's keys."""
    made = []

    def add(kind: int, readers: list[bytes], data: bytes, why: str) -> None:
        pin = base64.b32decode(data[-32:].upper())
        assert pin[1] not in map(key_id, readers)
        made.append(
            {"kind": kind, "keys": [key.hex() for key in readers], "key_id": f"{pin[1]:02x}", "text": text(data), "why": why}
        )

    everyone = list(KEYS.values())
    for kind in KIND_NAMES:
        string = strings(kind)[1]
        at = COORDINATES[0]
        add(kind, everyone, client_text(kind, STRANGER, at, b"", string), "a key that the reader has not")
        add(kind, [SHORT], client_text(kind, ZERO, at, b"", string), "the zero key, which the reader does not allow")
        add(kind, [ZERO], client_text(kind, SHORT, at, b"", string), "a secret, and the reader has none")
        raw = raw_pin(kind, SHORT, at, b"", string)
        flipped = bytes([raw[0], raw[1] ^ 1]) + raw[2:]
        add(kind, [SHORT], attach(kind, string, base32(flipped)), "a bit of the key id flipped")
        add(kind, [SHORT], strings(kind)[-1], "the pin of a pinring further down the chain")
    return made


def make_pin() -> dict:
    return {
        "keys": [{"name": name, "key": key.hex(), "key_id": f"{key_id(key):02x}"} for name, key in KEYS.items()],
        "cases": cases(),
        "also_reads": also_reads(),
        "no_shape": no_shape(),
        "bad": bad(),
        "unknown_key": unknown_key(),
        "bound": bound(),
    }


if __name__ == "__main__":
    differ = False
    for file, made in (("ring.json", make_ring()), ("pin.json", make_pin())):
        out = json.dumps(made, indent=2) + "\n"
        if sys.argv[1:] == ["--check"]:
            same = (HERE / file).read_text() == out
            print(file, "is the same" if same else "DIFFERS")
            differ |= not same
        else:
            (HERE / file).write_text(out)
    sys.exit(differ)
