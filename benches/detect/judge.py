"""Precision and recall of the detectors, and of Presidio beside them, on texts with known truth.

    cargo build --release --manifest-path benches/detect/Cargo.toml
    python3 benches/detect/judge.py BINARY corpus.jsonl [--presidio] [--show N]

Lines are those of corpus.py, or a JSON array as presidio-research publishes it (`full_text`, `spans` with `entity_type`). A span counts as
found if a hit of its class overlaps it, and as exact if the hit is the span; a hit that overlaps no span of its class is a false one. Where
a corpus says less than this asks: a class that it marks nowhere is not judged, nor is a span without a character, and a hit that has the
very text of a span of its class elsewhere in the line is neither found nor false, since some mark a value once however often it is there.
With `--presidio`, PyPI's presidio-analyzer reads the same texts with all its pattern recognizers and a blank language model (its names and
places need a model that has to be downloaded, and are not compared here).
"""

import argparse
import json
import subprocess
import time
from collections import defaultdict

CLASSES = {
    "CREDIT_CARD": "fin.card", "PHONE_NUMBER": "pii.phone", "US_SSN": "id.us.ssn", "IBAN_CODE": "fin.iban", "IP_ADDRESS": "net.ip",
    "EMAIL_ADDRESS": "pii.email",
}
# What older files of presidio-research call some.
OLDER = {"IBAN": "fin.iban", "EMAIL": "pii.email"}


def read(path):
    with open(path, encoding="utf-8") as file:
        if path.endswith(".json"):
            for line in json.load(file):
                named = [({**CLASSES, **OLDER}.get(s["entity_type"]), s["start_position"], s["end_position"]) for s in line["spans"]]
                yield line["full_text"], [span for span in named if span[0] and span[1] < span[2]], "public"
        else:
            for line in map(json.loads, file):
                yield line["text"], [(s["class"], s["start"], s["end"]) for s in line["truth"]], line["kind"]


def ours(binary, texts):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    command = [binary, "spans"] if not binary.endswith("countersign") else [binary, "detect", "-"]
    output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    return [[(s["class"], s["start"], s["end"]) for s in json.loads(line)["spans"]] for line in output.splitlines()]


def presidio(texts):
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self):
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

        def load(self):
            pass

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
    start = time.process_time()
    found = [analyzer.analyze(text, language="en", entities=list(CLASSES)) for text in texts]
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in texts)
    print(f"presidio: {size / seconds / 1000:.0f} KB/s of one core\n")
    return [[(CLASSES[hit.entity_type], hit.start, hit.end) for hit in hits] for hits in found]


def overlaps(a, b):
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def judge(name, samples, found, show):
    marked = {span[0] for _, truth, _ in samples for span in truth}
    counts = defaultdict(lambda: [0, 0, 0, 0])
    examples = []
    for (text, truth, kind), hits in zip(samples, found, strict=True):
        hits = [hit for hit in hits if hit[0] in marked]
        values = {(span[0], text[span[1]:span[2]]) for span in truth}
        for span in truth:
            count = counts[kind, span[0]]
            count[0] += 1
            count[1] += any(overlaps(span, hit) for hit in hits)
            count[2] += span in hits
            if not any(overlaps(span, hit) for hit in hits):
                examples.append(("missed", span[0], text[span[1]:span[2]], text))
        for hit in hits:
            if not any(overlaps(hit, span) for span in truth) and (hit[0], text[hit[1]:hit[2]]) not in values:
                counts[kind, hit[0]][3] += 1
                examples.append(("false", hit[0], text[hit[1]:hit[2]], text))
    print(f"{name:<10} {'class':<10} {'spans':>6} {'recall':>7} {'exact':>7} {'false':>6} {'precision':>9}")
    kinds = sorted({kind for kind, _ in counts})
    for kind in ["all", *kinds] if len(kinds) > 1 else kinds:
        for label in CLASSES.values():
            total = [sum(values) for values in zip(*[counts[key] for key in counts if key[1] == label and kind in ("all", key[0])] or [[0] * 4])]
            spans, hit, exact, false = total
            if spans or false:
                rate = lambda part, whole: f"{part / whole:.4f}" if whole else "-"
                print(f"{kind:<10} {label:<10} {spans:>6} {rate(hit, spans):>7} {rate(exact, spans):>7} {false:>6} {rate(hit, hit + false):>9}")
    for example in examples[:show]:
        print("   ", *map(repr, example))
    print()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("corpus")
    parser.add_argument("--presidio", action="store_true")
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()
    samples = list(read(arguments.corpus))
    texts = [text for text, _, _ in samples]
    judge("ours", samples, ours(arguments.binary, texts), arguments.show)
    if arguments.presidio:
        judge("presidio", samples, presidio(texts), 0)


main()
