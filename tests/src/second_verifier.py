#!/usr/bin/env python3
"""Checks a database file of nonnet, or a proof, with nothing of nonnet: written from the documented formats alone.

    second_verifier.py DATABASE     every record, the tree, every checkpoint
    second_verifier.py PROOF.json   a proof of `nonnet prove`

Exit status: 0 sound, 1 not; the first fault is printed.
"""

import base64
import hashlib
import json
import sqlite3
import struct
import sys

# --- BLAKE3 (the specification, section 2): keyed hashes and derived keys of 32 bytes ---

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
MASK = 0xFFFFFFFF


def g(v, a, b, c, d, x, y):
    v[a] = (v[a] + v[b] + x) & MASK
    v[d] ^= v[a]
    v[d] = (v[d] >> 16 | v[d] << 16) & MASK
    v[c] = (v[c] + v[d]) & MASK
    v[b] ^= v[c]
    v[b] = (v[b] >> 12 | v[b] << 20) & MASK
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] ^= v[a]
    v[d] = (v[d] >> 8 | v[d] << 24) & MASK
    v[c] = (v[c] + v[d]) & MASK
    v[b] ^= v[c]
    v[b] = (v[b] >> 7 | v[b] << 25) & MASK


def compress(chaining, block, counter, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = chaining + IV[:4] + [counter & MASK, counter >> 32, length, flags]
    for turn in range(7):
        g(v, 0, 4, 8, 12, m[0], m[1])
        g(v, 1, 5, 9, 13, m[2], m[3])
        g(v, 2, 6, 10, 14, m[4], m[5])
        g(v, 3, 7, 11, 15, m[6], m[7])
        g(v, 0, 5, 10, 15, m[8], m[9])
        g(v, 1, 6, 11, 12, m[10], m[11])
        g(v, 2, 7, 8, 13, m[12], m[13])
        g(v, 3, 4, 9, 14, m[14], m[15])
        if turn < 6:
            m = [m[at] for at in PERMUTATION]
    return [v[at] ^ v[at + 8] for at in range(8)]


def chunk(data, key, counter, flags, root):
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    chaining = key
    for at, block in enumerate(blocks):
        last = at + 1 == len(blocks)
        marks = (CHUNK_START if at == 0 else 0) | ((CHUNK_END | (ROOT if root else 0)) if last else 0)
        chaining = compress(chaining, block, counter, len(block), flags | marks)
    return chaining


def subtree(data, key, counter, flags, root):
    if len(data) <= 1024:
        return chunk(data, key, counter, flags, root)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    a = subtree(data[:left], key, counter, flags, False)
    b = subtree(data[left:], key, counter + left // 1024, flags, False)
    return compress(key, struct.pack("<16I", *a, *b), 0, 64, flags | PARENT | (ROOT if root else 0))


def blake3(data, key, flags):
    return struct.pack("<8I", *subtree(data, key, 0, flags, True))


def derived_key(context):
    key = struct.unpack("<8I", blake3(context.encode(), IV, CONTEXT))
    return list(struct.unpack("<8I", blake3(b"", list(key), MATERIAL)))


HEADER_KEY = derived_key("nonnet 2026-01 commit header v1")
LEAF_KEY = derived_key("nonnet 2026-01 commit leaf v1")
BODY_KEY = derived_key("nonnet 2026-01 commit body v1")

# --- Ed25519 (RFC 8032, 5.1.7) ---

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def recovered(data):
    y = int.from_bytes(data, "little") & (2**255 - 1)
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - xx) % P or y >= P:
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != data[31] >> 7 else x
    return (x, y, 1, x * y % P)


def plus(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, k, h = b - a, d - c, d + c, b + a
    return (e * f % P, k * h % P, f * k % P, e * h % P)


def times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        result = plus(result, point) if scalar & 1 else result
        point, scalar = plus(point, point), scalar >> 1
    return result


BASE = recovered((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(public, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % L
    a, b = times(s, BASE), plus(recovered(r), times(k, recovered(public)))
    return s < L and (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


# --- records ---


def check(condition, fault):
    if not condition:
        raise SystemExit(f"FAULT: {fault}")


def varint(data, at):
    number, shift = 0, 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def leaves_of(body):
    at, leaves = 0, []
    while at < len(body):
        length, at = varint(body, at)
        check(at + length <= len(body), "a leaf is longer than its body")
        leaves.append(body[at : at + length])
        at += length
    return leaves


def hash_of(header):
    return blake3(header, HEADER_KEY, KEYED)


def body_root(hashes):
    return blake3(b"".join(hashes), BODY_KEY, KEYED)


def leaf_hash(leaf):
    return blake3(leaf, LEAF_KEY, KEYED)


def check_body(header, hashes, seq):
    check(body_root(hashes) == header[96:128], f"record {seq}: the body does not fit its header")
    check(len(hashes) == struct.unpack_from("<I", header, 200)[0], f"record {seq}: leaves are missing")


def new_key(header, leaves, key, seq):
    """The key after a record: leaf 3 of genesis or of a key-rotate record."""
    for leaf in leaves:
        if leaf[:1] == b"\3":
            check(header[4] in (4, 7), f"record {seq}: a key where none may be")
            new = leaf[1:33]
            if leaf[33]:
                old, signature = leaf[34:66], leaf[66:130]
                said = b"nonnet 2026-01 key rotation v1" + header[48:64] + header[8:16] + header[64:96] + new
                check(key in (None, old), f"record {seq}: the key in force did not sign the new one")
                check(is_signed(old, said, signature), f"record {seq}: the new key is not signed")
            elif key is not None:
                print(f"record {seq} brings a key that the one before did not sign")
            return new
    check(header[4] != 4, f"record {seq}: a new key is missing")
    return key


# --- tree and checkpoints (RFC 6962 2.1, C2SP signed-note and tlog-checkpoint) ---


def leaf_node(record):
    return hashlib.sha256(b"\0" + record).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(peaks):
    root = peaks[-1]
    for left in reversed(peaks[:-1]):
        root = node(left, root)
    return root


def read_note(note, key):
    """Origin, size and root of a checkpoint that the key has signed."""
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    origin, size, root = text.split("\n")[:3]
    for line in signatures.splitlines():
        dash, name, signature = line.split(" ")
        signature = base64.b64decode(signature)
        id_ = hashlib.sha256(name.encode() + b"\n\1" + key).digest()[:4]
        if dash == "—" and name == origin and signature[:4] == id_:
            check(is_signed(key, text.encode(), signature[4:]), f"the checkpoint of {size} records: wrong signature")
            return origin, int(size), base64.b64decode(root)
    raise SystemExit(f"FAULT: the checkpoint of {size} records is not signed by the key in force")


def database(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    notes = dict(connection.execute("SELECT size, note FROM checkpoint"))
    prev, key, peaks, count, signed = bytes(32), None, [], 0, 0
    for seq, stored, header, body in connection.execute("SELECT seq, hash, header, body FROM log ORDER BY seq"):
        check(seq == count, f"record {count} is missing")
        check(len(header) == 256 and header[:4] == b"NNC1", f"record {seq}: no header")
        check(hash_of(header) == stored, f"record {seq}: the header does not fit its hash")
        check(struct.unpack_from("<Q", header, 8)[0] == seq, f"record {seq}: it is another one")
        check(header[64:96] == prev, f"record {seq}: it does not link to the one before")
        leaves = leaves_of(body)
        check_body(header, [leaf_hash(leaf) for leaf in leaves], seq)
        key = new_key(header, leaves, key, seq)
        prev, top, size = stored, leaf_node(stored), count
        while size & 1:
            top, size = node(peaks.pop(), top), size >> 1
        peaks.append(top)
        count += 1
        if count in notes:
            origin, size, root = read_note(notes.pop(count), key)
            check((size, root) == (count, root_of(peaks)), f"the checkpoint of {count} records is of others")
            signed += 1
    check(not notes, f"a checkpoint is of more than the {count} records")
    print(f"sound: {count} records, {signed} checkpoints, root {root_of(peaks).hex()}")


def proof(path):
    proof = json.load(open(path))
    header, seq = bytes.fromhex(proof["header"]), struct.unpack_from("<Q", bytes.fromhex(proof["header"]), 8)[0]
    if "body" in proof:
        hashes = [leaf_hash(leaf) for leaf in leaves_of(bytes.fromhex(proof["body"]))]
    else:
        hashes = [bytes.fromhex(text) for text in proof["leaf_hashes"]]
        shown = leaf_hash(bytes.fromhex(proof["leaf"]))
        check(hashes[proof["leaf_index"]] == shown, "the leaf is not that of its hash")
    check_body(header, hashes, seq)
    key = base64.b64decode(proof["key"].split("+", 2)[2])[1:]
    _, size, root = read_note(proof["checkpoint"], key)
    check(seq < size, "the checkpoint is older than the record")
    # RFC 9162 2.1.3.2, the same tree as that of RFC 6962.
    at, last, top = seq, size - 1, leaf_node(hash_of(header))
    for text in proof["path"]:
        check(last > 0, "the path is too long")
        sibling = bytes.fromhex(text)
        if at & 1 or at == last:
            top = node(sibling, top)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            top = node(top, sibling)
        at, last = at >> 1, last >> 1
    check(last == 0 and top == root, "the record is not in the tree of the checkpoint")
    print(f"proven: record {seq} of {size}")


if __name__ == "__main__":
    proof(sys.argv[1]) if sys.argv[1].endswith(".json") else database(sys.argv[1])
