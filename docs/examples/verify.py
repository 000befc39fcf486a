#!/usr/bin/env python3
"""Checks a Countersign ledger, written from docs/formats.md alone: a second opinion on what countersign-verify says.

    pip install cryptography                                     # Python 3.9 or newer
    python verify.py log EVIDENCE LEDGER.VKEY                    # an export: checkpoint, tiles, tree, entries, traces
    python verify.py receipt FILE LEDGER.VKEY                    # a receipt: its entry stands in the ledger
    python verify.py row ROW RECEIPT LEDGER.VKEY                 # a line of `countersign rows`: this row was delivered

LEDGER.VKEY holds one key of the log, or all of them with the sizes that each signs, as a file of `--epochs` does. Where it is one
key, an export's own rotations are followed from it; a receipt of a log whose key was replaced needs all.

Prints what is wrong and ends with 1, or says what holds and ends with 0. What traces owe each other (section 9) is left to
countersign-verify; everything else of sections 1 to 8 and 12 that needs no rule of a single entry type is here.
"""

import base64, hashlib, json, pathlib, re, sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOP = ["v", "type", "trace", "step", "prev", "at", "src", "seq", "body"]


def fail(what):
    sys.exit(f"BROKEN: {what}")


def sha(data):
    return hashlib.sha256(data).digest()


def node(left, right):
    return sha(b"\x01" + left + right)


def leaf(entry):
    return sha(b"\x00" + entry)


# --- Checkpoints: section 2 ---


def open_key(vkey):
    """Name, id and the key itself."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    if key[:1] != b"\x01" or sha(name.encode() + b"\n" + key)[:4].hex() != key_id:
        fail(f"{vkey} is not an Ed25519 key with this id")
    return name, key_id, Ed25519PublicKey.from_public_bytes(key[1:])


def signed(key, signature, text, what):
    try:
        key.verify(signature, text.encode())
    except InvalidSignature:
        fail(f"{what}: the signature does not verify")


def epochs(text):
    """The keys of a log, each with the sizes that it signs: from the first, up to and with the last."""
    keys, first = [], 0
    for line in text.splitlines():
        if line and not line.startswith("#"):
            vkey, _, last = line.partition(" ")
            if first is None or any(vkey == before for before, _, _ in keys):
                fail("a key without a last size, or one that stands twice")
            if last and (not re.fullmatch("0|[1-9][0-9]*", last) or int(last) < first):
                fail(f"a key's last size is not one that follows {first}: {last}")
            if keys and open_key(vkey)[0] != open_key(keys[0][0])[0]:
                fail("keys of two logs")
            keys.append((vkey, first, int(last) if last else None))
            first = keys[-1][2]
    return keys


def stated(note):
    """The text that is signed, and the size that it states."""
    text, _, signatures = note.rpartition("\n\n")
    lines = (text + "\n").split("\n")
    if not note.endswith("\n") or len(lines) != 4 or not re.fullmatch("0|[1-9][0-9]*", lines[1]):
        fail("this is not a checkpoint of a ledger")
    return text + "\n", signatures, lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)


def open_note(note, keys):
    """Size and root of a checkpoint that carries a good signature by a key that signs this size."""
    text, signatures, origin, size, root = stated(note)
    good = False
    for vkey, first, last in keys:
        name, key_id, key = open_key(vkey)
        for line in signatures.splitlines():
            dash, by, blob = line.split(" ")
            blob = base64.b64decode(blob, validate=True)
            if (dash, by, blob[:4].hex()) == ("—", name, key_id):
                signed(key, blob[4:], text, f"the checkpoint of size {size}")
                good |= origin == name and first <= size and (last is None or size <= last)
    return (size, root) if good else fail(f"the checkpoint of size {size} is not signed by a key that signs this size")


# --- The tree: section 1 ---


def fold(hashes):
    """RFC 6962: the root over these hashes, whatever level they stand on."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return node(fold(hashes[:half]), fold(hashes[half:]))


def included(index, size, hash, path):
    """RFC 9162, section 2.1.3.2: the root that a leaf and the hashes beside its way up lead to."""
    last = size - 1
    for sibling in path:
        if last == 0:
            fail("the proof has too many hashes")
        if index % 2 or index == last:
            hash = node(sibling, hash)
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            hash = node(hash, sibling)
        index, last = index // 2, last // 2
    return hash if last == 0 else fail("the proof has too few hashes")


def tile_path(level, index, width):
    groups = f"{index:0{-(-len(str(index)) // 3) * 3}}"
    groups = [groups[at : at + 3] for at in range(0, len(groups), 3)]
    partial = f".p/{width}" if width < 256 else ""
    return f"tile/{level}/" + "/".join(["x" + group for group in groups[:-1]] + groups[-1:]) + partial


def tiles(folder, level, count):
    """The files that hold `count` things on a level, with how many each holds."""
    for index in range(-(-count // 256)):
        width = min(256, count - 256 * index)
        path = tile_path(level, index, width)
        try:
            yield path, width, (folder / path).read_bytes()
        except OSError as error:
            fail(f"{path}: {error.strerror}")


def entries(folder, size):
    for path, width, data in tiles(folder, "entries", size):
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            entry, data = data[2 : 2 + length], data[2 + length :]
            if len(entry) != length:
                fail(f"{path} is cut off")
            yield entry
        if data:
            fail(f"{path} is too long")


# --- Entries: section 4 ---


def members(pairs):
    if len(dict(pairs)) != len(pairs):
        fail("a member that stands twice")
    return dict(pairs)


def is_hash(value):
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)


def read(index, entry):
    """An entry, whose bytes must be the only spelling of what they say."""
    refuse = lambda what: fail(f"entry {index}: a number that is no integer from 0 to 2^53-1: {what}")
    integer = lambda text: int(text) if 0 <= int(text) < 1 << 53 and text != "-0" else refuse(text)
    try:
        found = json.loads(entry, object_pairs_hook=members, parse_float=refuse, parse_constant=refuse, parse_int=integer)
    except ValueError as error:
        fail(f"entry {index}: {error}")
    if len(entry) > 60_000 or json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() != entry:
        fail(f"entry {index} is not in canonical form")
    if list(found) != [name for name in TOP if name != "prev" or found.get("step")] or found["v"] != 1:
        fail(f"entry {index} has other members than an entry of version 1")
    # In Python, True is 1.
    hashes = [found[name] for name in ("trace", "prev") if name in found]
    if any(type(found[name]) is not int for name in ("v", "step", "at", "seq")) or not all(map(is_hash, hashes)):
        fail(f"entry {index} has a member of another type")
    return found


def rotate(keys, index, body):
    """Ends the last key and begins another one, if both have signed that: section 5, and in section 9 *Keys of the log*."""
    (old, first, _), new, size = keys[-1], body["key"], body["size"]
    if size != index + 1 or any(new == key for key, _, _ in keys) or open_key(new)[0] != open_key(old)[0]:
        fail(f"entry {index}: not a rotation to another key of this log, from the size that it completes")
    for key, signature in (old, body["old_signature"]), (new, body["new_signature"]):
        statement = f"countersign/log.key_rotated/v1\n{old}\n{new}\n{size}\n"
        signed(open_key(key)[2], base64.b64decode(signature, validate=True), statement, f"entry {index}")
    return keys[:-1] + [(old, first, size), (new, size, None)]


def log(folder, given):
    folder = pathlib.Path(folder)
    note = (folder / "checkpoint").read_text()
    traces, sources, at, hashes, keys = {}, {}, 0, [], []
    size = stated(note)[3]
    for index, entry in enumerate(entries(folder, size)):
        found, hash = read(index, entry), leaf(entry)
        if (found["step"], found.get("prev")) != traces.get(found["trace"], (0, None)):
            fail(f"entry {index} does not follow what stands before it in its trace")
        if found["seq"] != sources.get(found["src"], 0) or found["at"] < at:
            fail(f"entry {index} is out of order: seq {found['seq']} of {found['src']} at {found['at']}")
        if (index == 0) != (found["type"] == "log.created"):
            fail(f"entry {index} is {found['type']}: a ledger begins with log.created, once")
        if index == 0:
            keys = [(found["body"]["key"], 0, None)]
        elif found["type"] == "log.key_rotated":
            keys = rotate(keys, index, found["body"])
        traces[found["trace"]] = (found["step"] + 1, hash.hex())
        sources[found["src"]], at = found["seq"] + 1, found["at"]
        hashes.append(hash)
    if len(given) > 1 or given[0][2] is not None:
        # Whoever states the sizes knows better than the ledger.
        if [key[:2] for key in keys if key[:2] not in [known[:2] for known in given]]:
            fail("the ledger tells of a key, or of its first size, that is not among those given")
        keys = given
    elif keys and given[0][0] not in [key for key, _, _ in keys]:
        fail("the key was never this log's")
    size, root = open_note(note, keys or given)
    # Each level of tiles holds the hashes of the complete subtrees of 256 times as many entries.
    level, row = 0, hashes
    while row:
        for at, (path, width, data) in enumerate(tiles(folder, level, len(row))):
            if data != b"".join(row[256 * at :][:width]):
                fail(f"{path} is not what the entries make of it")
        level, row = level + 1, [fold(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
    if (fold(hashes) if hashes else sha(b"")) != root:
        fail("the entries do not lead to the signed root")
    for path in (folder / "checkpoints").iterdir():
        older, older_root = open_note(path.read_text(), keys or given)
        if str(older) != path.name or older > size or (fold(hashes[:older]) if older else sha(b"")) != older_root:
            fail(f"checkpoints/{path.name} says something else: history was rewritten")
    print(f"{size} entries in {len(traces)} traces are those that were signed")


# --- Receipts and rows: section 12 ---


def receipt(path, keys):
    """The entry of a receipt, and the bytes of the mask account that it may carry."""
    head, _, note = pathlib.Path(path).read_text().partition("\n\n")
    first, extra, index, *proof = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not extra.startswith("extra ") or not index.startswith("index "):
        fail("this is not a receipt")
    entry, *more = base64.b64decode(extra[6:], validate=True).split(b"\n")
    size, root = open_note(note, keys)
    index, proof = int(index[6:]), [base64.b64decode(hash, validate=True) for hash in proof]
    if index >= size or included(index, size, leaf(entry), proof) != root:
        fail("the receipt does not prove its entry")
    return index, read(index, entry), next((line[7:] for line in more if line.startswith(b"masked ")), entry)


def row(path, receipt_path, keys):
    index, entry, account = receipt(receipt_path, keys)
    if account and entry["type"] == "delivery.intended" and leaf(account).hex() != entry["prev"]:
        fail("the receipt's mask account is not the one that the delivery follows")
    masked = read(index, account)
    line = pathlib.Path(path).read_text().rstrip("\n")
    found = re.fullmatch(r'\{"leaf":(.*),"path":\[([^\]]*)\]\}', line)
    said = json.loads(found[1]) if found else fail("this is not a row with its proof")
    proof = [base64.b64decode(hash, validate=True) for hash in json.loads(f"[{found[2]}]")]
    chunk = [said["request"], said["attempt"], said["count"]]
    if chunk != [masked["trace"], masked["body"]["attempt"], masked["body"]["rows"]]:
        fail("the row is of another chunk")
    if said["index"] >= said["count"] or masked["body"]["rows_root"] != included(
        said["index"], said["count"], leaf(found[1].encode()), proof
    ).hex():
        fail("the row is not one of this chunk")
    print(f"row {said['index']} of {said['count']}: {json.dumps(said['row'], ensure_ascii=False)}")


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("log", "receipt", "row"):
        sys.exit(__doc__)
    *args, keys = sys.argv[2:]
    keys = epochs(pathlib.Path(keys).read_text()) or fail("no key")
    if sys.argv[1] == "receipt":
        index, entry, _ = receipt(*args, keys)
        print(f"entry {index} is in the ledger: {json.dumps(entry, ensure_ascii=False)}")
    else:
        {"log": log, "row": row}[sys.argv[1]](*args, keys)


if __name__ == "__main__":
    main()
