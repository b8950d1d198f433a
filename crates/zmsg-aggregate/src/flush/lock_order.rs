//! In which order rows are locked: the same in every process.

use std::hash::Hasher;

use crate::buffer::{Entry, Target, Work};

/// What batches are sorted by: table and condition of the first entry. Any order will do that is
/// the same in every process.
pub(super) fn lock_order(entries: &[Entry]) -> Vec<u8> {
    match entries.first().map(|entry| &entry.work) {
        Some(Work::Fold(folding)) => order_of(&folding.target),
        Some(Work::Statement(statement)) => statement.text.clone().into_bytes(),
        None => Vec::new(),
    }
}

fn order_of(target: &Target) -> Vec<u8> {
    let mut order = target.table.to_string().into_bytes();
    order.push(0);
    order.extend(postcard::to_stdvec(&target.condition).unwrap_or_default());
    order
}

/// The number of the lock under which a missing row of this target is inserted.
pub(super) fn row_lock(target: &Target) -> i64 {
    number_of(&order_of(target))
}

/// The number of the lock under which missing rows of this table are inserted many at a time.
pub(super) fn table_lock(table: &zmsg_core::TableName) -> i64 {
    number_of(table.to_string().as_bytes())
}

// Every process must come to the same number, in every version: FNV-1a, 64 bits.
fn number_of(bytes: &[u8]) -> i64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(bytes);
    hasher.finish().cast_signed()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_lock_is_that_of_fnv_1a() {
        assert_eq!(number_of(b"").cast_unsigned(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(number_of(b"foobar").cast_unsigned(), 0x8594_4171_f739_67e8);
    }
}
