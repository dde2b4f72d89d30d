//! Which addresses a document from outside may send the hub to: not those behind the operator's
//! own walls, unless the document is from there itself. Knows no key set and makes no request.

use std::io;
use std::net::SocketAddr;

use tidings_connectors::webhook::is_internal;
use url::{Host, Url};

/// Where to go for a URL that a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// To wherever the document's own host is.
    AsBefore,
    /// To these addresses and no others, whatever the name resolves to the next time.
    Pinned(Vec<SocketAddr>),
}

/// Why a URL is not asked. The fault of whoever wrote the document.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// It leads behind the walls.
    #[error("an internal address, which an issuer elsewhere may not name")]
    Internal,
    /// Nobody knows where it leads.
    #[error("a host that cannot be resolved: {0}")]
    Unresolved(#[from] io::Error),
}

/// Where to go for `named`, which a document at `document` names.
///
/// # Errors
/// When one of its addresses is internal and none of the document's own is, and when it has none.
pub(super) async fn way(document: &Url, named: &Url) -> Result<Way, NoWay> {
    // Who is trusted with the document is trusted with its host.
    if document.host() == named.host() {
        return Ok(Way::AsBefore);
    }
    let found = match addresses(named).await {
        Ok(found) => found,
        // The proxy resolves, and goes from where it is.
        Err(_) if a_proxy_resolves() => return Ok(Way::AsBefore),
        Err(error) => return Err(NoWay::Unresolved(error)),
    };
    let leads_inside = |found: &[SocketAddr]| found.iter().any(|one| is_internal(one.ip()));
    // Asked only now: an issuer behind the walls has its neighbours there.
    if leads_inside(&found) && !addresses(document).await.is_ok_and(|own| leads_inside(&own)) {
        return Err(NoWay::Internal);
    }
    Ok(Way::Pinned(found))
}

/// The addresses of a URL's host, at least one, with its port.
async fn addresses(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(443);
    let found = match url.host() {
        Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
        Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
        Some(Host::Domain(name)) => tokio::net::lookup_host((name, port)).await?.collect(),
        None => Vec::new(),
    };
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

fn a_proxy_resolves() -> bool {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn judged(document: &str, named: &str) -> Result<Way, String> {
        let way = way(&document.parse().unwrap(), &named.parse().unwrap()).await;
        way.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn m78_an_issuer_elsewhere_may_not_name_an_internal_address() {
        for named in [
            "https://127.0.0.1/keys",
            "https://127.9.9.9:8443/keys",
            "https://2130706433/keys",
            "https://0.0.0.0/keys",
            "https://0.1.2.3/keys",
            "https://10.1.2.3/keys",
            "https://172.16.0.1/keys",
            "https://192.168.1.1/keys",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/keys",
            "https://255.255.255.255/keys",
            "https://224.0.0.1/keys",
            "https://203.0.113.1/keys",
            "https://198.18.0.1/keys",
            "https://[::1]/keys",
            "https://[::]/keys",
            "https://[fd00::1]/keys",
            "https://[fe80::1]/keys",
            "https://[ff02::1]/keys",
            "https://[::ffff:10.0.0.1]/keys",
            "https://[::7f00:1]/keys",
            "https://[64:ff9b::a9fe:a9fe]/keys",
            "https://[64:ff9b:1::a00:1]/keys",
            "https://[2002:7f00:1::]/keys",
            // Known to every machine without a network.
            "https://localhost/keys",
        ] {
            for document in ["https://9.9.9.7/realm", "https://[2620:fe::7]/realm"] {
                let refused = judged(document, named).await.unwrap_err();
                assert!(refused.contains("internal address"), "{named}: {refused}");
            }
            let neighbour = judged("https://10.9.9.9/realm", named).await;
            assert!(matches!(neighbour, Ok(Way::Pinned(_))), "{named}: {neighbour:?}");
            assert!(judged("http://localhost:9/realm", named).await.is_ok(), "{named}");
        }
    }

    #[tokio::test]
    async fn addresses_of_everybody_are_pinned_and_the_issuers_own_host_is_as_before() {
        let pinned = |address: &str| Ok(Way::Pinned(vec![address.parse().unwrap()]));
        let issuer = "https://9.9.9.7/realm";
        assert_eq!(judged(issuer, "https://8.8.8.8/k").await, pinned("8.8.8.8:443"));
        let eight = judged(issuer, "https://[2620:fe::8]:8443/k").await;
        assert_eq!(eight, pinned("[2620:fe::8]:8443"));
        assert_eq!(judged(issuer, "https://172.32.0.1/k").await, pinned("172.32.0.1:443"));
        assert_eq!(judged(issuer, "https://100.128.0.1/k").await, pinned("100.128.0.1:443"));
        assert_eq!(judged(issuer, "https://9.9.9.7:8443/k").await, Ok(Way::AsBefore));
        let same = judged("https://idp.invalid/realm", "https://idp.invalid/k").await;
        assert_eq!(same, Ok(Way::AsBefore));
    }

    #[tokio::test]
    async fn what_cannot_be_resolved_is_not_asked() {
        if a_proxy_resolves() {
            return;
        }
        let refused = judged("https://9.9.9.7/realm", "https://keys.invalid/k").await;
        assert!(refused.unwrap_err().contains("cannot be resolved"));
    }
}
