#!/usr/bin/env python3
"""Asks Countersign for a chunk, with an ordinary JWT library and an ordinary Kafka client.

    pip install 'pyjwt[crypto]' confluent-kafka          # Python 3.11 or newer
    python request.py client.toml shop.customers --columns id,country,email --purpose reporting --out chunks

Reads the same `client.toml` and key file as `countersign request`. Writes the parts and the receipt, which
`countersign-verify chunk` then holds against the ledger's public key. What is published and what comes back is described in
docs/formats.md, sections 10, 12 and 13.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import secrets
import sys
import time
import tomllib

import jwt
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

ENDINGS = {"jsonl": "jsonl", "arrow": "arrows"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("client", type=pathlib.Path, help="client.toml: identity, key, Kafka")
    parser.add_argument("dataset", help="connection.table")
    parser.add_argument("--columns", required=True, type=lambda text: text.split(","))
    parser.add_argument("--purpose", required=True)
    parser.add_argument("--filter")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--format", choices=ENDINGS, default="jsonl")
    parser.add_argument("--wait", type=float, default=60, help="seconds")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    client = tomllib.loads(args.client.read_text())
    name = client["identity"]

    # Sign: the claims are the request, and the header has these three members and no other.
    jwk = json.loads((args.client.parent / client["key"]).read_text())
    now = int(time.time())
    claims = {
        "iss": name,
        "sub": name,
        "aud": client["origin"] + "/kafka",
        "iat": now,
        "exp": now + 600,
        "jti": secrets.token_urlsafe(24),
        "dataset": args.dataset,
        "columns": args.columns,
        "format": args.format,
        "purpose": args.purpose,
    }
    claims |= {k: v for k, v in (("filter", args.filter), ("limit", args.limit)) if v is not None}
    headers = {"typ": "countersign-request+jwt", "kid": jwk["kid"]}
    key = jwt.algorithms.OKPAlgorithm.from_jwk(jwk)
    token = jwt.encode(claims, key, algorithm="EdDSA", headers=headers)
    trace = tagged("trace/request", name.encode(), claims["jti"].encode())
    print(f"request {trace}", file=sys.stderr)

    # Listen from here on, then publish: nothing that answers this request can stand before.
    kafka = connection(client["kafka"], args.client.parent)
    topics = [client.get("chunk_topic", f"chunk.masked.{name}"), f"chunk.status.{name}"]
    consumer = listen(kafka, topics)
    publish(kafka, "chunk.requests", token)

    parts, status, deadline = {}, {}, time.monotonic() + args.wait
    while not finished(status, parts):
        if time.monotonic() > deadline:
            sys.exit(f"no answer within {args.wait:.0f} s; the request stands {status.get('status', 'nowhere yet')}")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        if message.topic() == topics[1]:
            found = json.loads(message.value())
            if found.get("request") == trace:
                status = found
                print(f"status  {json.dumps(status)}", file=sys.stderr)
            elif found["status"] == "rejected":
                # A rejected record never became a request, so this cannot say which one it was.
                print(f"a record of {name} was rejected: {found['reason']}", file=sys.stderr)
        else:
            head = {k: v.decode() for k, v in message.headers() or ()}
            if head.get("cs-request") == trace:
                part = int(head["cs-part"].split("/")[0])
                parts[int(head["cs-attempt"]), part] = head, message.value()
    consumer.close()
    if status["status"] != "delivered":
        sys.exit(f"{status['status']}: {status['reason']}")

    # Check: each part is what its digest says, and the receipt is for this request and this attempt.
    numbers = range(1, status["parts"] + 1)
    chunk = [parts[status["attempt"], n] for n in numbers]
    for n, (head, value) in zip(numbers, chunk):
        if hashlib.sha256(value).hexdigest() != head["cs-digest"]:
            sys.exit(f"part {n} is not what its digest says")
    receipt = chunk[-1][0]["cs-receipt"]
    extra = next(line for line in receipt.splitlines() if line.startswith("extra "))
    entry = json.loads(base64.b64decode(extra.removeprefix("extra ")).split(b"\n")[0])
    recorded = entry["type"], entry["trace"], entry["body"]["attempt"]
    if recorded != ("delivery.intended", trace, status["attempt"]):
        sys.exit(f"the receipt is for something else: {recorded}")

    args.out.mkdir(parents=True, exist_ok=True)
    for n, (_, value) in zip(numbers, chunk):
        write(args.out / f"{trace[:16]}.part-{n:04}.{ENDINGS[args.format]}", value)
    write(args.out / f"{trace[:16]}.receipt", receipt.encode())


def finished(status, parts):
    """Whether the request has ended and all that was delivered is here."""
    if status.get("status") != "delivered":
        return status.get("status") in ("denied", "failed", "repeated")
    return all((status["attempt"], n) in parts for n in range(1, status["parts"] + 1))


def tagged(tag, *fields):
    """docs/formats.md, section 6: SHA-256 over a tag and the fields, each after its length."""
    text = b"countersign/" + tag.encode() + b"/v1\0"
    return hashlib.sha256(text + b"".join(len(f).to_bytes(8, "big") + f for f in fields)).hexdigest()


def connection(kafka, folder):
    """Kafka's settings; those that are secret stand in a file of `name=value` lines."""
    settings = {"bootstrap.servers": kafka["bootstrap"]} | kafka.get("properties", {})
    if "secrets" in kafka:
        lines = (folder / kafka["secrets"]).read_text().splitlines()
        settings |= dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return settings


def listen(kafka, topics):
    """A consumer at the end of every partition of these topics. `read_committed` shows delivered chunks only."""
    settings = {"group.id": "countersign-client", "enable.auto.commit": False, "isolation.level": "read_committed"}
    consumer = Consumer(kafka | settings)
    places = []
    for topic in topics:
        found = consumer.list_topics(topic, timeout=30).topics[topic]
        if found.error or not found.partitions:
            sys.exit(f"there is no topic `{topic}`, or it is not for you")
        for partition in found.partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            places.append(TopicPartition(topic, partition, end))
    consumer.assign(places)
    return consumer


def publish(kafka, topic, text):
    refused = []
    producer = Producer(kafka)
    producer.produce(topic, text.encode(), on_delivery=lambda error, _: refused.append(error) if error else None)
    if producer.flush(30) or refused:
        sys.exit(f"cannot publish on `{topic}`: {refused[0] if refused else 'no acknowledgement'}")


def write(path, content):
    path.write_bytes(content)
    print(path)


if __name__ == "__main__":
    main()
