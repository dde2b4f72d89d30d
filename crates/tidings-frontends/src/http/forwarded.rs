//! Who asks, when proxies stand between. Knows no request but its headers.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::limits::FORWARDED_HOPS_MAX;

/// Where proxies say for whom they ask.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether `address` is one of the operator's proxies.
pub(super) fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

/// The client's address: the rightmost one of `X-Forwarded-For` that is not a trusted proxy. What
/// stands left of it is the client's own claim. A chain that cannot be read ends at the last
/// trusted hop.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, proxies) {
        return peer;
    }
    let mut last = peer;
    let fields = headers.get_all(&FORWARDED_FOR).iter().rev();
    let hops = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        let Some(address) = address(hop) else { return last };
        if !is_trusted(address, proxies) {
            return address;
        }
        last = address;
    }
    last
}

/// An address as proxies write it: plain, in brackets, with or without a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

/// Reads `bytes` as fields of `X-Forwarded-For`, one a line, behind a trusted and a strange peer.
#[doc(hidden)]
pub fn fuzz_forwarded(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let lines = bytes.split(|byte| *byte == b'\n');
    for field in lines.filter_map(|line| http::HeaderValue::from_bytes(line).ok()) {
        headers.append("x-forwarded-for", field);
    }
    let proxies = [IpNet::from(IpAddr::from([10, 0, 0, 0]))];
    for peer in [IpAddr::from([10, 0, 0, 0]), IpAddr::from([192, 0, 2, 1])] {
        let found = client(peer, &headers, &proxies);
        assert!(found == peer || is_trusted(peer, &proxies), "a stranger named another address");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(peer: &str, fields: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append("x-forwarded-for", http::HeaderValue::from_str(field).unwrap());
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn a_stranger_cannot_name_another_address() {
        assert_eq!(asked("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(asked("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(asked("10.0.0.1", &["1.1.1.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(asked("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(asked("10.0.0.1", &["203.0.113.9:80 "]), "203.0.113.9");
        assert_eq!(asked("10.0.0.1", &["::ffff:203.0.113.9"]), "203.0.113.9");
        assert_eq!(asked("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
    }

    #[test]
    fn a_chain_that_cannot_be_read_ends_at_the_last_trusted_hop() {
        assert_eq!(asked("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(asked("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(asked("10.0.0.1", &["", ",,"]), "10.0.0.1");
        let chain = vec!["10.0.0.7"; 100].join(",");
        assert_eq!(asked("10.0.0.1", &[&format!("203.0.113.9,{chain}")]), "10.0.0.7");
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_its_own_address_stands(field in "[ -~]{0,64}") {
            prop_assert_eq!(asked("192.0.2.1", &[&field]), "192.0.2.1");
        }

        #[test]
        fn a_client_cannot_hide_behind_what_it_sends(field in "[ -+\\--~]{0,64}(,[ -~]{0,20})?") {
            let fields = [field.as_str(), "198.51.100.4"];
            prop_assert_eq!(asked("10.0.0.1", &fields), "198.51.100.4");
        }
    }
}
