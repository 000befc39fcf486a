//! One pass over a text. Almost every identifier holds a digit, an `@` or one of a few literals; these are looked for many bytes
//! at a time, and only what stands around one is read closely. From each run of letters and digits that holds a digit, the
//! groups behind it are joined one by one, and each length and grouping asks the index of rules; words around it are looked for
//! last, when a form fits.

use super::bank::{Card, card, iban_length, is_bic, is_iban};
use super::context::{Classes, Context, one};
use super::fold::is_word;
use super::identifiers::RULES;
use super::kinds::*;
use super::rules::{Entry, Index, MAX_LENGTH, Needs, Separators, Verdict};
use super::{Basis, crypto, date, net, phone, secret};
use aho_corasick::AhoCorasick;

/// The byte at a place, 0 beyond the end.
pub(super) fn at(text: &[u8], place: usize) -> u8 {
    text.get(place).copied().unwrap_or(0)
}

/// The upper case of a letter, a digit as it is, 0 for anything else.
fn upper(byte: u8) -> u8 {
    const TABLE: [u8; 256] = {
        let mut table = [0u8; 256];
        let mut byte = 0;
        while byte < 128 {
            if (byte as u8).is_ascii_alphanumeric() {
                #[expect(clippy::indexing_slicing, reason = "computed when compiled")]
                {
                    table[byte] = (byte as u8).to_ascii_uppercase();
                }
            }
            byte += 1;
        }
        table
    };
    TABLE.get(usize::from(byte)).copied().unwrap_or(0)
}

/// Something found: `rank` says which of two that overlap stays, see [`super::resolve`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) class: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) rank: u8,
    pub(super) basis: Basis,
    /// How far the word for it stands, where it takes one.
    pub(super) distance: u8,
}

/// The ranks, from the weakest on.
pub(super) mod rank {
    /// By its form alone.
    pub(in super::super) const FORM: u8 = 1;
    /// A checksum, no word for it.
    pub(in super::super) const PROVEN: u8 = 2;
    /// A word for it, no checksum.
    pub(in super::super) const ANNOUNCED: u8 = 3;
    /// Both, or a form that stands for nothing else.
    pub(in super::super) const SURE: u8 = 4;
    /// A secret, which may hold any of the others.
    pub(in super::super) const SECRET: u8 = 5;
    /// What the column is named after.
    pub(in super::super) const NAMED: u8 = 6;
}

/// What the column's name says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints {
    pub(super) classes: Classes,
    pub(super) exact: Option<usize>,
}

/// The walk over one text.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    index: &'a Index,
    context: Context<'a>,
    hints: Hints,
    found: Vec<Found>,
    /// Starts before this place have been tried already.
    tried: usize,
    /// What begins before this place belongs to something that is sure, so it isn't read again.
    sure: usize,
    /// The end of the last birth date.
    birth: usize,
    /// What begins before this place is part of a number that has another name than a phone's.
    named: usize,
    /// The end of the last key that was found.
    key: usize,
    /// The end of the last URL that was found.
    url: usize,
}

/// At most so many groups are joined.
const MAX_GROUPS: usize = 10;

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8], index: &'a Index, context: Context<'a>, hints: Hints) -> Self {
        Self { text, index, context, hints, found: Vec::new(), tried: 0, sure: 0, birth: 0, named: 0, key: 0, url: 0 }
    }

    /// All that is there, overlapping.
    pub(super) fn run(mut self, anchors: Option<&AhoCorasick>) -> Vec<Found> {
        let mut place = 0;
        while let Some(next) = next_interesting(self.text, place) {
            place = match at(self.text, next) {
                b'0'..=b'9' => self.digits(next),
                stop => {
                    self.stop(next, stop);
                    (next + 1).max(self.sure)
                }
            };
        }
        self.anchored(anchors);
        if self.hints.classes != 0 {
            self.by_column();
        }
        self.found
    }

    fn add(&mut self, class: usize, start: usize, end: usize, rank: u8, basis: Basis) {
        let rank = if self.hints.exact == Some(class) { rank::NAMED } else { rank };
        // The class that the column is named after may still be found inside.
        if rank >= rank::SURE && self.hints.exact.is_none() {
            self.sure = self.sure.max(end);
        }
        let distance = match basis {
            Basis::Context => u8::try_from(self.context.distance(class, start, end)).unwrap_or(u8::MAX),
            _ => 0,
        };
        self.found.push(Found { class, start, end, rank, basis, distance });
    }

    /// Whether the column's name or the words around a place speak for a class.
    fn basis(&mut self, class: usize, start: usize, end: usize) -> Option<Basis> {
        if self.hints.classes & one(class) != 0 {
            Some(Basis::Column)
        } else if self.context.around(0, start, end).classes & one(class) != 0 {
            Some(Basis::Context)
        } else {
            None
        }
    }

    /// Reads what stands around a digit and returns where to go on.
    fn digits(&mut self, place: usize) -> usize {
        if place < self.sure {
            self.tried = self.sure;
            return self.sure;
        }
        let text = self.text;
        let before = text.get(self.tried.min(place)..place).unwrap_or_default();
        let start = place - before.iter().rev().take_while(|byte| upper(**byte) != 0).count();
        let rest = text.get(place..).unwrap_or_default();
        let end = place + rest.iter().position(|byte| upper(*byte) == 0).unwrap_or(rest.len());
        if let Some(end) = uuid_end(text, start, end).or_else(|| self.address(start, end)) {
            self.tried = end;
            return end;
        }
        if start == place {
            self.date(place);
            if place.checked_sub(1).is_some_and(|sign| at(text, sign) == b'+') {
                self.phone(place);
            }
        }
        if place >= self.sure {
            let word = text.get(start..end).unwrap_or_default();
            if (26..=74).contains(&word.len()) && crypto::is_address(word) && !self.is_inside_word(start, end) {
                self.add(CRYPTO, start, end, rank::SURE, Basis::Checksum);
            }
            // The longest form in one piece has 19 characters, but for IBANs.
            if word.len() <= 19 || word.len() <= MAX_LENGTH && word.iter().take(2).all(u8::is_ascii_alphabetic) {
                self.joined_before(start, word.len());
                self.joined(start);
                self.glued(start, word);
            }
        }
        if start == place && place >= self.sure {
            self.phone(place);
        }
        self.tried = end;
        end
    }

    fn is_inside_word(&self, start: usize, end: usize) -> bool {
        start.checked_sub(1).is_some_and(|before| is_word(at(self.text, before))) || is_word(at(self.text, end))
    }

    // -----------------------------------------------------------------------------------------------------------------------
    // Rules

    /// Tries the one or two short groups of letters before a group with digits as starts: `AA 12`, `B AB 12`. `length` is that of
    /// the group with digits.
    fn joined_before(&mut self, start: usize, length: usize) {
        let named = self.hints.classes != 0;
        let letters_before = |end: usize| {
            let gap = end.checked_sub(1).filter(|gap| Separators::of(at(self.text, *gap)) != Separators::NONE)?;
            let letters = self.text.get(gap.saturating_sub(4).max(self.tried.min(gap))..gap)?;
            let count = letters.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
            // In prose, such groups are written in capitals.
            let shown = named || letters.last().is_some_and(u8::is_ascii_uppercase);
            shown.then_some(())?;
            (1..=3).contains(&count).then(|| (gap - count, count))
        };
        let Some((near, near_count)) = letters_before(start) else { return };
        let far = letters_before(near);
        // Most such pairs of words are no beginning of anything.
        let begins = |count: usize, groups: u64| self.index.entry(count, groups).is_some();
        let near_begins = begins(near_count + length, 1 << near_count);
        if let Some((far, count)) = far
            && begins(count + near_count, 1 << count)
        {
            self.joined(far);
        }
        if near_begins {
            self.joined(near);
        }
    }

    /// A Finnish code may follow a word without a gap.
    fn glued(&mut self, start: usize, word: &[u8]) {
        let letters = word.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        if letters > 0 && (6..=11).contains(&(word.len() - letters)) {
            self.join(start + letters, true);
        }
    }

    fn joined(&mut self, start: usize) {
        if !start.checked_sub(1).is_some_and(|before| is_word(at(self.text, before))) {
            self.join(start, false);
        }
    }

    /// Joins group after group from `start` on, and judges each length.
    fn join(&mut self, start: usize, glued: bool) {
        let text = self.text;
        let mut compact = [0u8; MAX_LENGTH];
        let (mut length, mut first, mut whole) = (0, 0, None);
        let (mut groups, mut separators, mut digits) = (0u64, Separators::NONE, 0u64);
        let mut place = start;
        for group in 0..MAX_GROUPS {
            let rest = text.get(place..).unwrap_or_default();
            let room = compact.get_mut(length..).unwrap_or_default();
            let mut read = 0;
            for (byte, cell) in rest.iter().zip(room) {
                let upper = upper(*byte);
                if upper == 0 {
                    break;
                }
                *cell = upper;
                digits |= u64::from(upper <= b'9') << (length + read);
                read += 1;
            }
            length += read;
            place += read;
            let end = place;
            let next = at(text, place);
            if upper(next) != 0 {
                return;
            }
            let so_far = compact.get(..length).unwrap_or_default();
            if group == 0 {
                first = length;
                whole = iban_length(so_far);
            }
            let all_digits = digits.trailing_ones() as usize == length;
            let card = all_digits && matches!(first, 4 | 6) && length < 19;
            let iban = whole.is_some_and(|whole| length < whole && first == 4);
            let entry = self.index.entry(length, groups);
            let joined = Joined { start, end, groups, separators, first, digits, all_digits, glued };
            let fits = entry.is_some() || all_digits && length >= 12 || whole == Some(length);
            if fits && !is_word(next) && !continues(text, start, place, separators) {
                self.judge(entry, so_far, joined);
            }
            // Go on only where some form, a card or an IBAN does.
            if length >= MAX_LENGTH || !(card || iban || entry.is_some_and(|entry| entry.goes_on)) {
                return;
            }
            let Some((next, separator)) = separator(text, place) else { return };
            groups |= 1 << length;
            separators = separators.with(separator);
            place = next;
        }
    }

    fn judge(&mut self, entry: Option<&Entry>, compact: &[u8], joined: Joined) {
        let Joined { start, end, groups, separators, .. } = joined;
        if !joined.glued && compact.len() >= 12 {
            self.bank(compact, joined);
        }
        for (place, needs_context) in entry.iter().flat_map(|entry| entry.matching(compact, joined.digits, separators))
        {
            let Some(rule) = RULES.get(place) else { continue };
            if joined.glued && rule.class != "id.fi.hetu" {
                continue;
            }
            // The words around are looked for once for all rules, and spare the checks of those that need one.
            if rule.needs == Needs::Context && self.basis(place, start, end).is_none() {
                continue;
            }
            let verdict = (rule.check)(compact);
            let alone = match (rule.needs, verdict) {
                (_, Verdict::No) => continue,
                (Needs::Proof, Verdict::Proven) => true,
                (Needs::Groups, _) => {
                    groups != 0
                        && !needs_context
                        && !is_in_row(self.text, start, end)
                        && !self.context.around(0, start, end).named_otherwise
                }
                _ => false,
            };
            let proven = verdict == Verdict::Proven;
            let basis = self.basis(place, start, end);
            let rank = match (basis.is_some(), proven, alone) {
                (false, _, false) => continue,
                (true, true, _) => rank::SURE,
                (true, false, _) => rank::ANNOUNCED,
                (false, true, true) => rank::PROVEN,
                (false, false, true) => rank::FORM,
            };
            // The plus in front of a phone number belongs to it.
            let plus = rule.class.starts_with("pii.phone")
                && start.checked_sub(1).is_some_and(|sign| at(self.text, sign) == b'+');
            let start = start - usize::from(plus);
            let basis = if proven { Basis::Checksum } else { basis.unwrap_or(Basis::Form) };
            self.add(place, start, end, rank, basis);
        }
    }

    fn bank(&mut self, compact: &[u8], joined: Joined) {
        let Joined { start, end, groups, separators, first, all_digits, .. } = joined;
        let length = compact.len();
        if all_digits
            && (12..=19).contains(&length)
            && (groups == 0 || matches!(first, 4 | 6))
            && separators.within(" -.")
        {
            match card(compact) {
                Card::Yes if length > 13 || groups == 0 || !is_in_row(self.text, start, end) => {
                    self.add(CARD, start, end, rank::SURE, Basis::Checksum)
                }
                // Numbers of products are written in one piece.
                Card::Perhaps
                    if groups != 0 && matches!(length, 12 | 13) && !is_in_row(self.text, start, end)
                        || self.basis(CARD, start, end).is_some() =>
                {
                    self.add(CARD, start, end, rank::SURE, Basis::Checksum)
                }
                _ => {}
            }
        }
        if (15..=33).contains(&length)
            && !all_digits
            && (groups == 0 || first == 4)
            && iban_length(compact) == Some(length)
        {
            let separated = separators.within(" -.");
            if separated && is_iban(compact) {
                self.add(IBAN, start, end, rank::SURE, Basis::Checksum);
            }
        }
    }

    // -----------------------------------------------------------------------------------------------------------------------
    // Addresses, phones, dates

    /// An IP or MAC address that holds the group `start..end`; where to go on, if there is one.
    fn address(&mut self, start: usize, end: usize) -> Option<usize> {
        let (text, before, after) =
            (self.text, start.checked_sub(1).map_or(0, |place| at(self.text, place)), at(self.text, end));
        let width = end - start + 1;
        let first = match (before, width) {
            (b':' | b'-', 3) | (b'.', 5) => {
                let groups = (1..=5).take_while(|count| {
                    start.checked_sub(count * width).is_some_and(|place| at(text, place + width - 1) == before)
                });
                groups.last().map_or(start, |count| start - count * width)
            }
            _ => start,
        };
        if matches!((after, before), (b':' | b'-' | b'.', _) | (_, b':' | b'-' | b'.'))
            && first >= self.tried.min(start)
            && let Some(last) = net::mac(text, first)
        {
            self.add(MAC, first, last, rank::SURE, Basis::Form);
            return Some(last);
        }
        if after == b':' || before == b':' {
            let named = self.hints.classes & one(IP) != 0;
            if let Some((first, last)) = net::ipv6(text, start, !named)
                && first >= self.tried.min(start)
            {
                self.add(IP, first, last, rank::SURE, Basis::Form);
                return Some(last);
            }
        }
        if after == b'.' && end - start <= 3 {
            let last = net::ipv4(text, start)?;
            let version = net::is_version(text, start) && self.hints.classes & one(IP) == 0;
            if !version {
                self.add(IP, start, last, rank::SURE, Basis::Form);
            }
            return Some(last);
        }
        None
    }

    fn phone(&mut self, place: usize) {
        if place < self.named {
            return;
        }
        let Some(phone::Phone { start, end, form }) = phone::read(self.text, place) else { return };
        let basis = self.basis(PHONE, start, end);
        let named = basis.is_none() && self.context.around(0, start, end).named_otherwise;
        let rank = match (basis, form) {
            (Some(_), _) => rank::ANNOUNCED,
            (None, phone::Form::International) => rank::PROVEN,
            (None, phone::Form::National) if !named => rank::FORM,
            (None, _) => {
                self.named = if named { end } else { self.named };
                return;
            }
        };
        if form == phone::Form::International && self.hints.exact.is_none() {
            self.sure = self.sure.max(end);
        }
        self.add(PHONE, start, end, rank, basis.unwrap_or(Basis::Form));
    }

    fn date(&mut self, place: usize) {
        let Some(date::Date { start, end, has_day, has_time }) = date::read(self.text, place) else { return };
        // A moment to the minute is no part of anything else.
        if has_time {
            self.sure = end;
        }
        let named = self.hints.classes & one(BIRTH_DATE) != 0;
        // Each word announces one date: `born 5 March 1980, married 1 May 2001`.
        if has_day && (named || self.context.around(self.birth, start, end).classes & one(BIRTH_DATE) != 0) {
            self.birth = end;
            self.add(BIRTH_DATE, start, end, rank::ANNOUNCED, if named { Basis::Column } else { Basis::Context });
        }
        if self.hints.classes & one(DATE) != 0 {
            self.add(DATE, start, end, rank::ANNOUNCED, Basis::Column);
        }
    }

    // -----------------------------------------------------------------------------------------------------------------------
    // What has no digit

    /// Reads what stands around a byte other than a digit.
    fn stop(&mut self, place: usize, byte: u8) {
        let text = self.text;
        match byte {
            b'@' => {
                if let Some((start, end)) = net::email(text, place) {
                    self.add(EMAIL, start, end, rank::SURE, Basis::Form);
                }
            }
            b':' if at(text, place + 1) == b'/' && at(text, place + 2) == b'/' => {
                if let Some((start, end)) = net::url_credentials(text, place) {
                    self.add(URL_CREDENTIALS, start, end, rank::SECRET, Basis::Form);
                }
                // A URL in a URL belongs to it.
                if self.hints.classes & one(URL) != 0
                    && place >= self.url
                    && let Some((start, end)) = net::url(text, place)
                {
                    self.url = end;
                    self.add(URL, start, end, rank::ANNOUNCED, Basis::Column);
                }
            }
            b':' | b'-' => {
                // A MAC address may be written in letters alone.
                let hex = |place: usize| at(text, place).is_ascii_hexdigit();
                if at(text, place + 3) == byte
                    && at(text, place + 6) == byte
                    && hex(place + 1)
                    && let Some(start) = place.checked_sub(2).filter(|start| hex(*start))
                    && let Some(end) = net::mac(text, start)
                {
                    self.add(MAC, start, end, rank::SURE, Basis::Form);
                } else if byte == b'-' {
                    self.secret(secret::at_stop(text, place, self.key));
                }
            }
            b'<' if at(text, place + 1) != b'<' => {}
            _ => self.secret(secret::at_stop(text, place, self.key)),
        }
    }

    fn secret(&mut self, secret: Option<(usize, usize, usize)>) {
        if let Some((class, start, end)) = secret {
            if class == KEY {
                self.key = end;
            }
            self.add(class, start, end, rank::SECRET, if class == MRZ { Basis::Checksum } else { Basis::Form });
        }
    }

    fn anchored(&mut self, anchors: Option<&AhoCorasick>) {
        let text = self.text;
        // Those before were found on another walk.
        self.key = 0;
        for found in anchors.iter().flat_map(|anchors| anchors.find_iter(text)) {
            let (start, end) = (found.start(), found.end());
            if !matches!(at(text, start), b'B' | b'b' | b'S' | b's') || at(text, start + 1) == b'G' {
                self.secret(secret::at_anchor(text, start, self.key));
            } else if !self.is_inside_word(start, end) {
                self.bic(end);
            }
        }
    }

    /// The BIC that a word announces: the next word in capitals that has its form.
    fn bic(&mut self, from: usize) {
        let text = self.text;
        let until = (from + 40).min(text.len());
        let mut place = from;
        while place < until {
            let rest = text.get(place..).unwrap_or_default();
            let length = rest.iter().take(12).position(|byte| !is_word(*byte)).unwrap_or(rest.len().min(12));
            if rest.get(..length).is_some_and(is_bic) {
                self.add(BIC, place, place + length, rank::SURE, Basis::Context);
                return;
            }
            place += length + 1;
        }
    }

    /// What only a column's name can announce, since it has neither digit nor literal.
    fn by_column(&mut self) {
        let text = self.text;
        let named = |class: usize| self.hints.classes & one(class) != 0;
        let (bic, mac, ip, url) = (named(BIC), named(MAC), named(IP), named(URL));
        if !(bic || mac || ip || url) {
            return;
        }
        let mut place = 0;
        while place < text.len() {
            let rest = text.get(place..).unwrap_or_default();
            let length = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
            let end = place + length;
            if bic && rest.get(..length).is_some_and(is_bic) {
                self.add(BIC, place, end, rank::SURE, Basis::Column);
            }
            if mac && let Some(end) = net::mac(text, place).filter(|_| length > 0) {
                self.add(MAC, place, end, rank::SURE, Basis::Form);
            }
            if ip
                && length == 0
                && rest.starts_with(b"::")
                && let Some((start, end)) = net::ipv6(text, place, false)
            {
                self.add(IP, start, end, rank::SURE, Basis::Form);
            }
            if url
                && length > 0
                && !place.checked_sub(1).is_some_and(|before| b"-.@/:".contains(&at(text, before)))
                && let Some(end) = net::bare_url(text, place)
            {
                self.add(URL, place, end, rank::ANNOUNCED, Basis::Column);
            }
            place = end + 1;
        }
    }
}

/// Groups joined so far.
#[derive(Clone, Copy)]
struct Joined {
    start: usize,
    end: usize,
    groups: u64,
    separators: Separators,
    /// The length of the first group.
    first: usize,
    /// The places of digits, as bits.
    digits: u64,
    all_digits: bool,
    glued: bool,
}

/// Whether a number goes on beyond `start..end`: a decimal fraction, or groups of the same kind as its own.
fn continues(text: &[u8], start: usize, end: usize, separators: Separators) -> bool {
    let digit = |place: Option<usize>| place.is_some_and(|place| at(text, place).is_ascii_digit());
    let (before, after) = (start.checked_sub(1).map_or(0, |place| at(text, place)), at(text, end));
    let goes_on =
        |byte: u8| byte == b'.' || byte != b' ' && separators != Separators::NONE && Separators::of(byte) == separators;
    goes_on(before) && digit(start.checked_sub(2)) || goes_on(after) && digit(Some(end + 1))
}

/// Whether groups of digits stand in a row of more such, as in a table: before or behind is one of the same length.
fn is_in_row(text: &[u8], start: usize, end: usize) -> bool {
    let digits = |places: &mut dyn Iterator<Item = usize>| {
        places.take(12).take_while(|place| at(text, *place).is_ascii_digit()).count()
    };
    let first = digits(&mut (start..));
    let last = digits(&mut (0..end).rev());
    let before = start.checked_sub(1).filter(|gap| at(text, *gap) == b' ').map_or(0, |gap| digits(&mut (0..gap).rev()));
    let behind = if at(text, end) == b' ' { digits(&mut (end + 1..)) } else { 0 };
    first > 2 && before == first || last > 2 && behind == last
}

/// What separates two groups: one space, dash, dot, slash, colon, underscore or plus; a dash between spaces; any of these with
/// markup around; markup alone counts as a space.
fn separator(text: &[u8], from: usize) -> Option<(usize, Separators)> {
    let (mut place, mut mark) = (from, 0u8);
    let (mut marks, mut spaces) = (0, 0);
    while place < from + 64 {
        let byte = at(text, place);
        if byte.is_ascii_alphanumeric() {
            let mark = if mark == 0 { b' ' } else { mark };
            return (place > from).then_some((place, Separators::of(mark)));
        }
        match byte {
            b' ' => spaces += 1,
            b'-' | b'.' | b'/' | b':' | b'_' | b'+' => {
                marks += 1;
                mark = byte;
            }
            b'<' | b'&' | b'*' => {
                let (end, byte) = markup(text, place)?;
                if byte == b' ' {
                    spaces += 1;
                } else if byte != 0 {
                    marks += 1;
                    mark = byte;
                }
                place = end;
                continue;
            }
            _ => return None,
        }
        // A dot or colon and a space end a sentence or a label.
        if marks > 1 || spaces > 2 || spaces > 0 && marks > 0 && mark != b'-' {
            return None;
        }
        place += 1;
    }
    None
}

/// The end of a tag, of a character reference for a space or dash, or of `**`, and what it stands for: 0 for nothing.
pub(super) fn markup(text: &[u8], place: usize) -> Option<(usize, u8)> {
    let rest = text.get(place..(place + 48).min(text.len()))?;
    match rest {
        [b'<', b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!', inside @ ..] => {
            let end = inside
                .iter()
                .position(|byte| matches!(byte, b'>' | b'<'))
                .filter(|end| inside.get(*end) == Some(&b'>'))?;
            Some((place + 2 + end + 1, 0))
        }
        [b'&', inside @ ..] => {
            const SPACES: &str =
                " nbsp ensp emsp thinsp numsp puncsp #32 #160 #xa0 #8194 #8195 #8199 #8201 #8239 #x2007 #x202f #x2009 ";
            const DASHES: &str =
                " ndash mdash hyphen dash minus #45 #x2d #8208 #8209 #8210 #8211 #8212 #x2010 #x2011 #x2013 #8722 ";
            const NOTHING: &str = " shy zwnj zwj #173 #xad #8203 #x200b #8204 #8205 ";
            let end = inside.iter().take(9).position(|byte| *byte == b';')?;
            let name = std::str::from_utf8(inside.get(..end)?).ok()?.to_ascii_lowercase();
            let listed = |list: &str| list.contains(&format!(" {name} "));
            let byte = if listed(SPACES) {
                b' '
            } else if listed(DASHES) {
                b'-'
            } else if listed(NOTHING) {
                0
            } else {
                return None;
            };
            Some((place + end + 2, byte))
        }
        [b'*', b'*', ..] => Some((place + rest.iter().take(3).take_while(|byte| **byte == b'*').count(), 0)),
        _ => None,
    }
}

/// The end of a UUID (RFC 9562) that begins with the group `start..end`.
fn uuid_end(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if end - start != 8 || at(text, end) != b'-' {
        return None;
    }
    let uuid = text.get(start..start + 36)?;
    let fits = uuid.iter().enumerate().all(|(place, byte)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (fits && !is_word(at(text, start + 36))).then_some(start + 36)
}

/// The next digit, `@`, `:`, `-`, `_`, `<` or `=` from `from` on. Blocks without any are passed over with a handful of
/// instructions.
fn next_interesting(text: &[u8], from: usize) -> Option<usize> {
    const BLOCK: usize = 32;
    let interesting = |byte: u8| {
        byte.wrapping_sub(b'0') <= 10 || byte.wrapping_sub(b'<') <= 1 || byte == b'@' || byte == b'-' || byte == b'_'
    };
    let mut place = from;
    for block in text.get(from..)?.chunks(BLOCK) {
        if block.iter().fold(false, |any, byte| any | interesting(*byte)) {
            let within = block.iter().position(|byte| interesting(*byte))?;
            return Some(place + within);
        }
        place += block.len();
    }
    None
}
