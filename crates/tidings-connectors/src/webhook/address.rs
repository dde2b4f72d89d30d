//! Which addresses a sink may be sent to. What a tenant names must not lead behind the operator's
//! walls. Knows no request and opens no connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::{Host, Url};

use crate::limits::{ADDRESSES_MAX, LOOK_UP_TIMEOUT, LOOK_UPS_MAX};

/// Places for look-ups. A place is held until its thread is free again, not only until nobody
/// waits for it any more.
static LOOK_UPS: Semaphore = Semaphore::const_new(LOOK_UPS_MAX);

/// Who may be reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    /// Internal networks that may be reached in spite of the guard; `None` without a guard.
    allow: Option<Arc<[IpNet]>>,
}

impl Egress {
    /// Everything: the operator's own URL.
    pub fn everything() -> Egress {
        Egress { allow: None }
    }

    /// The public network, and these networks.
    pub fn guarded(allow: Vec<IpNet>) -> Egress {
        Egress { allow: Some(allow.into()) }
    }

    /// The addresses of a URL's host with its port, at least one and at most
    /// [`ADDRESSES_MAX`]. Whoever connects must connect to one of these and resolve nothing again.
    ///
    /// # Errors
    /// When a URL must not be asked, or nobody knows where it leads. One forbidden address among
    /// several is enough: which of them is used is up to chance.
    pub async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, Refusal> {
        let port = self.port(url)?;
        let mut found = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Domain(name)) => look_up(name.to_owned(), port).await?,
            None => return Err(Refusal::NoHost),
        };
        match found.iter().find(|one| !self.may_reach(one.ip())) {
            Some(one) => Err(Refusal::Forbidden { address: one.ip() }),
            None => {
                found.truncate(ADDRESSES_MAX);
                Ok(found)
            }
        }
    }

    /// What of a URL can be judged without knowing where it leads.
    fn port(&self, url: &Url) -> Result<u16, Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme);
        }
        let port = url.port_or_known_default().ok_or(Refusal::Scheme)?;
        if self.allow.is_some() {
            if !url.username().is_empty() || url.password().is_some() {
                return Err(Refusal::UserName);
            }
            if BAD_PORTS.contains(&port) {
                return Err(Refusal::Port(port));
            }
        }
        Ok(port)
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        let Some(allow) = &self.allow else { return true };
        let plain = address.to_canonical();
        let is_allowed = |net: &IpNet| net.contains(&address) || net.contains(&plain);
        !is_internal(address) || allow.iter().any(is_allowed)
    }
}

/// Why a URL is not asked. The fault of whoever wrote it, except where nobody knows the name.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It leads behind the walls.
    #[error(
        "it leads to {address}, which is no address of the public network; \
         if that is meant, add it to `allow`"
    )]
    Forbidden {
        /// Where it leads.
        address: IpAddr,
    },
    /// Nobody knows where it leads.
    #[error("its name could not be resolved: {0}")]
    Unresolved(io::Error),
    /// It is neither `http` nor `https`.
    #[error("its scheme must be `https` or `http`")]
    Scheme,
    /// There is a user name or a password in it.
    #[error("a user name does not belong into a URL; set `basic` in its place")]
    UserName,
    /// A port of another protocol, which a request could be made to speak.
    #[error("port {0} belongs to another protocol, and browsers refuse it too; use another one")]
    Port(u16),
    /// There is no host in it.
    #[error("it names no host")]
    NoHost,
    /// Nobody answered in time.
    #[error("its name was not resolved within {} s", LOOK_UP_TIMEOUT.as_secs())]
    TimedOut,
}

/// Asks the system for the addresses of a name. At least one.
async fn look_up(name: String, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
    let looking = async {
        // Only a closed semaphore gives none, and nobody closes this one.
        let place = LOOK_UPS.acquire().await.map_err(|_| io::ErrorKind::Interrupted)?;
        let looked = spawn_blocking(move || {
            let _held = place;
            (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        });
        looked.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))?
    };
    match timeout(LOOK_UP_TIMEOUT, looking).await {
        Err(_) => Err(Refusal::TimedOut),
        Ok(Err(error)) => Err(Refusal::Unresolved(error)),
        Ok(Ok(found)) if found.is_empty() => {
            Err(Refusal::Unresolved(io::ErrorKind::NotFound.into()))
        }
        Ok(Ok(found)) => Ok(found),
    }
}

/// Whether an address is of this machine, of a network of somebody's own, or of nobody: whatever
/// the registries of special-purpose addresses list (RFC 6890), and what is unassigned.
pub fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_internal_v4(address),
        IpAddr::V6(address) => is_internal_v6(address),
    }
}

fn is_internal_v4(address: Ipv4Addr) -> bool {
    SPECIAL_V4.iter().any(|net| net.contains(&address))
}

fn is_internal_v6(address: Ipv6Addr) -> bool {
    if let Some(carried) = translated(address) {
        return is_internal_v4(carried);
    }
    !GLOBAL_V6.contains(&address)
        || SPECIAL_V6.iter().any(|net| net.contains(&address))
        || is_tunnel_end(address)
}

/// The address of version 4 to which every NAT64 gateway passes on what is sent to one of version
/// 6 (RFC 6052, 2.1).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Whether it is the end of an ISATAP tunnel, whose last four bytes are an address of version 4 in
/// somebody's own network (RFC 5214, 6.1). The two bits that are masked say "universal" and "group".
fn is_tunnel_end(address: Ipv6Addr) -> bool {
    let [.., marks, kind, _, _] = address.segments();
    marks & !0x0300 == 0 && kind == 0x5efe
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

/// A network of version 6 by the first four groups of its address.
const fn v6(first: [u16; 4], bits: u8) -> Ipv6Net {
    let [a, b, c, d] = first;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), bits)
}

/// The IANA registry of special-purpose addresses of version 4.
const SPECIAL_V4: [Ipv4Net; 19] = [
    v4(0, 0, 0, 0, 8),     // this network (RFC 791)
    v4(10, 0, 0, 0, 8),    // private (RFC 1918)
    v4(100, 64, 0, 0, 10), // shared behind a provider's translation (RFC 6598)
    v4(127, 0, 0, 0, 8),   // this machine (RFC 1122)
    // Where clouds tell a machine its secrets: without DHCP (RFC 3927), and one cloud's own.
    v4(169, 254, 0, 0, 16),
    v4(168, 63, 129, 16, 32),
    v4(172, 16, 0, 0, 12),   // private (RFC 1918)
    v4(192, 0, 0, 0, 24),    // protocols (RFC 6890)
    v4(192, 0, 2, 0, 24),    // documentation (RFC 5737)
    v4(192, 31, 196, 0, 24), // AS112 (RFC 7535)
    v4(192, 52, 193, 0, 24), // AMT (RFC 7450)
    v4(192, 88, 99, 0, 24),  // 6to4 relays (RFC 7526)
    v4(192, 168, 0, 0, 16),  // private (RFC 1918)
    v4(192, 175, 48, 0, 24), // AS112 (RFC 7534)
    v4(198, 18, 0, 0, 15),   // benchmarks (RFC 2544)
    v4(198, 51, 100, 0, 24), // documentation (RFC 5737)
    v4(203, 0, 113, 0, 24),  // documentation (RFC 5737)
    v4(224, 0, 0, 0, 4),     // multicast (RFC 5771)
    v4(240, 0, 0, 0, 4),     // reserved (RFC 1112), and broadcast
];

/// All that is assigned for use between networks (RFC 4291, 2.4). Outside of it are this machine,
/// link-local, site-local and unique local addresses, multicast, the discard prefix, the forms that
/// carry an address of version 4, and what nobody has. The local prefix of NAT64, 64:ff9b:1::/48
/// (RFC 8215), is outside too: where in it an address of version 4 stands is each network's own.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// What of [`GLOBAL_V6`] the IANA registry of special-purpose addresses lists.
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0, 0], 23), // protocols (RFC 2928), Teredo (RFC 4380) among them
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation (RFC 3849)
    v6([0x2002, 0, 0, 0], 16), // 6to4, which carries an address of version 4 (RFC 3056)
    v6([0x2620, 0x4f, 0x8000, 0], 48), // AS112 (RFC 7534)
    v6([0x3fff, 0, 0, 0], 20), // documentation (RFC 9637)
];

/// Ports that a browser does not send requests to (the Fetch standard, "port blocking").
#[rustfmt::skip]
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
];
