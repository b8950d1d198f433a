//! `numeric` as it comes over the wire: groups of four decimal digits.

const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;
const MINUS: u16 = 0x4000;

/// The text that the server would show.
pub(super) fn text(raw: &[u8]) -> Option<String> {
    let field = |at: usize| Some(u16::from_be_bytes(*raw.get(at..)?.first_chunk()?));
    let (count, weight, sign, scale) = (field(0)?, field(2)? as i16, field(4)?, field(6)?);
    match sign {
        NAN => return Some("NaN".to_owned()),
        INFINITY => return Some("Infinity".to_owned()),
        MINUS_INFINITY => return Some("-Infinity".to_owned()),
        _ => {}
    }
    let groups: Option<Vec<u16>> =
        (0..usize::from(count)).map(|index| field(8 + 2 * index)).collect();
    let groups = groups?;
    // The group with the weight w counts ten thousands to the power of w.
    let group = |power: i32| {
        let index = i32::from(weight) - power;
        usize::try_from(index).ok().and_then(|index| groups.get(index)).copied().unwrap_or(0)
    };
    let mut out = String::new();
    if sign == MINUS {
        out.push('-');
    }
    let highest = i32::from(weight).max(0);
    out.push_str(&group(highest).to_string());
    for power in (0..highest).rev() {
        out.push_str(&format!("{:04}", group(power)));
    }
    let mut digits = String::new();
    let mut power = -1;
    while digits.len() < usize::from(scale) {
        digits.push_str(&format!("{:04}", group(power)));
        power -= 1;
    }
    digits.truncate(usize::from(scale));
    if !digits.is_empty() {
        out.push('.');
        out.push_str(&digits);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> String {
        let header = [groups.len() as u16, weight as u16, sign, scale];
        let raw: Vec<u8> = header.iter().chain(groups).flat_map(|it| it.to_be_bytes()).collect();
        text(&raw).unwrap()
    }

    #[test]
    fn numbers_are_shown_as_the_server_shows_them() {
        assert_eq!(shown(0, 0, 0, &[]), "0");
        assert_eq!(shown(0, 0, 2, &[]), "0.00");
        assert_eq!(shown(0, 0, 0, &[7]), "7");
        assert_eq!(shown(1, MINUS, 0, &[12, 345]), "-120345");
        assert_eq!(shown(2, 0, 0, &[1]), "100000000");
        assert_eq!(shown(0, 0, 3, &[1, 2500]), "1.250");
        assert_eq!(shown(-2, 0, 8, &[12]), "0.00000012");
        assert_eq!(shown(0, NAN, 0, &[]), "NaN");
        assert_eq!(shown(0, MINUS_INFINITY, 0, &[]), "-Infinity");
        assert_eq!(text(&[0, 1]), None);
        assert_eq!(text(&[0, 9, 0, 0, 0, 0, 0, 0]), None);
    }
}
