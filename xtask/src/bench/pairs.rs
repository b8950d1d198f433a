//! Which figures belong side by side, and how much better one is than the other.

use super::figures::{Figure, Unit};
use super::statistics::{Middle, beside};

/// Ours, and that of a peer.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) own: &'a Figure,
    pub(super) peer: &'a Figure,
    /// How many times as good ours is: as fast, with as many hits, or with as few allocations.
    pub(super) ratio: Middle,
}

/// All pairs, in the order of the figures: zmsg with each peer of its case, and `zmsg over X` or
/// `zmsg on X` with X.
pub(super) fn pairs(figures: &[Figure]) -> Vec<Pair<'_>> {
    let own = figures.iter().filter(|figure| is_ours(&figure.who));
    own.flat_map(|own| {
        let peers = figures.iter().filter(|peer| own.is_beside(peer) && is_peer(own, peer));
        peers.filter_map(|peer| Some(Pair { own, peer, ratio: speed(own, peer)? }))
    })
    .collect()
}

fn is_ours(who: &str) -> bool {
    who.strip_prefix("zmsg").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',']))
}

fn is_peer(own: &Figure, peer: &Figure) -> bool {
    let under = ["zmsg over ", "zmsg on "].iter().find_map(|it| own.who.strip_prefix(it));
    !is_ours(&peer.who) && under.is_none_or(|under| under == peer.who)
}

/// How many times as good one is as the other, whatever the unit.
pub(super) fn speed(one: &Figure, other: &Figure) -> Option<Middle> {
    let (over, under) = match one.unit {
        Unit::PerSecond | Unit::Percent => (one, other),
        Unit::Nanoseconds
        | Unit::Allocations
        | Unit::Bytes
        | Unit::Held
        | Unit::Wrong
        | Unit::Instructions => (other, one),
    };
    if one.in_turns && other.in_turns && one.samples.len() == other.samples.len() {
        beside(&over.samples, &under.samples)
    } else {
        Some(Middle::of(&over.samples)?.over(Middle::of(&under.samples)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::figure;
    use super::super::statistics::Verdict;
    use super::*;

    #[test]
    fn zmsg_stands_beside_every_peer_and_a_backend_beside_its_own() {
        let figures: Vec<_> = ["zmsg", "moka", "zmsg over moka", "stretto"]
            .map(|who| figure("get", who, Unit::Nanoseconds, &[1.0]))
            .into();
        let found: Vec<_> =
            pairs(&figures).iter().map(|it| (it.own.who.clone(), it.peer.who.clone())).collect();
        let expected = [("zmsg", "moka"), ("zmsg", "stretto"), ("zmsg over moka", "moka")];
        assert_eq!(found, expected.map(|(own, peer)| (own.to_owned(), peer.to_owned())));
    }

    #[test]
    fn faster_is_more_per_second_and_fewer_nanoseconds() {
        for (unit, own, peer) in [(Unit::PerSecond, 6.0, 3.0), (Unit::Nanoseconds, 3.0, 6.0)] {
            let figures =
                [figure("get", "zmsg", unit, &[own; 7]), figure("get", "moka", unit, &[peer; 7])];
            assert_eq!(pairs(&figures)[0].ratio.median, 2.0, "{unit:?}");
        }
    }

    #[test]
    fn fewer_allocations_are_better_and_none_beside_none_is_equal() {
        let of = |own: f64, peer: f64| {
            let figures = [("zmsg", own), ("moka", peer)]
                .map(|(who, count)| figure("get", who, Unit::Allocations, &[count; 7]));
            pairs(&figures)[0].ratio
        };
        assert_eq!((of(2.0, 4.0).median, Verdict::of(of(2.0, 4.0))), (2.0, Verdict::Better));
        assert_eq!((of(0.0, 0.0).median, Verdict::of(of(0.0, 0.0))), (1.0, Verdict::Equal));
        assert_eq!(Verdict::of(of(0.0, 3.0)), Verdict::Better);
        assert_eq!((of(3.0, 0.0).median, Verdict::of(of(3.0, 0.0))), (0.0, Verdict::Worse));
    }
}
