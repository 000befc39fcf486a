//! Canonical JSON, read where it stands. The form has one spelling: members in their order, no space, no member without a
//! value. So a reader need not look for anything: it takes each byte for what must stand there, and gives up at the first
//! that is another. `serde` then says what is wrong; it also reads the few texts that have an escape in them, which end here.

use super::step::Text;
use crate::tlog::Hash;

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a str,
    /// An object was opened, and had no member yet.
    fresh: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a str) -> Self {
        Self { rest, fresh: false }
    }

    /// Takes exactly this.
    #[inline]
    pub(super) fn take(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// Takes the beginning of an object.
    pub(super) fn open(&mut self) -> Option<()> {
        self.take("{")?;
        self.fresh = true;
        Some(())
    }

    /// Takes the end of an object.
    pub(super) fn close(&mut self) -> Option<()> {
        self.fresh = false;
        self.take("}")
    }

    /// Takes a member's name, given with its quotes and colon, and the comma before it. Takes nothing where it is not there.
    #[inline]
    pub(super) fn name(&mut self, name: &str) -> Option<()> {
        let rest = if self.fresh { self.rest } else { self.rest.strip_prefix(',')? };
        self.rest = rest.strip_prefix(name)?;
        self.fresh = false;
        Some(())
    }

    /// Takes a string without escapes.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let rest = self.rest.strip_prefix('"')?;
        let end = plain(rest.as_bytes());
        let (text, rest) = rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    /// Takes a number of at most 19 digits, which always fit, in its one spelling.
    pub(super) fn number(&mut self) -> Option<u64> {
        let (mut number, mut length) = (0_u64, 0);
        for digit in self.rest.bytes().map(|byte| byte.wrapping_sub(b'0')).take_while(|digit| *digit < 10).take(19) {
            (number, length) = (number * 10 + u64::from(digit), length + 1);
        }
        let (digits, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (length == 1 || length > 1 && !digits.starts_with('0')).then_some(number)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// How many bytes come before the first that is a quote, a backslash or a control character: eight are looked at at once.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // A byte's high bit is set where subtracting borrowed from it; above the first such byte others may be wrong, below none.
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let below = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if below & HIGH != 0 {
            return at + ((below & HIGH).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
}

/// What has one spelling.
pub(super) trait Canonical: Sized {
    /// Whether a list of these is left out where it is empty.
    const LEFT_OUT: bool = false;

    /// Takes a value.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// Takes the member of that name.
    #[inline]
    fn member(reader: &mut Reader<'_>, name: &str) -> Option<Self> {
        reader.name(name)?;
        Self::read(reader)
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        T::read(reader).map(Some)
    }

    #[inline]
    fn member(reader: &mut Reader<'_>, name: &str) -> Option<Self> {
        if reader.name(name).is_some() { Self::read(reader) } else { Some(None) }
    }
}

impl<T: Canonical> Canonical for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.take("[")?;
        if reader.take("]").is_some() {
            return Some(Self::new());
        }
        // Columns are seldom more.
        let mut list = Self::with_capacity(8);
        loop {
            list.push(T::read(reader)?);
            if reader.take("]").is_some() {
                return Some(list);
            }
            reader.take(",")?;
        }
    }

    #[inline]
    fn member(reader: &mut Reader<'_>, name: &str) -> Option<Self> {
        if reader.name(name).is_none() {
            return T::LEFT_OUT.then(Self::new);
        }
        Self::read(reader).filter(|list| !(T::LEFT_OUT && list.is_empty()))
    }
}

impl Canonical for bool {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.take("true").map(|()| true).or_else(|| reader.take("false").map(|()| false))
    }
}

impl Canonical for String {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.string().map(str::to_owned)
    }
}

impl Canonical for Text {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.string().map(Self::new)
    }
}

impl Canonical for Hash {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (digits, rest) = reader.rest.strip_prefix('"')?.split_at_checked(64)?;
        reader.rest = rest.strip_prefix('"')?;
        Self::from_hex(digits).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_at_once_are_as_one_by_one(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e..0x24_u8, 0x5a..0x5f_u8], 0..40)) {
            let found = bytes.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\');
            prop_assert_eq!(plain(&bytes), found.unwrap_or(bytes.len()));
        }
    }
}
