//! Addresses in the manner of a Caddyfile: `:80`, `http://hub.example.com`, `hub.example.com`.
//! Knows that names without `http://` mean TLS there, and for which of them a certificate can be
//! ordered.

use url::Url;

/// What a list of addresses says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Socket addresses, each once.
    pub(super) listen: Vec<String>,
    /// Names to order a certificate for and to serve on port 443.
    pub(super) domains: Vec<String>,
    /// Whether port 80 is there for nothing but the way to port 443.
    pub(super) redirect: bool,
    /// The first that names one host is how clients know the hub.
    pub(super) public_url: Option<String>,
}

/// Reads addresses separated by spaces or commas.
pub(super) fn parse(text: &str) -> Result<Served, String> {
    let mut served =
        Served { listen: Vec::new(), domains: Vec::new(), redirect: false, public_url: None };
    for address in text.split([',', ' ', '\n', '\t']).filter(|address| !address.is_empty()) {
        if let Some(domain) = automatic(address) {
            served.public_url.get_or_insert_with(|| format!("https://{domain}"));
            if !served.domains.iter().any(|known| known == domain) {
                served.domains.push(domain.to_owned());
            }
            continue;
        }
        let (listen, public_url) = one(address)?;
        if !served.listen.contains(&listen) {
            served.listen.push(listen);
        }
        served.public_url = served.public_url.or(public_url);
    }
    if served.listen.is_empty() && !served.domains.is_empty() {
        served.listen.push("0.0.0.0:80".to_owned());
        served.redirect = true;
    }
    if served.listen.is_empty() {
        return Err("has no address".to_owned());
    }
    Ok(served)
}

/// The name in an address for which public servers issue certificates, and which they validate on
/// the port that it is served on.
fn automatic(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("https://").unwrap_or(address).trim_end_matches('/');
    let host = rest.strip_suffix(":443").unwrap_or(rest);
    let labels: Vec<&str> = host.split('.').collect();
    let is_label = |label: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(plain)
    };
    let last = labels.last()?;
    let local = ["internal", "invalid", "lan", "local", "localhost", "test"];
    let public = !local.iter().any(|name| last.eq_ignore_ascii_case(name))
        && last.starts_with(|first: char| first.is_ascii_alphabetic());
    (labels.len() > 1 && public && labels.iter().all(is_label)).then_some(host)
}

fn one(address: &str) -> Result<(String, Option<String>), String> {
    let bad = || format!("{address:?} is not an address");
    let needs_tls = || Err(format!("{address:?} needs TLS"));
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest.trim_end_matches('/')),
        None => (None, address),
    };
    if rest.contains(['/', '@', '?', '#', '{', '}']) {
        return Err(bad());
    }
    if let (None, Ok(address)) = (scheme, rest.parse::<std::net::SocketAddr>()) {
        return if address.port() == 443 { needs_tls() } else { Ok((rest.to_owned(), None)) };
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, Some(port.parse::<u16>().map_err(|_| bad())?))
        }
        _ => (rest, None),
    };
    match (scheme, port) {
        (Some("http"), Some(443)) | (None, Some(443) | None) | (Some("https"), _) => {
            return needs_tls();
        }
        // A name with another port than 80 gets TLS there, too.
        (None, Some(port)) if !host.is_empty() && port != 80 => return needs_tls(),
        (Some("http") | None, _) => {}
        (Some(_), _) => return Err(bad()),
    }
    let port = port.unwrap_or(80);
    let single = !host.is_empty() && !host.contains('*');
    let public_url = match single.then(|| Url::parse(&format!("http://{host}:{port}"))) {
        Some(Ok(url)) => Some(url.as_str().trim_end_matches('/').to_owned()),
        Some(Err(_)) => return Err(bad()),
        None => None,
    };
    Ok((format!("0.0.0.0:{port}"), public_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_tls_are_read() {
        for (text, listen, public_url) in [
            (":80", vec!["0.0.0.0:80"], None),
            (":3000", vec!["0.0.0.0:3000"], None),
            ("http://:8080", vec!["0.0.0.0:8080"], None),
            ("http://localhost", vec!["0.0.0.0:80"], Some("http://localhost")),
            ("http://hub.example:8080", vec!["0.0.0.0:8080"], Some("http://hub.example:8080")),
            ("hub.example:80", vec!["0.0.0.0:80"], Some("http://hub.example")),
            (":80, http://php", vec!["0.0.0.0:80"], Some("http://php")),
            ("127.0.0.1:3000", vec!["127.0.0.1:3000"], None),
            ("http://*.example.com", vec!["0.0.0.0:80"], None),
        ] {
            let served = parse(text).unwrap();
            assert_eq!(served.listen, listen, "{text}");
            assert_eq!(served.public_url.as_deref(), public_url, "{text}");
        }
    }

    #[test]
    fn public_names_get_a_certificate_and_port_80_leads_to_them() {
        for text in ["hub.example.com", "https://hub.example.com/", "hub.example.com:443"] {
            let served = parse(text).unwrap();
            assert_eq!(served.domains, ["hub.example.com"], "{text}");
            assert_eq!(served.public_url.as_deref(), Some("https://hub.example.com"), "{text}");
            assert_eq!((served.listen, served.redirect), (vec!["0.0.0.0:80".to_owned()], true));
        }
        let both = parse("a.example.com, b.example.com, http://php").unwrap();
        assert_eq!(both.domains, ["a.example.com", "b.example.com"]);
        assert_eq!((both.listen, both.redirect), (vec!["0.0.0.0:80".to_owned()], false));
        assert_eq!(both.public_url.as_deref(), Some("https://a.example.com"));
        for text in ["203.0.113.7", "*.example.com", "hub.example.com:8443", "hub"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_needs_tls_or_is_no_address_is_refused() {
        for text in ["localhost", "hub.local", "https://a", "https://:8443", "a.b:8443", ":443"] {
            assert!(parse(text).unwrap_err().contains("needs TLS"), "{text}");
        }
        for text in ["", "ftp://a", "http://a/b", ":99999", "http://a b{"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
