#!/usr/bin/env python3
"""Checks a Countersign ledger, written from docs/formats.md alone: a second opinion on what countersign-verify says.

    pip install cryptography                         # Python 3.9 or newer
    python verify.py log EVIDENCE LEDGER.VKEY        # an export: checkpoints, tiles, tree, entries, traces
    python verify.py receipt FILE LEDGER.VKEY        # a receipt: its entry stands in the ledger
    python verify.py row ROW RECEIPT LEDGER.VKEY     # a line of `countersign rows`: this row was delivered

Prints what is wrong and ends with 1, or what holds and ends with 0. LEDGER.VKEY is one key; an export's own rotations are followed
from it. Receipts of a log whose key was replaced are judged with the key that signed them, at any size: what bounds keys by sizes
is `countersign-verify --epochs`. Payloads, what traces owe each other (section 9), and rules of single entry types are left to it.
"""

import base64, contextlib, hashlib, json, re, sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NUMBER, LIMIT = "0|[1-9][0-9]{0,15}", 1 << 53
HASH, TEXT = '"[0-9a-f]{64}"', r'"(?:[^"\\]|\\.)*"'
NOTE = "((.+)\n(.+)\n(.+)\n)\n((?:— [^ \n]+ [^ \n]+\n)+)"
STEP = f'"step":(?:0|[1-9][0-9]*,"prev":{HASH})'
ENTRY = f'{{"v":1,"type":{TEXT},"trace":{HASH},{STEP},"at":(?:{NUMBER}),"src":{TEXT},"seq":(?:{NUMBER}),"body":{{.*}}}}'
RECEIPT = "c2sp[.]org/tlog-proof@v1\nextra (.+)\nindex (.+)\n((?:.+\n)*)\n((?s:.+))"
EXTRA = b"(.+)\n(?:salt [0-9a-f]{64}\n)?(?:masked (.+)\n)?"
LEAF = f'{{"request":({HASH}),"attempt":({NUMBER}),"index":({NUMBER}),"count":({NUMBER}),"salt":{HASH},"row":({{.*}})}}'
ROW = f'{{"leaf":({LEAF}),"path":(\\[.*\\])}}\n?'

@contextlib.contextmanager
def about(what):
    """Whatever does not hold in here, or cannot be read, is told and ends everything: it is not what was signed."""
    try:
        yield
    except Exception as error:
        sys.exit(f"BROKEN: {what}: {error if isinstance(error, (OSError, ValueError)) else repr(error)}")

def check(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)
    return holds

def number(text):
    check(re.fullmatch(NUMBER, text) and int(text) < LIMIT, f"not an integer from 0 to 2^53-1: {text[:40]}")
    return int(text)

def unbase64(text, length=None):
    """Bytes, from the one spelling that they have."""
    data = base64.b64decode(text, validate=True)
    check(base64.b64encode(data).decode() == text and length in (None, len(data)), "not the base64 of as many bytes")
    return data

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def open_key(vkey):
    """Section 2: the name of a key, its id, and the key itself."""
    name, key_id, key = vkey.split("+", 2)
    key = unbase64(key, 33)
    check(key[:1] == b"\x01" and sha(name.encode(), b"\n", key)[:4].hex() == key_id, f"not an Ed25519 key with this id: {vkey}")
    return name, key_id, Ed25519PublicKey.from_public_bytes(key[1:])

def open_note(note, epochs):
    """Section 2: size and root of a checkpoint that a key has signed which signs this size, and no key of the log badly."""
    text, origin, size, root, signatures = check(re.fullmatch(NOTE, note), "not a checkpoint of a ledger").groups()
    size, good = number(size), False
    for by, blob in re.findall("— (.+) (.+)\n", signatures):
        blob = unbase64(blob)
        for vkey, first, last in epochs:
            name, key_id, key = open_key(vkey)
            if (by, blob[:4].hex()) == (name, key_id):
                key.verify(blob[4:], text.encode())
                good |= origin == name and first <= size <= last
    check(good, "not signed by a key of this log that signs this size")
    return size, unbase64(root, 32)

def fold(hashes):
    """Section 1: the root over these hashes, whatever level they stand on."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha(b"\x01", fold(hashes[:half]), fold(hashes[half:]))

def included(index, size, leaf, proof):
    """Section 1: the root that a leaf's hash and those beside its way up lead to."""
    check(index < size and (size == 1) == (not proof), "the proof has too many hashes, or too few")
    if size == 1:
        return leaf
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return sha(b"\x01", included(index, half, leaf, proof[:-1]), proof[-1])
    return sha(b"\x01", proof[-1], included(index - half, size - half, leaf, proof[:-1]))

def tiles(folder, level, count):
    """Section 1: the files that hold `count` things on a level: their paths, how many each holds, and their bytes."""
    for index in range(-(-count // 256)):
        width = min(256, count - 256 * index)
        *groups, last = [group.zfill(3) for group in f"{index:,}".split(",")]
        path = "/".join(["tile", level, *("x" + group for group in groups), last]) + (f".p/{width}" if width < 256 else "")
        yield path, width, (folder / path).read_bytes()

def entries(folder, size):
    for path, width, data in tiles(folder, "entries", size):
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            entry, data = data[2 : 2 + length], data[2 + length :]
            check(len(entry) == length, f"{path} is cut off")
            yield entry
        check(not data, f"{path} is too long")

def read(entry):
    """Section 4: an entry, whose bytes must be the only spelling of what they say. What has a member twice has none."""
    found = json.loads(entry, parse_int=number, parse_float=number, parse_constant=number)
    spelled = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    check(spelled.encode() == entry and len(entry) <= 60_000, "not in canonical form")
    check(re.fullmatch(ENTRY, spelled) and [*found][-1] == "body", "not an entry of version 1: another member, order or type")
    return found

def rotate(epochs, index, body):
    """Section 5, and *Keys of the log* in section 9: ends the last key and begins another one, if both have signed that."""
    (old, first, _), new, size = epochs[-1], body["key"], body["size"]
    check(size == index + 1 and new not in [vkey for vkey, _, _ in epochs], "another size than it completes, or a key again")
    check(open_key(new)[0] == open_key(old)[0], "a key of another log")
    statement = f"countersign/log.key_rotated/v1\n{old}\n{new}\n{size}\n".encode()
    open_key(old)[2].verify(unbase64(body["old_signature"]), statement)
    open_key(new)[2].verify(unbase64(body["new_signature"]), statement)
    return epochs[:-1] + [(old, first, size), (new, size, LIMIT)]

def check_log(folder, vkey):
    traces, sources, now, hashes, epochs = {}, {}, 0, [], [(vkey, 0, LIMIT)]
    for index, entry in enumerate(entries(folder, number((folder / "checkpoint").read_bytes().decode().split("\n")[1]))):
        with about(f"entry {index}"):
            found = read(entry)
            trace, source, body = found["trace"], found["src"], found["body"]
            check((found["step"], found.get("prev")) == traces.get(trace, (0, None)), "not what comes next in its trace")
            check(found["seq"] == sources.get(source, 0) and found["at"] >= now, "not the next of its source, or too old")
            check((index == 0) == (found["type"] == "log.created"), "a ledger begins with log.created, and has no other")
            if index == 0:
                epochs = [(body["key"], 0, LIMIT)]
                check(body["origin"] == open_key(body["key"])[0], "the key of another log")
            elif found["type"] == "log.key_rotated":
                epochs = rotate(epochs, index, body)
            hashes.append(sha(b"\x00", entry))
            traces[trace], sources[source], now = (found["step"] + 1, hashes[-1].hex()), found["seq"] + 1, found["at"]
    check(vkey in [known for known, _, _ in epochs], "the key was never this log's")
    for path in [folder / "checkpoint", *(folder / "checkpoints").iterdir()]:
        with about(path.relative_to(folder)):
            size, root = open_note(path.read_bytes().decode(), epochs)
            # The export's own is of the size that was just read.
            check(path.parent == folder or path.name == str(size), "it is of another size than its name says")
            check(size <= len(hashes) and fold(hashes[:size]) == root, "the entries do not lead to the signed root")
    # Each level of tiles holds the hashes of the complete subtrees of 256 times as many entries.
    level, row = 0, hashes
    while row:
        for index, (path, width, data) in enumerate(tiles(folder, str(level), len(row))):
            check(data == b"".join(row[256 * index :][:width]), f"{path} is not what the entries make of it")
        level, row = level + 1, [fold(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
    print(f"{len(hashes)} entries in {len(traces)} traces are those that were signed")

def check_receipt(path, vkey):
    """Section 12. Gives the mask account that may come along, for which the entry alone vouches, or else the entry."""
    extra, index, proof, note = check(re.fullmatch(RECEIPT, path.read_bytes().decode()), "not a receipt").groups()
    entry, masked = check(re.fullmatch(EXTRA, unbase64(extra)), "no entry in the receipt").groups()
    size, root = open_note(note, [(vkey, 0, LIMIT)])
    proof = [unbase64(line, 32) for line in proof.split("\n")[:-1]]
    check(included(number(index), size, sha(b"\x00", entry), proof) == root, "the receipt does not prove its entry")
    found = read(entry)
    check(masked is None or sha(b"\x00", masked).hex() == found.get("prev"), "not the mask account that the entry follows")
    print(f"entry {index} is in the ledger: {json.dumps(found, ensure_ascii=False)}")
    return read(masked or entry)

def check_row(path, receipt_path, vkey):
    account = check_receipt(receipt_path, vkey)
    check(account["type"] == "chunk.masked" and "rows_root" in account["body"], "the receipt says nothing of single rows")
    found = check(re.fullmatch(ROW, path.read_bytes().decode()), "not a row with its proof")
    leaf, *chunk, index, count, row, proof = found.groups()
    said = [account["trace"], account["body"]["attempt"], account["body"]["rows"]]
    check([*chunk, count] == [json.dumps(value) for value in said], "the row is of another chunk")
    proof = [unbase64(hashed, 32) for hashed in json.loads(proof)]
    root = included(number(index), number(count), sha(b"\x00", leaf.encode()), proof)
    check(root.hex() == account["body"]["rows_root"], "the row is not one of this chunk")
    check(isinstance(json.loads(row, parse_constant=number), dict), "the row is not an object")
    print(f"row {index} of {count}: {row}")

if __name__ == "__main__":
    checks = {"log": (check_log, 2), "receipt": (check_receipt, 2), "row": (check_row, 3)}
    command, *paths = sys.argv[1:] or [""]
    if command not in checks or len(paths) != checks[command][1]:
        sys.exit(__doc__)
    sys.stdout.reconfigure(errors="backslashreplace")
    with about(command):
        vkey = Path(paths.pop()).read_bytes().decode().strip()
        check("\n" not in vkey, "one key is wanted: countersign-verify --epochs takes several, with their sizes")
        checks[command][0](*map(Path, paths), vkey)
