// The convenience check: holds the entries that this page shows against its checkpoint, and the checkpoint against a key that
// the reader pastes. A page cannot prove itself; without a key it says "not checked", and never anything better.
"use strict";
(() => {
  const form = document.getElementById("check-form");
  if (!form) return;
  const input = document.getElementById("check-key");
  const status = document.getElementById("check-status");
  const utf8 = new TextEncoder();

  const say = (state, text) => {
    status.dataset.state = state;
    status.textContent = text;
  };
  const unmark = () => document.querySelectorAll("details.story").forEach((story) => delete story.dataset.checked);
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const join = (...parts) => {
    const whole = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    return whole;
  };
  const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
  const hex = (hash) => Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const equal = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);

  // C2SP signed-note: name, key id, and the key's algorithm (1 is Ed25519) before its bytes.
  const readKey = async (text) => {
    const parts = /^([^\s+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text.trim());
    if (!parts) throw Error("that is no key of the form name+id+key");
    const [, name, id, base64] = parts;
    const typed = bytes(base64);
    if (typed.length !== 33 || typed[0] !== 1) throw Error("that is no Ed25519 key");
    if (hex((await sha256(utf8.encode(name + "\n"), typed)).subarray(0, 4)) !== id) throw Error("the key does not have the id that it states");
    const key = await crypto.subtle.importKey("raw", typed.subarray(1), { name: "Ed25519" }, false, ["verify"]);
    return { name, id, key };
  };

  // C2SP tlog-checkpoint: origin, size and root, and a signature by the key.
  const readCheckpoint = async (note, { name, id, key }) => {
    const end = note.indexOf("\n\n");
    const [text, lines] = [note.slice(0, end + 1), note.slice(end + 2).split("\n")];
    const [origin, size, root] = text.split("\n");
    if (origin !== name) throw Error(`the checkpoint is of ${origin}, the key of ${name}`);
    for (const line of lines) {
      const found = /^\u2014 (\S+) (\S+)$/.exec(line);
      if (!found || found[1] !== name) continue;
      const signature = bytes(found[2]);
      if (hex(signature.subarray(0, 4)) !== id) continue;
      if (await crypto.subtle.verify("Ed25519", key, signature.subarray(4), utf8.encode(text))) {
        return { size: Number(size), root: bytes(root) };
      }
    }
    throw Error("the checkpoint is not signed by this key");
  };

  // RFC 9162, section 2.1.3.2; numbers up to 2^53, so no bit operators.
  const rootOf = async (index, size, leaf, proof) => {
    let [fn, sn, hash] = [index, size - 1, leaf];
    for (const node of proof) {
      if (sn === 0) throw Error("its proof is too long");
      if (fn % 2 === 1 || fn === sn) {
        hash = await sha256([1], node, hash);
        while (fn % 2 === 0 && fn !== 0) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
      } else {
        hash = await sha256([1], hash, node);
      }
      [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
    }
    if (sn !== 0) throw Error("its proof is too short");
    return hash;
  };

  const check = async () => {
    const key = await readKey(input.value);
    const { size, root } = await readCheckpoint(document.getElementById("checkpoint").textContent, key);
    const nodes = JSON.parse(document.getElementById("nodes").textContent).map(bytes);
    let [entries, stories] = [0, 0];
    for (const story of document.querySelectorAll("details.story")) {
      const heads = new Map();
      for (const pre of story.querySelectorAll("pre[data-index]")) {
        const index = Number(pre.dataset.index);
        const fail = (why) => Error(`entry ${index}: ${why}`);
        if (!(index >= 0 && index < size)) throw fail("there is no such entry under the checkpoint");
        if (pre.dataset.proof === undefined) throw fail("this page holds no proof of it");
        const proof = pre.dataset.proof.split(" ").filter(Boolean).map((at) => nodes[Number(at)]);
        const leaf = await sha256([0], utf8.encode(pre.textContent));
        const found = await rootOf(index, size, leaf, proof).catch((e) => { throw fail(e.message); });
        if (!equal(found, root)) throw fail("it is not the entry that was signed");
        // The entries of one trace are a chain, and the story's own begin at its beginning.
        const entry = JSON.parse(pre.textContent);
        if (heads.has(entry.trace) ? entry.prev !== heads.get(entry.trace) : entry.step !== 0) throw fail("an entry of its trace is missing before it");
        heads.set(entry.trace, hex(leaf));
        entries += 1;
      }
      if (heads.size && !heads.has(story.dataset.trace)) throw Error(`story ${story.dataset.trace} shows another story's entries`);
      stories += 1;
      if (heads.size) story.dataset.checked = "yes";
    }
    if (entries === 0) return say("unchecked", "Not checked: this page shows no entries.");
    say("good", `${entries} entries in ${stories} stories stand under the checkpoint of size ${size}, and the key that you pasted signed it. Totals, charts and words were not checked.`);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    unmark();
    if (!input.value.trim()) return say("unchecked", "Not checked: paste the ledger\u2019s public key first.");
    if (!globalThis.crypto?.subtle) return say("unchecked", "Not checked: this browser offers no cryptography here.");
    say("busy", "Checking\u2026");
    try {
      await check();
    } catch (error) {
      unmark();
      if (error.name === "NotSupportedError") return say("unchecked", "Not checked: this browser knows no Ed25519.");
      say("bad", `Does not hold: ${error.message}.`);
    }
  });
  input.addEventListener("input", () => {
    unmark();
    say("unchecked", "Not checked.");
  });
})();
