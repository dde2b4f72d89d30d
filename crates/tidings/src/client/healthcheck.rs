//! `tidings healthcheck`: whether the hub of a configuration is ready, by the exit code. Knows only
//! the admin listener's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ClientProblem, client, refused};
use crate::limits::HEALTHCHECK_TIMEOUT;

/// Asks the admin listener on `address` whether the hub is ready.
///
/// # Errors
///
/// When it is not, does not answer in time, or there is no admin listener.
pub async fn healthcheck(address: Option<SocketAddr>) -> Result<(), ClientProblem> {
    let address = reachable(address.ok_or(ClientProblem::NoAdminListener)?);
    let client = client(Some(HEALTHCHECK_TIMEOUT))?;
    let response = client.get(format!("http://{address}/readyz")).send().await?;
    if response.status().is_success() { Ok(()) } else { Err(refused(response).await) }
}

/// Who listens on every address is asked on this machine's own.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(reachable("10.1.2.3:1".parse().unwrap()).to_string(), "10.1.2.3:1");
    }
}
