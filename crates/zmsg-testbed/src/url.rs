//! URLs of servers, as far as tests have to change them.

use std::ops::Range;

/// `host:port` of a URL, with the usual port of its scheme; what is no URL is taken as it is.
pub(crate) fn address(url: &str) -> String {
    let authority = &url[authority(url)];
    // A port stands behind the last colon, unless that is one of an IPv6 address.
    let has_port = authority.rfind(':').is_some_and(|at| !authority[at..].contains(']'));
    match url.split_once("://") {
        Some((scheme, _)) if !has_port && scheme.starts_with("redis") => {
            format!("{authority}:6379")
        }
        Some(_) if !has_port => format!("{authority}:5432"),
        _ => authority.to_owned(),
    }
}

/// The URL with another host and port.
pub(crate) fn with_address(url: &str, address: &str) -> String {
    let Range { start, end } = authority(url);
    format!("{}{address}{}", &url[..start], &url[end..])
}

/// The URL with another database, its query kept.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    format!("{}/{name}{query}", &address[..authority(address).end])
}

/// Where host and port stand, without user and password.
fn authority(url: &str) -> Range<usize> {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?']).map_or(url.len(), |at| begin + at);
    let begin = url[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    begin..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_nothing_else() {
        for (url, replaced) in [
            ("postgres://u@h:1/postgres", "postgres://u@h:1/x"),
            ("postgres://u:p@h", "postgres://u:p@h/x"),
            ("postgres://h/a?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "x"), replaced);
        }
    }

    #[test]
    fn the_address_of_a_url_is_replaced_and_nothing_else() {
        for (url, replaced) in [
            ("postgres://u:p@h:1/db?a=b", "postgres://u:p@127.0.0.1:9/db?a=b"),
            ("redis://:p@h/", "redis://:p@127.0.0.1:9/"),
            ("postgres://h", "postgres://127.0.0.1:9"),
        ] {
            assert_eq!(with_address(url, "127.0.0.1:9"), replaced);
        }
    }

    #[test]
    fn the_address_of_a_url_has_a_port() {
        for (url, found) in [
            ("postgres://u:p@h/db", "h:5432"),
            ("redis://h", "h:6379"),
            ("redis://[::1]/", "[::1]:6379"),
            ("redis://[::1]:7/", "[::1]:7"),
            ("127.0.0.1:9", "127.0.0.1:9"),
        ] {
            assert_eq!(address(url), found);
        }
    }
}
