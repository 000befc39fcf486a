//! Targets of the service: what callers and databases send.

use countersign::identity::claims::{AdminClaims, ApprovalClaims, RequestClaims, expect_time};
use countersign::source::copy_rows;
use countersign_ledger::evidence::jws::Unverified;
use countersign_masker::ColumnType;

/// A record of `chunk.requests`: a token, or the claims alone, whose signature then needs no guessing.
pub fn request(data: &[u8]) {
    if let Ok(token) = Unverified::parse(data) {
        let _ = token.claims_unverified::<RequestClaims>();
        let _ = token.claims_unverified::<ApprovalClaims>();
        let _ = token.claims_unverified::<AdminClaims>();
    }
    if let Ok(claims) = serde_json::from_slice::<RequestClaims>(data) {
        let _ = expect_time(&claims, 1_700_000_000);
        let written = serde_json::to_vec(&claims).unwrap();
        serde_json::from_slice::<RequestClaims>(&written).unwrap();
    }
}

/// A COPY stream: its first byte says which columns are expected, its second where it is cut.
pub fn copy(data: &[u8]) {
    let [types, cut, stream @ ..] = data else { return };
    let all = "bool int16 int32 int64 float32 float64 decimal(10,2) numeric text json uuid binary date time timestamp timestamptz";
    let all = all.split(' ').map(|name| name.parse::<ColumnType>().unwrap()).collect::<Vec<_>>();
    let columns = (0..usize::from(types % 4))
        .map(|n| (format!("c{n}"), all[(usize::from(types / 4) + n * 5) % all.len()].clone()));
    let columns = columns.collect::<Vec<_>>();
    let (first, second) = stream.split_at(usize::from(*cut).min(stream.len()));
    let whole = copy_rows(&columns, &[stream]);
    // However it is cut, it is the same.
    assert_eq!(whole.as_ref().ok(), copy_rows(&columns, &[first, second]).as_ref().ok());
}
