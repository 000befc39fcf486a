//! AES-256-SIV (RFC 5297) without associated data, of many short messages under one key. A message is whole blocks of 16
//! bytes, at least one, which leaves of the RFC's S2V nothing but `CMAC(message xorend CMAC(zero))`: both subkeys are known
//! when the key is. The blocks of different messages don't wait for each other, so a [`Window`] of messages goes through the
//! cipher together, which keeps the processor's AES units busy.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256Enc, Block};
use zeroize::Zeroize;

/// The bits of a synthetic IV that stay in the first counter.
const COUNTER: u128 = 0xffff_ffff_ffff_ffff_7fff_ffff_7fff_ffff;
/// The most messages of a window, and the blocks from which on it takes no more.
const MESSAGES: usize = 64;
const BLOCKS: usize = 4096;

pub(super) struct Siv {
    mac: Aes256Enc,
    cipher: Aes256Enc,
    /// What is added to a message's last block: `CMAC(zero)`, and CMAC's own first subkey.
    last: u128,
}

impl Siv {
    /// The first half of the key is for the synthetic IV, the second for the cipher.
    pub(super) fn new(mac: &[u8; 32], cipher: &[u8; 32]) -> Self {
        let mac = Aes256Enc::new(&(*mac).into());
        let one = |block: u128| {
            let mut block = Block::from(block.to_be_bytes());
            mac.encrypt_block(&mut block);
            u128::from_be_bytes(block.into())
        };
        let zero = one(0);
        let subkey = zero << 1 ^ if zero >> 127 == 1 { 0x87 } else { 0 };
        let last = one(subkey) ^ subkey;
        Self { mac, cipher: Aes256Enc::new(&(*cipher).into()), last }
    }

    /// Encrypts the messages of the window in place.
    pub(super) fn encrypt(&self, window: &mut Window) {
        self.authenticate(window);
        self.xor_stream(window);
    }

    /// Decrypts one message in place and says whether it is authentic. If it isn't, its blocks mean nothing.
    pub(super) fn decrypt(&self, iv: u128, window: &mut Window) -> bool {
        window.messages.iter_mut().for_each(|message| message.iv = iv);
        self.xor_stream(window);
        self.authenticate(window);
        window.messages.iter().all(|message| message.iv == iv)
    }

    /// Computes the synthetic IV of every message.
    fn authenticate(&self, Window { blocks, messages, scratch, .. }: &mut Window) {
        let mut index = 0;
        loop {
            scratch.clear();
            scratch.extend(messages.iter().filter(|message| message.blocks > index).filter_map(|message| {
                let before = if index == 0 { 0 } else { message.iv };
                let last = if index + 1 == message.blocks { self.last } else { 0 };
                let block = blocks.get(message.start + index)?;
                Some(Block::from((u128::from_be_bytes((*block).into()) ^ before ^ last).to_be_bytes()))
            }));
            if scratch.is_empty() {
                return;
            }
            self.mac.encrypt_blocks(scratch);
            let live = messages.iter_mut().filter(|message| message.blocks > index);
            live.zip(&*scratch).for_each(|(message, block)| message.iv = u128::from_be_bytes((*block).into()));
            index += 1;
        }
    }

    /// Adds to each message the stream of its synthetic IV.
    fn xor_stream(&self, Window { blocks, messages, scratch, .. }: &mut Window) {
        scratch.clear();
        scratch.extend(messages.iter().flat_map(|message| {
            let counters = (0..message.blocks as u128).map(|index| (message.iv & COUNTER).wrapping_add(index));
            counters.map(|counter| Block::from(counter.to_be_bytes()))
        }));
        self.cipher.encrypt_blocks(scratch);
        for (block, key) in blocks.iter_mut().zip(&*scratch) {
            let mixed = u128::from_ne_bytes((*block).into()) ^ u128::from_ne_bytes((*key).into());
            *block = Block::from(mixed.to_ne_bytes());
        }
    }
}

/// Messages that go through the cipher together; wiped when dropped.
#[derive(Default)]
pub(super) struct Window {
    blocks: Vec<Block>,
    messages: Vec<Message>,
    scratch: Vec<Block>,
}

struct Message {
    start: usize,
    blocks: usize,
    iv: u128,
}

impl Window {
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.messages.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES || self.blocks.len() >= BLOCKS
    }

    /// Adds a text, padded with 0x80 and zeros to whole blocks.
    pub(super) fn push_padded(&mut self, text: &[u8]) {
        let start = self.blocks.len();
        let (whole, rest) = text.as_chunks::<16>();
        self.blocks.extend(whole.iter().map(|block| Block::from(*block)));
        let mut last = [0; 16];
        last.iter_mut().zip(rest).for_each(|(padded, byte)| *padded = *byte);
        last.iter_mut().skip(rest.len()).take(1).for_each(|padded| *padded = 0x80);
        self.blocks.push(Block::from(last));
        self.messages.push(Message { start, blocks: whole.len() + 1, iv: 0 });
    }

    /// Adds whole blocks as they are.
    pub(super) fn push_blocks(&mut self, blocks: &[[u8; 16]]) {
        self.messages.push(Message { start: self.blocks.len(), blocks: blocks.len(), iv: 0 });
        self.blocks.extend(blocks.iter().map(|block| Block::from(*block)));
    }

    /// Synthetic IV and blocks of each message, in their order.
    pub(super) fn messages(&self) -> impl Iterator<Item = (u128, &[Block])> {
        self.messages.iter().map(|message| {
            let blocks = self.blocks.get(message.start..message.start + message.blocks);
            (message.iv, blocks.unwrap_or_default())
        })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        for block in self.blocks.iter_mut().chain(&mut self.scratch) {
            block.as_mut_slice().zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_siv::siv::Aes256Siv;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    proptest! {
        /// Another implementation writes the same, and what it writes is read.
        #[test]
        fn is_aes_siv(key in any::<[[u8; 32]; 2]>(), texts in vec(vec(any::<u8>(), 0..70), 0..90), bit in 0..128) {
            let siv = Siv::new(&key[0], &key[1]);
            let mut oracle = Aes256Siv::new(key.as_flattened().try_into().unwrap());
            let mut window = Window::default();
            texts.iter().for_each(|text| window.push_padded(text));
            siv.encrypt(&mut window);
            prop_assert_eq!(window.messages().count(), texts.len());
            for ((iv, blocks), text) in window.messages().zip(&texts) {
                let mut padded = [text.as_slice(), &[0x80]].concat();
                padded.resize(padded.len().next_multiple_of(16), 0);
                let expected = oracle.encrypt(std::iter::empty::<&[u8]>(), &padded).unwrap();
                let blocks = blocks.iter().map(|block| (*block).into()).collect::<Vec<[u8; 16]>>();
                prop_assert_eq!([&iv.to_be_bytes(), blocks.as_flattened()].concat(), expected);

                let mut read = Window::default();
                read.push_blocks(&blocks);
                prop_assert!(siv.decrypt(iv, &mut read));
                let plain = read.messages().flat_map(|(_, blocks)| blocks.iter().flatten().copied()).collect::<Vec<_>>();
                prop_assert_eq!(plain, padded);
                read.clear();
                read.push_blocks(&blocks);
                prop_assert!(!siv.decrypt(iv ^ 1u128 << bit, &mut read));
            }
        }
    }
}
