//! Tiles, bundles and their paths: the examples of C2SP tlog-tiles, proofs made from tiles alone in a tree of three levels,
//! and parsers that accept exactly what the encoders write.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::tlog::*;
use proptest::prelude::*;
use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
};

/// Tiles as a log stores them: each once, growing.
#[derive(Default)]
struct Tiles {
    tiles: BTreeMap<TileId, Vec<u8>>,
    read: Cell<usize>,
}

impl Tiles {
    /// A tree of so many leaves: its tiles, and its roots at some sizes on the way.
    fn grow(leaves: u64, sizes: &[u64]) -> (Self, Vec<Hash>) {
        let mut tiles = BTreeMap::<TileId, Vec<u8>>::new();
        let mut frontier = Frontier::new();
        let mut roots = Vec::new();
        for n in 0..=leaves {
            roots.extend(sizes.contains(&n).then(|| frontier.root()));
            frontier.push_with(leaf(n), |level, index, hash| {
                if n < leaves && level % 8 == 0 {
                    let (id, offset, count) = TileId::of_node(level, index).unwrap();
                    let tile = tiles.entry(id).or_default();
                    assert_eq!((tile.len(), count), (usize::from(offset) * 32, 1));
                    tile.extend_from_slice(hash.as_bytes());
                }
            });
        }
        (Self { tiles, read: Cell::new(0) }, roots)
    }
}

impl TileReader for Tiles {
    type Error = String;

    fn tile(&self, level: u8, index: u64, _: u16) -> Result<Vec<u8>, String> {
        self.read.set(self.read.get() + 1);
        self.tiles.get(&TileId { level, index }).cloned().ok_or_else(|| format!("no tile {level}/{index}"))
    }
}

fn leaf(n: u64) -> Hash {
    leaf_hash(&n.to_be_bytes())
}

#[test]
fn proofs_from_tiles() {
    const SIZES: [u64; 14] = [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 69_999, 70_000];
    let (tiles, roots) = Tiles::grow(70_000, &SIZES);
    for (n, root_n) in SIZES.into_iter().zip(&roots) {
        let size = TreeSize::new(n);
        let hashes = TileHashes::new(&tiles, size);
        assert_eq!(root(&hashes, size).as_ref(), Ok(root_n));
        for i in [0, 1, 127, 128, 255, 256, 65_279, 65_535, 65_536, n.saturating_sub(1)].into_iter().filter(|i| *i < n)
        {
            let index = LeafIndex::new(i);
            let before = tiles.read.get();
            let proof = inclusion_proof(&hashes, index, size).unwrap();
            assert!(tiles.read.get() - before <= 6, "{} tiles read for one proof", tiles.read.get() - before);
            assert_eq!(verify_inclusion(index, leaf(i), size, *root_n, &proof), Ok(()), "{i} in {n}");
        }
        for (old, root_old) in SIZES.into_iter().zip(&roots).filter(|(old, _)| *old <= n) {
            let proof = consistency_proof(&hashes, TreeSize::new(old), size).unwrap();
            assert_eq!(
                verify_consistency(TreeSize::new(old), size, *root_old, *root_n, &proof),
                Ok(()),
                "{old} in {n}"
            );
        }
    }
    // What the listing names is what was written: the same tiles, of the same widths.
    let listed: BTreeMap<_, _> = tiles_for_size(TreeSize::new(70_000)).map(|path| (path.id, path.width)).collect();
    let stored: BTreeMap<_, _> = tiles.tiles.iter().map(|(id, bytes)| (*id, (bytes.len() / 32) as u16)).collect();
    assert_eq!(listed, stored);
}

#[test]
fn only_the_tree_at_hand_is_read() {
    let (tiles, _) = Tiles::grow(300, &[]);
    let hashes = TileHashes::new(&tiles, TreeSize::new(258));
    let widths = |id| hashes.tile(id).map(|tile| tile.len());
    assert_eq!(widths(TileId { level: 0, index: 0 }), Ok(256));
    assert_eq!(widths(TileId { level: 0, index: 1 }), Ok(2));
    assert_eq!(widths(TileId { level: 1, index: 0 }), Ok(1));
    assert_eq!(widths(TileId { level: 1, index: 1 }), Ok(0));
    assert_eq!(widths(TileId { level: 9, index: u64::MAX }), Ok(0));
    assert_eq!(hashes.hash(0, 257), Ok(leaf(257)));
    for (level, index) in [(0, 258), (1, 129), (9, 0), (64, 0), (255, u64::MAX), (7, u64::MAX)] {
        let incomplete = TileError::Incomplete { level, index, size: TreeSize::new(258) };
        assert_eq!(hashes.hash(level, index), Err(incomplete));
    }
}

#[test]
fn bad_tiles_are_refused() {
    struct Fixed(usize);
    impl TileReader for Fixed {
        type Error = String;
        fn tile(&self, _: u8, _: u64, _: u16) -> Result<Vec<u8>, String> {
            Ok(vec![0; self.0])
        }
    }
    for (bytes, good) in [(0, false), (95, false), (96, true), (97, false), (8192, true), (8193, false), (8224, false)]
    {
        let hashes = TileHashes::new(Fixed(bytes), TreeSize::new(3));
        assert_eq!(hashes.hash(0, 2).is_ok(), good, "{bytes}");
    }
    assert_eq!(
        TileHashes::new(Fixed(95), TreeSize::new(3)).hash(0, 2).unwrap_err().to_string(),
        "wrong length of `tile/0/000.p/3`: found 95 bytes, required 96, or more up to 8192 in whole hashes"
    );
    let (tiles, _) = Tiles::grow(2, &[]);
    let missing = TileHashes::new(&tiles, TreeSize::new(300)).hash(1, 128).unwrap_err();
    assert_eq!(missing, TileError::Read("no tile 0/1".to_owned()));
}

#[test]
fn the_widths_of_the_specification() {
    let check = |size: u64, expect: &[(u8, u64, u64)]| {
        let paths: Vec<_> = tiles_for_size(TreeSize::new(size)).collect();
        let distinct: HashSet<_> = paths.iter().collect();
        assert_eq!(distinct.len(), paths.len());
        for level in 0..9 {
            let (full, partial): (Vec<&TilePath>, Vec<&TilePath>) =
                paths.iter().filter(|path| path.id.level == level).partition(|path| path.width == 256);
            let found = (level, full.len() as u64, partial.iter().map(|path| u64::from(path.width)).sum());
            let none = (level, 0, 0);
            assert_eq!(found, *expect.get(usize::from(level)).unwrap_or(&none), "size {size}");
            assert!(partial.len() <= 1);
        }
        for path in &paths {
            assert_eq!(path.id.width(TreeSize::new(size)), path.width);
        }
        let bundles: Vec<_> = bundles_for_size(TreeSize::new(size)).collect();
        let leaves: Vec<_> = paths.iter().filter(|path| path.id.level == 0).map(|p| (p.id.index, p.width)).collect();
        assert_eq!(bundles.iter().map(|path| (path.index, path.width)).collect::<Vec<_>>(), leaves);
    };
    check(0, &[]);
    check(1, &[(0, 0, 1)]);
    check(255, &[(0, 0, 255)]);
    check(256, &[(0, 1, 0), (1, 0, 1)]);
    check(70_000, &[(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    // A large tree can be listed without counting to its end.
    let last = tiles_for_size(TreeSize::new(u64::MAX)).next().map(|path| path.to_string());
    assert_eq!(last.as_deref(), Some("tile/0/000"));
}

#[test]
fn paths() {
    let check = |text: &str, level: Option<u8>, index: u64, width: u16| match level {
        Some(level) => {
            let path = TilePath { id: TileId { level, index }, width };
            assert_eq!((path.to_string().as_str(), text.parse()), (text, Ok(path)));
            assert!(text.parse::<BundlePath>().is_err());
        }
        None => {
            let path = BundlePath { index, width };
            assert_eq!((path.to_string().as_str(), text.parse()), (text, Ok(path)));
            assert!(text.parse::<TilePath>().is_err());
        }
    };
    check("tile/0/000", Some(0), 0, 256);
    check("tile/0/000.p/1", Some(0), 0, 1);
    check("tile/63/999.p/255", Some(63), 999, 255);
    check("tile/1/x001/000", Some(1), 1000, 256);
    check("tile/0/x001/x234/067", Some(0), 1_234_067, 256);
    check("tile/entries/x001/x234/067.p/8", None, 1_234_067, 8);
    check("tile/entries/x018/x446/x744/x073/x709/x551/615", None, u64::MAX, 256);

    for bad in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/001",
        "tile/0/x001",
        "tile/0/x001/x001",
        "tile/0/xx001/001",
        "tile/0/+01",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1.p/1",
        "tile/0/000.p/1/",
        "tile/0/../000",
        "tile/0/000?x",
        "tile/0/0é0",
        "tile/0/ 00",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/entries",
        "tile/entries/",
        "tile/entries/0",
        "tile/entries/000.p/256",
        "tile/entries/x000/000",
    ] {
        assert!(bad.parse::<TilePath>().is_err(), "{bad}");
        assert!(bad.parse::<BundlePath>().is_err(), "{bad}");
    }
    assert_eq!(
        "tile/0/7".parse::<TilePath>().unwrap_err().to_string(),
        "not a tile path: found `tile/0/7`, required `tile/<0 to 63>/<index>` with an optional `.p/<1 to 255>`"
    );
}

#[test]
fn bundles() {
    let check = |entries: &[&[u8]], bytes: &[u8]| {
        assert_eq!(encode_bundle(entries).as_deref(), Ok(bytes));
        assert_eq!(decode_bundle(bytes).as_deref(), Ok(entries));
    };
    check(&[], b"");
    check(&[b""], b"\0\0");
    check(&[b"a", b"", b"bcd"], b"\0\x01a\0\0\0\x03bcd");
    let (largest, too_large) = (vec![7; 65535], vec![7; 65536]);
    check(&[&largest], &[&[0xff, 0xff], &largest[..]].concat());
    check(&[&[][..]; 256], &[0; 512]);

    let expect = BundleError::EntryTooLong { position: 1, found: 65536 };
    assert_eq!(encode_bundle(&[&[][..], &too_large]), Err(expect));
    assert_eq!(encode_bundle(&[b""; 257]), Err(BundleError::TooManyEntries { found: 257 }));
    assert_eq!(decode_bundle(&[0; 514]), Err(BundleError::TooManyEntries { found: 257 }));
    assert_eq!(decode_bundle(b"\0"), Err(BundleError::CutOff { position: 0, found: 1, required: 2 }));
    assert_eq!(decode_bundle(b"\0\0\0\x02a"), Err(BundleError::CutOff { position: 1, found: 3, required: 4 }));
}

proptest! {
    #[test]
    fn paths_round_trip(level in 0..64u8, index in prop_oneof![any::<u64>(), 0..2_000_000u64], width in 1..=256u16) {
        let path = TilePath { id: TileId { level, index }, width };
        prop_assert_eq!(path.to_string().parse(), Ok(path));
        let path = BundlePath { index, width };
        prop_assert_eq!(path.to_string().parse(), Ok(path));
    }

    /// Nothing panics, and what is accepted has one spelling.
    #[test]
    fn any_path(text in prop_oneof![".*", "tile/(entries|[0-9]{1,3})(/x?[0-9]{2,4}){1,8}(\\.p/[0-9]{0,4})?"]) {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text.as_str());
        }
        if let Ok(path) = text.parse::<BundlePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn bundles_round_trip(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..=256)) {
        let bytes = encode_bundle(&entries).unwrap();
        prop_assert_eq!(decode_bundle(&bytes).unwrap(), entries);
    }

    #[test]
    fn any_bundle(bytes in prop::collection::vec(prop_oneof![3 => Just(0), 1 => 0..4u8, 1 => any::<u8>()], 0..700)) {
        if let Ok(entries) = decode_bundle(&bytes) {
            prop_assert_eq!(encode_bundle(&entries).unwrap(), bytes);
        }
    }

    /// The node a tile is asked for is the one a tree of complete nodes has there.
    #[test]
    fn nodes_in_tiles(level in 0..9u8, at in any::<prop::sample::Index>()) {
        let (tiles, _) = Tiles::grow(600, &[]);
        let index = at.index(600 >> level) as u64;
        let mut subtree = Frontier::new();
        for n in index << level..(index + 1) << level {
            subtree.push(leaf(n));
        }
        prop_assert_eq!(TileHashes::new(&tiles, TreeSize::new(600)).hash(level, index), Ok(subtree.root()));
    }
}
