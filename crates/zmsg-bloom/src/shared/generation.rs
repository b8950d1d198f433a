//! The name and the shape of a generation that several nodes fill.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zmsg_core::Result;

use crate::{Header, KeyHash, Params};

/// A generation as the state names it: which bits, how keys are placed in them, and which server
/// holds them.
///
/// It is compared by its text. A text that this version cannot read is a generation all the same:
/// one that takes no keys and answers nothing.
#[derive(Clone)]
pub struct SharedGeneration {
    text: Arc<str>,
    shape: Option<Shape>,
}

/// How keys are placed in a generation, and where it is.
///
/// Its bits are spread over `segments` strings of `segment_bits` each; all bits of a key are in one
/// of them. Bit `segment_bits` of each is the sentinel, set when the generation is made: a string
/// without it is not the one that was filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Later generations have higher numbers.
    pub number: u64,
    /// Random, so that no name occurs twice even if the state was restored from a backup.
    pub nonce: u64,
    /// Who builds it: random for every filter of every process.
    pub builder: u64,
    /// Keys it was sized for, and its rate of wrong "maybe".
    pub params: Params,
    /// How many strings.
    pub segments: u32,
    /// Bits of each, without the sentinel.
    pub segment_bits: u64,
    /// Bits set for each key.
    pub hashes: u32,
    /// The seed of the hash.
    pub seed: u64,
    /// The server and the stretch of its history in which it was made; empty until it is made.
    pub identity: String,
}

/// The bits of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: u32,
    /// At which positions in it.
    pub offsets: Vec<u64>,
}

impl SharedGeneration {
    /// The generation of a text that [`as_str`](Self::as_str) gave, of this version or another.
    pub fn from_text(text: &str) -> Self {
        Self { text: text.into(), shape: Shape::parse(text) }
    }

    /// The text that stands for it in the state.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How keys are placed in it; `None` if another version made it.
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }
}

impl From<Shape> for SharedGeneration {
    fn from(shape: Shape) -> Self {
        Self { text: format!("{} {}", shape.layout(), shape.identity).into(), shape: Some(shape) }
    }
}

impl PartialEq for SharedGeneration {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SharedGeneration {}

/// Shows the number only: the text has the seed in it.
impl fmt::Debug for SharedGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.shape.as_ref().map(|shape| shape.number);
        f.debug_struct("SharedGeneration").field("number", &number).finish_non_exhaustive()
    }
}

impl Shape {
    /// The shape of a generation for `capacity` keys, in strings of at most `segment_bits_max`.
    ///
    /// # Errors
    /// `InvalidConfig` as [`Params::new`] says.
    pub(crate) fn new(capacity: u64, error_rate: f64, segment_bits_max: u64) -> Result<Self> {
        let params = Params::new(capacity, error_rate)?;
        let segments = params.bits().div_ceil(segment_bits_max.max(64)).max(1);
        Ok(Self {
            number: 0,
            nonce: 0,
            builder: 0,
            params,
            segments: u32::try_from(segments).unwrap_or(u32::MAX),
            segment_bits: params.bits().div_ceil(segments),
            hashes: params.hashes(),
            seed: 0,
            identity: String::new(),
        })
    }

    /// What its keys in the backend are named after. It tells the number of segments, so that a
    /// generation can be removed of which nothing else is known.
    pub fn name(&self) -> String {
        format!("{:x}-{:x}-{:x}", self.number, self.nonce, self.segments)
    }

    /// The number of segments of a generation of this [name](Self::name).
    pub fn segments_of(name: &str) -> Option<u32> {
        u32::from_str_radix(name.rsplit_once('-')?.1, 16).ok()
    }

    /// Everything that is fixed before it is made; kept beside the bits, so that bits of another
    /// layout are never reinterpreted.
    pub fn layout(&self) -> String {
        let Self { number, nonce, builder, params, segments, segment_bits, hashes, seed, .. } =
            self;
        let (format, capacity) = (Header::FORMAT, params.capacity());
        let rate = params.error_rate().to_bits();
        format!(
            "{format:x} {number:x} {nonce:x} {builder:x} {capacity:x} {rate:x} {segments:x} \
             {segment_bits:x} {hashes:x} {seed:x}"
        )
    }

    /// Bits of all segments, without the sentinels.
    pub fn bits(&self) -> u64 {
        u64::from(self.segments) * self.segment_bits
    }

    /// Where the bits of `key` are.
    pub fn place(&self, key: &str) -> Place {
        let hash = self.hash(key);
        let offsets = hash.positions(self.segment_bits, self.hashes).collect();
        Place { segment: hash.segment(self.segments), offsets }
    }

    pub(crate) fn hash(&self, key: &str) -> KeyHash {
        KeyHash::new(key, self.seed)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut next = || u64::from_str_radix(words.next()?, 16).ok();
        if next()? != u64::from(Header::FORMAT) {
            return None;
        }
        let (number, nonce, builder, capacity) = (next()?, next()?, next()?, next()?);
        let params = Params::new(capacity, f64::from_bits(next()?)).ok()?;
        let (segments, segment_bits) = (u32::try_from(next()?).ok()?, next()?);
        let (hashes, seed) = (u32::try_from(next()?).ok()?, next()?);
        let identity = String::from_str(words.next()?).ok()?;
        let known = words.next().is_none() && segments > 0 && segment_bits > 0 && hashes > 0;
        let whole = u64::from(segments).checked_mul(segment_bits)? <= 2 * Params::BITS_MAX;
        (known && whole).then_some(Self {
            number,
            nonce,
            builder,
            params,
            segments,
            segment_bits,
            hashes,
            seed,
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let shape = Shape::new(1_000_000, 0.01, 1 << 20).unwrap();
        let identity = "run:replication".to_owned();
        Shape { number: 7, nonce: 8, builder: 9, seed: u64::MAX, identity, ..shape }
    }

    #[test]
    fn a_generation_is_read_from_its_text_as_it_was() {
        let generation = SharedGeneration::from(shape());
        let read = SharedGeneration::from_text(generation.as_str());
        assert_eq!(read, generation);
        assert_eq!(read.shape(), Some(&shape()));
        assert_eq!(Shape::segments_of(&shape().name()), Some(shape().segments));
        assert!(!format!("{read:?}").contains("ffffffffffffffff"));
    }

    #[test]
    fn a_text_of_another_version_is_kept_and_has_no_shape() {
        for text in ["", "2 1", "1 2 3", "1 x 8 9 f4240 0 1 40 7 1 id", "garbage of another kind"] {
            let generation = SharedGeneration::from_text(text);
            assert_eq!((generation.as_str(), generation.shape()), (text, None));
        }
    }

    #[test]
    fn keys_are_spread_evenly_over_segments_and_stay_below_the_sentinel() {
        let shape = shape();
        assert_eq!((shape.segments, shape.hashes), (10, 7));
        assert!(shape.bits() >= shape.params.bits());
        let mut keys = vec![0u32; shape.segments as usize];
        for number in 0..20_000 {
            let place = shape.place(&format!("feed_{number}"));
            assert!(place.offsets.iter().all(|offset| *offset < shape.segment_bits));
            keys[place.segment as usize] += 1;
        }
        assert!(keys.iter().all(|keys| (1_800..2_200).contains(keys)), "{keys:?}");
    }
}
