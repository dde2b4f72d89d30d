//! Where a relay takes messages from and where it sends them: addresses as people write them. Knows
//! no variable.

use percent_encoding::percent_decode_str;
use tidings_connectors::webhook::is_internal;
use url::{Host, Url};

/// The port of a NATS server that none is written for.
const NATS_PORT: u16 = 4222;
/// The ends of names that each network, or each machine, has for itself (RFC 6761, RFC 6762,
/// RFC 8375, and the one that ICANN keeps for this).
const OWN_NAMES: [&str; 8] = [
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home.arpa",
    ".test",
    ".invalid",
    ".localdomain",
];

/// A destination without the user in it, and that user with its password.
pub(super) type Destination = (Url, Option<(String, String)>);

/// A destination, if it is an http or https URL.
pub(super) fn destination(text: &str) -> Option<Destination> {
    let mut url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let has_user = !url.username().is_empty() || url.password().is_some();
    let basic =
        has_user.then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
    // Which is for browsers, and is never sent.
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some((url, basic))
}

/// A server's address with its scheme and port.
pub(super) fn server(text: &str) -> Option<String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url = Url::parse(&whole).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let is_known = matches!(url.scheme(), "nats" | "tls") && url.fragment().is_none();
    if !is_bare || !is_known || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    if url.port().is_none() {
        url.set_port(Some(NATS_PORT)).ok()?;
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// The same servers, without who logs in there.
pub(super) fn without_login(servers: Vec<String>) -> Vec<String> {
    let without = |server: String| {
        let (Some((scheme, _)), Some((_, host))) =
            (server.split_once("://"), server.rsplit_once('@'))
        else {
            return server;
        };
        format!("{scheme}://{host}")
    };
    servers.into_iter().map(without).collect()
}

/// Whether a URL means the same place wherever it is used.
pub(super) fn is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.contains('.') && !OWN_NAMES.iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(address)) => !is_internal(address.into()),
        Some(Host::Ipv6(address)) => !is_internal(address.into()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_a_network_of_its_own_are_not_public() {
        for (host, expected) in [
            ("example.com", true),
            ("example.com.", true),
            ("8.8.8.8", true),
            ("[2606:4700::1111]", true),
            ("localhost", false),
            ("next", false),
            ("LOCALHOST.", false),
            ("app.localhost", false),
            ("host.docker.internal", false),
            ("frontend.default.svc.cluster.local", false),
            ("127.0.0.1", false),
            ("192.168.1.2", false),
            ("[::1]", false),
            ("[fd00::1]", false),
        ] {
            let url = Url::parse(&format!("http://{host}:3000/api")).unwrap();
            assert_eq!(is_public(&url), expected, "{host}");
        }
    }
}
