//! Evidence as one file: a POSIX ustar archive whose members are the files of an export, under the same paths, so that `tar`
//! opens it and a folder packed with `tar` is one. This is the arithmetic of its blocks; who reads one trusts no word in it.
//!
//! ```
//! use countersign_ledger::evidence::archive::{Member, header, read_header};
//! let block = header("tile/0/000", 8192).unwrap();
//! assert_eq!(read_header(&block).unwrap(), Member::File { name: "tile/0/000".into(), size: 8192 });
//! assert_eq!(read_header(&[0; 512]).unwrap(), Member::End);
//! ```

/// Everything in an archive is in blocks of so many bytes: a header, the file's bytes, zeros up to the next block.
pub const BLOCK: usize = 512;

/// The largest file that a header can state, in bytes: eleven octal digits.
pub const FILE_BYTES_MAX: u64 = (1 << 33) - 1;

/// What a header announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A regular file.
    File {
        /// Its path, parts joined by `/`; none of them is empty, `.` or `..`.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A folder, which means nothing.
    Folder,
    /// A block of zeros: the archive ends.
    End,
}

/// The header of a regular file; `None` where its name does not fit into one (100 bytes) or its size does not.
pub fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    if name.is_empty() || name.len() > 100 || size > FILE_BYTES_MAX || path(name).ok().as_deref() != Some(name) {
        return None;
    }
    let mut block = [0; BLOCK];
    // Fixed times and owners: the same evidence gives the same bytes.
    let fields: [(usize, String); 8] = [
        (0, name.to_owned()),
        (100, "0000644\0".into()),
        (108, "0000000\0".into()),
        (116, "0000000\0".into()),
        (124, format!("{size:011o}\0")),
        (136, "00000000000\0".into()),
        (156, "0".into()),
        (257, "ustar\x0000".into()),
    ];
    for (at, text) in &fields {
        block.get_mut(*at..at + text.len())?.copy_from_slice(text.as_bytes());
    }
    let sum = format!("{:06o}\0 ", checksum(&block));
    block.get_mut(148..156)?.copy_from_slice(sum.as_bytes());
    Some(block)
}

/// How many zeros follow a file of that size.
pub const fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Reads a header; in words, what is wrong with it.
pub fn read_header(block: &[u8; BLOCK]) -> Result<Member, String> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(Member::End);
    }
    let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
    // Both spellings: POSIX, and the older one of GNU tar.
    if !matches!(field(257, 265), b"ustar\x0000" | b"ustar  \0") {
        return Err("not the header of a ustar archive".into());
    }
    let (found, sum) = (octal(field(148, 156))?, checksum(block));
    if found != u64::from(sum) {
        return Err(format!("a header with checksum {found:o}, whose bytes have {sum:o}"));
    }
    let text = |from: usize, to: usize| {
        let bytes = field(from, to);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| "a name that is not UTF-8".to_owned())
    };
    let (name, prefix) = (text(0, 100)?, if field(257, 265) == b"ustar\x0000" { text(345, 500)? } else { "" });
    match field(156, 157) {
        b"0" | b"\0" => {
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            Ok(Member::File { name: path(&name)?, size: octal(field(124, 136))? })
        }
        b"5" => Ok(Member::Folder),
        kind => {
            let kind = kind.escape_ascii();
            Err(format!(
                "a member of kind `{kind}`: only files and folders belong in evidence (pack with `tar --format=ustar`)"
            ))
        }
    }
}

/// A relative path without detours; a leading `./` is dropped.
fn path(name: &str) -> Result<String, String> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    if name.split('/').all(plain) { Ok(name.to_owned()) } else { Err(format!("the path `{}`", name.escape_debug())) }
}

fn octal(field: &[u8]) -> Result<u64, String> {
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).find(|part| !part.is_empty()).unwrap_or_default();
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| (b'0'..=b'7').contains(&b)));
    let number = text.and_then(|text| u64::from_str_radix(text, 8).ok());
    number.ok_or_else(|| format!("the number `{}`", field.escape_ascii()))
}

/// The sum of a header's bytes, its own field counted as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pads_to_blocks() {
        for (size, expect) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (1024, 0)] {
            assert_eq!(padding(size), expect, "{size}");
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\\b", "tile/"] {
            assert!(header(bad, 1).is_none(), "{bad}");
            let mut block = header("a-name-to-be-replaced", 1).unwrap();
            block[..100].fill(0);
            block[..bad.len()].copy_from_slice(bad.as_bytes());
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[148..156].copy_from_slice(sum.as_bytes());
            assert!(read_header(&block).is_err(), "{bad}");
        }
        assert_eq!(path("./checkpoint").unwrap(), "checkpoint");
        assert!(header(&"x".repeat(101), 1).is_none());
        assert!(header("x", FILE_BYTES_MAX + 1).is_none());
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(name in "[a-z0-9]{1,20}(/[a-z0-9.]{1,9}x){0,4}", size in 0..=FILE_BYTES_MAX) {
            prop_assert_eq!(read_header(&header(&name, size).unwrap()).unwrap(), Member::File { name, size });
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 512)) {
            let mut block: [u8; BLOCK] = bytes.try_into().unwrap();
            let _ = read_header(&block);
            block[257..265].copy_from_slice(b"ustar\x0000");
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[148..156].copy_from_slice(sum.as_bytes());
            let _ = read_header(&block);
        }
    }
}
