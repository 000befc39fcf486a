"""Writes a corpus with known truth: JSON lines with `text` and `truth` [{class, start, end}], made with PyPI's faker.

    python3 -m venv venv && venv/bin/pip install faker
    venv/bin/python benches/detect/corpus.py SEED COUNT > corpus.jsonl

A third of the lines holds identifiers in sentences, a third the same kinds in mutated forms (other separators, no-break spaces, wide
digits, markup between groups, escaped line ends around), a third none at all but what looks like them: order numbers, timestamps, UUIDs,
versions, EANs, IMEIs, nine-digit ids, suites, coordinates, tax numbers, hashes, amounts, some beside the words of others. The values, names
and addresses are faker's; sentences and mutations are drawn with the seed.
"""

import json
import random
import sys

from faker import Faker

LOCALES = ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "sv_SE", "pl_PL", "pt_BR"]

SENTENCES = {
    "fin.card": ["Please charge my card {}.", "Paid with {} yesterday", "card number: {}, valid until 04/29", "{} was declined by the bank",
                 "cc {} cvv 123", '{{"card": "{}", "ok": true}}'],
    "fin.iban": ["Transfer it to {} please.", "IBAN {}", "my account is {}, thanks", "iban={};amount=12.50"],
    "id.us.ssn": ["My SSN is {}.", "social security number {}", "ssn: {}", "Her social security number was {} all along", "SSN={}"],
    "net.ip": ["Request from {} refused", "host {} is down", "ip={} status=200", "connect to {}, then retry", "[{}] login failed"],
    "pii.email": ["Write to {}.", "contact: {}", "<{}> wrote:", "mailto:{}", "Ask {} or call us"],
    "pii.phone": ["Call me at {}.", "phone: {}", "Tel. {}", "my mobile is {}, thanks", "You can reach me on my cell: {}"],
}


def luhn_valid(number):
    digits = [int(d) for d in number if d.isdigit()]
    total = sum(d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits)))
    return total % 10 == 0


def with_check_digit(digits):
    return next(digits + check for check in "0123456789" if luhn_valid(digits + check))


class Corpus:
    def __init__(self, seed):
        self.random = random.Random(seed)
        Faker.seed(seed)
        self.fakers = {locale: Faker(locale) for locale in LOCALES}
        self.english = self.fakers["en_US"]

    def faker(self):
        return self.fakers[self.random.choice(LOCALES)]

    def value(self, name):
        r = self.random
        if name == "fin.card":
            number = self.english.credit_card_number()
            return number
        if name == "fin.iban":
            return self.faker().iban()
        if name == "id.us.ssn":
            return self.english.ssn()
        if name == "net.ip":
            return self.english.ipv4() if r.random() < 0.7 else self.english.ipv6()
        if name == "pii.email":
            return self.faker().email()
        if name == "pii.phone":
            return self.faker().phone_number()
        raise ValueError(name)

    def grouped(self, text, sizes, separator):
        parts, place = [], 0
        for size in sizes:
            parts.append(text[place:place + size])
            place += size
        if place < len(text):
            parts.append(text[place:])
        return separator.join(part for part in parts if part)

    def mutated(self, name, value):
        r = self.random
        separator = r.choice([" ", "-", "\u00a0", "\u2009", "\u2011", "\u2013", "&nbsp;", "</b><b>", " <i>", "\u202f"])
        wide = str.maketrans("0123456789", "０１２３４５６７８９")
        if name == "fin.card":
            sizes = [4, 6, 5] if len(value) == 15 else [4, 4, 4, 4, 3]
            value = self.grouped(value, sizes, separator)
            return value.translate(wide) if r.random() < 0.2 and "&" not in value else value
        if name == "fin.iban":
            value = self.grouped(value, [4] * 9, separator)
            return value if r.random() < 0.9 else value.translate(wide) if "&" not in value else value
        if name == "id.us.ssn":
            value = value.replace("-", separator)
            return value.translate(wide) if r.random() < 0.2 and "&" not in value else value
        if name == "pii.phone":
            dash = r.choice(["\u2011", "\u2013", "\u2010"])
            value = value.replace("-", dash).replace(" ", r.choice(["\u00a0", " ", "\u202f"]))
            return value.translate(wide) if r.random() < 0.1 else value
        if name == "net.ip":
            return value.translate(wide) if r.random() < 0.3 else value.upper()
        if name == "pii.email":
            return r.choice([value.upper(), value.replace("@", "＠"), "<b>" + value + "</b>", value.title()])
        return value

    def negative(self):
        r, f = self.random, self.english
        nine = "".join(r.choice("0123456789") for _ in range(9))
        twelve = f.ean13()
        return r.choice([
            lambda: f"Order {r.randint(100, 999)}-{r.randint(10**6, 10**7 - 1)}-{r.randint(10**6, 10**7 - 1)} has shipped",
            lambda: f"order number {nine}{r.randint(10, 99)} from {f.date()}",
            lambda: f"{f.iso8601()} INFO job {r.randint(1, 99999)} took {r.randint(1, 9000)} ms",
            lambda: f"created_at={r.randint(1500000000, 1800000000)} updated_at={r.randint(1500000000000, 1800000000000)}",
            lambda: f"trace {f.uuid4()} span {f.uuid4()[:16].replace('-', '')}",
            lambda: f"upgraded to version {r.randint(1, 30)}.{r.randint(0, 99)}.{r.randint(0, 20)}.{r.randint(0, 9)}",
            lambda: f"v{r.randint(0, 9)}.{r.randint(0, 20)}.{r.randint(0, 30)} of {f.word()} released on {f.date()}",
            lambda: f"EAN {twelve}, {r.randint(1, 90)} pieces at {r.randint(1, 900)}.{r.randint(10, 99)} EUR",
            lambda: f"article {f.ean8()} in box {nine}",
            lambda: f"employee id {nine}, room {r.randint(1, 500)}",
            lambda: f"ticket #{nine} was closed after {r.randint(2, 90)} days",
            lambda: f"sha256 {f.sha256()} md5 {f.md5()}",
            lambda: f"total {r.randint(1, 999)},{r.randint(100, 999)},{r.randint(100, 999)}.{r.randint(10, 99)} USD for {f.word()}",
            lambda: f"{f.sentence()} {r.randint(1, 31)}.{r.randint(1, 12)}.{r.randint(1990, 2030)} {r.randint(10, 23)}:{r.randint(10, 59)}",
            lambda: f"GET /v1/items/{nine}?page={r.randint(1, 40)} HTTP/1.1 200 {r.randint(100, 99999)}",
            lambda: f"coordinates {f.latitude()}, {f.longitude()}, score 0.{nine}{r.randint(1000000, 9999999)}",
            lambda: f"isbn {f.isbn13()} and {f.isbn10()}",
            lambda: f.paragraph(),
            lambda: f"std::vec<u8>::with_capacity({r.randint(1, 4096)}) at line {r.randint(1, 9999)}:{r.randint(1, 80)}",
            lambda: f"Suite {r.randint(100, 665)} {r.randint(10, 99)} {r.randint(1000, 9999)} {f.street_name()}, {f.city()}",
            lambda: f"device {with_check_digit(r.choice(['35', '86', '67', '50', '30']) + nine + str(r.randint(100, 999)))} is online",
            lambda: f"phone IMEI {with_check_digit(r.choice(['35', '86', '67', '50', '30']) + nine + str(r.randint(100, 999)))}",
            lambda: f"{f.firefox()} (X11; Linux x86_64; rv:1.9.{r.randint(0, 9)}.20)",
            lambda: f"our new office is at {f.latitude()}, {f.longitude()}",
            lambda: f"the office is at {r.randint(1000, 99999)} {r.randint(1000, 9999)} {f.street_name()}",
            lambda: f"Phone support is closed. TFN: {nine}",
            lambda: f"numer NIP: 0{r.randint(10, 99)}-{r.randint(100, 999)}-{r.randint(10, 99)}-{r.randint(10, 99)}",
            lambda: f"FV 0{r.randint(100, 999)}/{r.randint(10, 12)}/{r.randint(2000, 2030)} for the call centre",
            lambda: f"a voice message is on file: room {r.randint(1, 9)} - {r.randint(10, 28)}/{r.randint(10, 12)}/{r.randint(2000, 2030)}",
            lambda: f"@{f.user_name()} mentioned you {r.randint(2, 59)} minutes ago",
        ])()

    def line(self, kind):
        if kind == "none":
            return {"text": self.negative(), "truth": [], "kind": kind}
        r, text, truth = self.random, "", []
        for _ in range(r.choice([1, 1, 2])):
            name = r.choice(list(SENTENCES))
            value = self.value(name)
            if kind == "mutated":
                value = self.mutated(name, value)
            before, after = r.choice(SENTENCES[name]).replace("{{", "\x01").replace("}}", "\x02").split("{}")
            before, after = (part.replace("\x01", "{").replace("\x02", "}") for part in (before, after))
            if kind == "mutated" and r.random() < 0.1:
                # As in JSON within a text.
                before, after = before.rstrip() + "\\n", "\\n" + after
            if text:
                text += " " + self.faker().sentence() + " "
            start = len(text) + len(before)
            text += before + value + after
            # Markup around the value is no part of it.
            inner = value[3:-4] if value.startswith("<b>") else value
            start += value.index(inner)
            truth.append({"class": name, "start": start, "end": start + len(inner)})
        return {"text": text, "truth": truth, "kind": kind}


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: corpus.py SEED COUNT")
    corpus = Corpus(int(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        print(json.dumps(corpus.line(("plain", "mutated", "none")[number % 3]), ensure_ascii=False))


main()
