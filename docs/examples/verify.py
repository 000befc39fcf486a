#!/usr/bin/env python3
"""Checks a Countersign ledger, written from docs/formats.md alone: a second opinion on what countersign-verify says.

    pip install cryptography                                     # Python 3.9 or newer
    python verify.py log EVIDENCE LEDGER.VKEY                    # an export: checkpoint, tiles, tree, entries, traces
    python verify.py receipt FILE LEDGER.VKEY                    # a receipt: its entry stands in the ledger
    python verify.py row ROW RECEIPT LEDGER.VKEY                 # a line of `countersign rows`: this row was delivered

Prints what is wrong and ends with 1, or says what holds and ends with 0. What traces owe each other (section 9) is left to
countersign-verify; everything else of sections 1 to 8 and 12 that needs no rule of a single entry type is here. One key: the rotations of a log whose key
was replaced are followed by countersign-verify.
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


def open_note(note, vkey):
    """Origin, size and root of a checkpoint that carries a good signature by this key."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    if key[:1] != b"\x01" or sha(name.encode() + b"\n" + key)[:4].hex() != key_id:
        fail("the key is not an Ed25519 key with this id")
    text, _, signatures = note.rpartition("\n\n")
    lines = (text + "\n").split("\n")
    if not note.endswith("\n") or len(lines) != 4 or lines[0] != name or not re.fullmatch("0|[1-9][0-9]*", lines[1]):
        fail("the checkpoint is not one of this log")
    for line in signatures.splitlines():
        dash, by, blob = line.split(" ")
        blob = base64.b64decode(blob, validate=True)
        if (dash, by, blob[:4].hex()) == ("—", name, key_id):
            try:
                Ed25519PublicKey.from_public_bytes(key[1:]).verify(blob[4:], (text + "\n").encode())
            except InvalidSignature:
                fail("the checkpoint's signature does not verify")
            return int(lines[1]), base64.b64decode(lines[2], validate=True)
    fail("the checkpoint is not signed by this key")


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
    return found


def log(folder, vkey):
    folder = pathlib.Path(folder)
    size, root = open_note((folder / "checkpoint").read_text(), vkey)
    traces, sources, at, hashes = {}, {}, 0, []
    for index, entry in enumerate(entries(folder, size)):
        found, hash = read(index, entry), leaf(entry)
        if (found["step"], found.get("prev")) != traces.get(found["trace"], (0, None)):
            fail(f"entry {index} does not follow what stands before it in its trace")
        if found["seq"] != sources.get(found["src"], 0) or found["at"] < at:
            fail(f"entry {index} is out of order: seq {found['seq']} of {found['src']} at {found['at']}")
        traces[found["trace"]] = (found["step"] + 1, hash.hex())
        sources[found["src"]], at = found["seq"] + 1, found["at"]
        hashes.append(hash)
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
        older, older_root = open_note(path.read_text(), vkey)
        if str(older) != path.name or older > size or (fold(hashes[:older]) if older else sha(b"")) != older_root:
            fail(f"checkpoints/{path.name} says something else: history was rewritten")
    print(f"{size} entries in {len(traces)} traces are those that were signed")


# --- Receipts and rows: section 12 ---


def receipt(path, vkey):
    """The entry of a receipt, and the bytes of the mask account that it may carry."""
    head, _, note = pathlib.Path(path).read_text().partition("\n\n")
    first, extra, index, *proof = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not extra.startswith("extra ") or not index.startswith("index "):
        fail("this is not a receipt")
    entry, *more = base64.b64decode(extra[6:], validate=True).split(b"\n")
    size, root = open_note(note, vkey)
    index, proof = int(index[6:]), [base64.b64decode(hash, validate=True) for hash in proof]
    if index >= size or included(index, size, leaf(entry), proof) != root:
        fail("the receipt does not prove its entry")
    return index, read(index, entry), next((line[7:] for line in more if line.startswith(b"masked ")), entry)


def row(path, receipt_path, vkey):
    index, entry, account = receipt(receipt_path, vkey)
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
    *args, key = sys.argv[2:]
    key = pathlib.Path(key).read_text().strip()
    if sys.argv[1] == "receipt":
        index, entry, _ = receipt(*args, key)
        print(f"entry {index} is in the ledger: {json.dumps(entry, ensure_ascii=False)}")
    else:
        {"log": log, "row": row}[sys.argv[1]](*args, key)


if __name__ == "__main__":
    main()
