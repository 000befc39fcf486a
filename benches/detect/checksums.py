"""Our checksums beside those of another author: PyPI's python-stdnum.

    venv/bin/pip install python-stdnum
    venv/bin/python benches/detect/checksums.py BINARY [SEED]

For each identifier 3,000 random numbers of its form are read in a column of its name. Prints how many of those that stdnum calls valid we
find, and how many of the others we refuse. They may differ where the table says why.
"""

import importlib
import json
import random
import subprocess
import sys
from collections import Counter

DIGITS, LETTERS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# class, module of stdnum, form (9 digit, A letter, Y year, month, day; D day, month, year), what may differ
FORMS = [
    ("fin.card", "luhn", "4999999999999999", ""),
    ("fin.aba", "us.rtn", "999999999", "stdnum has no ranges"),
    ("id.imei", "imei", "359999999999999", ""),
    ("id.us.ssn", "us.ssn", "999999999", ""),
    ("id.us.ein", "us.ein", "999999999", ""),
    ("id.us.itin", "us.itin", "999999999", "groups 50 to 65 since 2013"),
    ("id.au.abn", "au.abn", "99999999999", ""),
    ("id.au.acn", "au.acn", "999999999", ""),
    ("id.au.tfn", "au.tfn", "999999999", ""),
    ("id.ca.sin", "ca.sin", "999999999", ""),
    ("id.fi.hetu", "fi.hetu", "D-999A", "numbers 000, 001, and 900 on, which are for tests"),
    ("id.de.tax_id", "de.idnr", "99999999999", "we don't demand that one digit is there twice"),
    ("id.de.vat", "de.vat", "DE999999999", ""),
    ("id.in.aadhaar", "in_.aadhaar", "999999999999", ""),
    ("id.it.vat", "it.iva", "99999999999", "stdnum has provinces"),
    ("id.pl.pesel", "pl.pesel", "Y99999", ""),
    ("id.se.organisation", "se.orgnr", "9999999999", "the third digit is at least 2"),
    ("id.se.personnummer", "se.personnummer", "Y-9999", ""),
    ("id.es.nif", "es.dni", "99999999A", ""),
    ("id.es.nie", "es.nie", "X9999999A", ""),
    ("id.th.id", "th.pin", "9999999999999", "we have provinces"),
    ("id.tr.id", "tr.tckimlik", "99999999999", ""),
    ("id.uk.nhs", "gb.nhs", "9999999999", ""),
    ("id.za.id", "za.idnr", "Y9999089", ""),
    ("id.kr.brn", "kr.brn", "9999999999", "stdnum checks no digit"),
    ("id.sg.uen", "sg.uen", "99999999A", ""),
    ("id.it.fiscal_code", "it.codicefiscale", "RSSMRA99A10H501A", "in its own column, a wrong check letter is masked as well"),
]


def draw(r, form):
    day = f"{r.randint(1, 28):02}", f"{r.randint(1, 12):02}", f"{r.randint(0, 99):02}"
    text = form.replace("Y", "".join(reversed(day)), 1) if "Y" in form else form.replace("D", "".join(day), 1) if form.startswith("D-") else form
    fixed = len(text) - len(form) + 1 if text != form else 0
    return text[:fixed] + "".join(r.choice(DIGITS) if c == "9" else r.choice(LETTERS) if c == "A" else c for c in text[fixed:])


def main():
    r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    samples = [(name, module, why, draw(r, form)) for name, module, form, why in FORMS for _ in range(3000)]
    lines = "".join(json.dumps({"text": text, "column": name}) + "\n" for name, _, _, text in samples)
    output = subprocess.run([sys.argv[1], "spans"], input=lines, capture_output=True, text=True, check=True).stdout
    counts = Counter()
    for (name, module, _, text), line in zip(samples, output.splitlines(), strict=True):
        valid = importlib.import_module("stdnum." + module).is_valid(text)
        counts[name, valid, any(span["class"] == name for span in json.loads(line)["spans"])] += 1
    print(f"{'class':<20} {'valid: found':>12} {'missed':>6} {'invalid: refused':>16} {'found':>6}")
    for name, _, _, why in FORMS:
        numbers = [counts[name, valid, found] for valid, found in ((True, True), (True, False), (False, False), (False, True))]
        print(f"{name:<20} {numbers[0]:>12} {numbers[1]:>6} {numbers[2]:>16} {numbers[3]:>6}  {why}")


main()
