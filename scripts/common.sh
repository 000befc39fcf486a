# Sourced by the other scripts: where things are kept, and how they speak. Everything that is fetched or built lives in one
# cache folder outside the clone, so that a fresh clone starts warm and deleting a clone leaves nothing behind but the cache.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/countersign"
# Tools put there with `cargo install --root` count as installed.
export PATH="$PATH:$cache/tools/bin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

# To stderr: a script's stdout is its result, a path that others read.
say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
