//! Addresses in the manner of a Caddyfile: `:80`, `http://hub.example.com`, `localhost`. Knows
//! that names without `http://` mean TLS there, and that there is no TLS here.

use url::Url;

/// What a list of addresses says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Socket addresses, each once.
    pub(super) listen: Vec<String>,
    /// The first that names one host is how clients know the hub.
    pub(super) public_url: Option<String>,
}

/// Reads addresses separated by spaces or commas.
pub(super) fn parse(text: &str) -> Result<Served, String> {
    let mut served = Served { listen: Vec::new(), public_url: None };
    for address in text.split([',', ' ', '\n', '\t']).filter(|address| !address.is_empty()) {
        let (listen, public_url) = one(address)?;
        if !served.listen.contains(&listen) {
            served.listen.push(listen);
        }
        served.public_url = served.public_url.or(public_url);
    }
    if served.listen.is_empty() {
        return Err("has no address".to_owned());
    }
    Ok(served)
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
    fn what_needs_tls_or_is_no_address_is_refused() {
        for text in ["localhost", "hub.example.com", "https://a", "https://:8443", "a:8443", ":443"]
        {
            assert!(parse(text).unwrap_err().contains("needs TLS"), "{text}");
        }
        for text in ["", "ftp://a", "http://a/b", ":99999", "http://a b{"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
