//! Which addresses a sink may be sent to. What a tenant names must not lead behind the operator's
//! walls. Knows no request and opens no connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use super::names::{Pace, look_up};
use crate::limits::{ADDRESSES_MAX, LOOK_UP_TIMEOUT};

/// Who may be reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    /// Internal networks that may be reached in spite of the guard; `None` without a guard.
    allow: Option<Arc<[IpNet]>>,
    /// How long its names took, shared by all clones.
    pace: Arc<Pace>,
}

impl Egress {
    /// Everything: the operator's own URL.
    pub fn everything() -> Egress {
        Egress { allow: None, pace: Arc::default() }
    }

    /// The public network, and these networks.
    pub fn guarded(allow: Vec<IpNet>) -> Egress {
        Egress { allow: Some(allow.into()), pace: Arc::default() }
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
            Some(Host::Domain(name)) => look_up(name.to_owned(), port, &self.pace).await?,
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
/// somebody's own network (RFC 5214, 6.1). The two masked bits say "universal" and "group".
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Spellings of addresses that must not be reached.
    const FORBIDDEN: &[&str] = &[
        // This machine, in every way to write a number.
        "http://127.0.0.1/",
        "http://127.9.9.9:8443/",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0X7F.0.0.1/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0177.0.0.01/",
        "http://127.0.0.1./",
        "http://127.0.0.1.:80/",
        "http://%31%32%37%2e%30%2e%30%2e%31/",
        "http://127%2E0%2E0%2E1/",
        "http://１２７.０.０.１/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://127．0．0．1/",
        "http:\\\\127.0.0.1\\",
        "http:127.0.0.1",
        "http:///127.0.0.1/",
        "http://\t127.0.0.1/",
        "http://127.0.\n0.1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0.1.2.3/",
        "http://00000000/",
        "http://0x/",
        "http://127.0.0.0x/",
        "http://localhost/",
        "http://LOCALHOST/",
        "http://loc%61lhost/",
        "http://ｌｏｃａｌｈｏｓｔ/",
        "http://ⓛocalhost/",
        // Networks of somebody's own, and of nobody.
        "http://10.0.0.1/",
        "http://10.1/",
        "http://167772161/",
        "http://012.0.0.1/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://192.168.257/",
        "http://0xc0.0xa8.0x01.0x01/",
        "http://100.64.0.1/",
        "http://100.127.255.255/",
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://169.254.43518/",
        "http://0251.0376.0251.0376/",
        "http://168.63.129.16/",
        "http://100.100.100.200/",
        "http://192.0.0.192/",
        "http://192.0.2.1/",
        "http://192.88.99.1/",
        "http://198.18.0.1/",
        "http://198.19.255.255/",
        "http://198.51.100.1/",
        "http://203.0.113.1/",
        "http://224.0.0.1/",
        "http://239.255.255.255/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://4294967295/",
        // Version 6.
        "http://[::]/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
        "http://[::0.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[::7f00:1]/",
        "http://[::8.8.8.8]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:10.0.0.1]/",
        "http://[::FFFF:A9FE:A9FE]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[64:ff9b::10.1.2.3]/",
        "http://[64:ff9b:1::a00:1]/",
        "http://[64:ff9b:1:7f00:0:100::]/",
        "http://[64:ff9b:1::8.8.8.8]/",
        "http://[64:ff9b:0:1::1]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[2001::1]/",
        "http://[2001:0:53aa:64c:0:7fff:80ff:fffe]/",
        "http://[2001:10::1]/",
        "http://[2001:db8::1]/",
        "http://[3fff::1]/",
        "http://[2a00:1450::5efe:10.0.0.1]/",
        "http://[2a00:1450::200:5efe:a00:1]/",
        "http://[2620:4f:8000::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fdff:ffff::1]/",
        "http://[fe80::1]/",
        "http://[febf::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[ff0e::1]/",
        "http://[100::1]/",
        "http://[5f00::1]/",
        "http://[4000::1]/",
    ];

    /// What is no URL at all, so that nobody can read it in another way behind the guard.
    const NO_URLS: &[&str] = &[
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1%250]/",
        "http://256.0.0.1/",
        "http://127.0.0.1.5/",
        "http://0x100000000/",
        "http://1.2.3.256/",
        "http://08.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1%00.example.com/",
        "http://127.0.0.1%2f.example.com/",
        "http://127.0.0.1 .example.com/",
        "http://[127.0.0.1]/",
        "http://[::1/",
        "http://[::ffff:127.0.0.1.1]/",
        "http://[::ffff:0x7f.0.0.1]/",
        "http://",
        "127.0.0.1",
        "//127.0.0.1/",
    ];

    const PUBLIC: &[(&str, &str)] = &[
        ("http://8.8.8.8/", "8.8.8.8:80"),
        ("https://134744072/", "8.8.8.8:443"),
        ("https://[::ffff:8.8.8.8]/", "[::ffff:8.8.8.8]:443"),
        ("https://[64:ff9b::8.8.8.8]/", "[64:ff9b::808:808]:443"),
        ("https://[2606:4700::1111]:8443/", "[2606:4700::1111]:8443"),
        ("http://172.15.255.255:8080/", "172.15.255.255:8080"),
        ("http://172.32.0.1/", "172.32.0.1:80"),
        ("http://100.63.255.255/", "100.63.255.255:80"),
        ("http://100.128.0.1/", "100.128.0.1:80"),
        ("http://198.17.255.255/", "198.17.255.255:80"),
        ("http://198.20.0.1/", "198.20.0.1:80"),
        ("http://169.253.255.255/", "169.253.255.255:80"),
        ("http://192.0.1.1/", "192.0.1.1:80"),
        ("http://223.255.255.255/", "223.255.255.255:80"),
        ("https://[2001:200::1]/", "[2001:200::1]:443"),
        ("https://[2003::1]/", "[2003::1]:443"),
    ];

    fn guarded(allow: &[&str]) -> Egress {
        Egress::guarded(allow.iter().map(|net| net.parse().unwrap()).collect())
    }

    async fn refused(egress: &Egress, url: &str) -> Refusal {
        let parsed = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let found = egress.resolve(&parsed).await;
        found.expect_err(url)
    }

    #[tokio::test]
    async fn no_spelling_of_a_forbidden_address_is_resolved() {
        assert!(FORBIDDEN.len() >= 60);
        for url in FORBIDDEN {
            let refused = refused(&guarded(&[]), url).await;
            assert!(matches!(refused, Refusal::Forbidden { .. }), "{url:?}: {refused}");
        }
    }

    #[tokio::test]
    async fn names_of_this_machine_are_refused_or_nobody_knows_them() {
        for url in ["http://localhost./", "http://a.localhost/", "http://localhost.localdomain/"] {
            let refused = refused(&guarded(&[]), url).await;
            let is_no = matches!(refused, Refusal::Forbidden { .. } | Refusal::Unresolved(_));
            assert!(is_no, "{url}: {refused}");
        }
    }

    #[test]
    fn what_others_might_read_in_another_way_is_no_url() {
        for url in NO_URLS {
            assert!(Url::parse(url).is_err(), "{url:?}: {:?}", Url::parse(url));
        }
    }

    #[tokio::test]
    async fn addresses_of_everybody_are_resolved_next_to_forbidden_ones() {
        for (url, address) in PUBLIC {
            let found = guarded(&[]).resolve(&url.parse().unwrap()).await;
            let found = found.unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(found, [address.parse().unwrap()], "{url}");
        }
    }

    #[tokio::test]
    async fn an_allowed_network_is_reached_in_every_spelling_and_no_other() {
        let egress = guarded(&["10.1.0.0/16", "fd00::/16", "64:ff9b::a00:0/104"]);
        for url in [
            "http://10.1.2.3/",
            "http://167838211/",
            "http://[::ffff:10.1.2.3]/",
            "http://[fd00::7]/",
            "http://[64:ff9b::10.9.9.9]/",
        ] {
            assert!(egress.resolve(&url.parse().unwrap()).await.is_ok(), "{url}");
        }
        // What an IPv4 network allows says nothing of gateways that lead into it.
        for url in [
            "http://10.2.0.1/",
            "http://127.0.0.1/",
            "http://[::10.1.2.3]/",
            "http://[2002:a01:203::]/",
            "http://[64:ff9b:1::10.1.2.3]/",
            "http://[fd01::7]/",
        ] {
            let refused = refused(&egress, url).await;
            assert!(matches!(refused, Refusal::Forbidden { .. }), "{url}: {refused}");
            assert!(refused.to_string().contains("add it to `allow`"));
        }
    }

    #[tokio::test]
    async fn one_forbidden_address_of_a_name_refuses_all() {
        // This machine has at least one of the two; allowing one must not allow the other.
        let all = guarded(&["127.0.0.0/8", "::1/128"]);
        let found = all.resolve(&"http://localhost:81/".parse().unwrap()).await.unwrap();
        for address in &found {
            let allow: Vec<IpNet> =
                found.iter().filter(|one| *one != address).map(|one| one.ip().into()).collect();
            let refused = refused(&Egress::guarded(allow), "http://localhost:81/").await;
            let Refusal::Forbidden { address: named } = refused else { panic!("{refused}") };
            assert_eq!(named, address.ip());
        }
    }

    #[tokio::test]
    async fn other_schemes_user_names_and_ports_of_other_protocols_are_refused() {
        let egress = guarded(&["0.0.0.0/0", "::/0"]);
        for url in ["ftp://8.8.8.8/", "gopher://8.8.8.8/", "file:///etc/passwd", "ws://8.8.8.8/"] {
            assert!(matches!(refused(&egress, url).await, Refusal::Scheme), "{url}");
        }
        for url in ["http://u@8.8.8.8/", "http://:p@8.8.8.8/", "http://8.8.8.8@127.0.0.1/"] {
            assert!(matches!(refused(&egress, url).await, Refusal::UserName), "{url}");
        }
        for port in BAD_PORTS {
            let url = format!("http://8.8.8.8:{port}/");
            let refused = refused(&egress, &url).await;
            assert!(matches!(refused, Refusal::Port(named) if named == port), "{refused}");
        }
    }

    #[tokio::test]
    async fn the_operators_own_url_leads_anywhere() {
        for url in ["http://u:p@127.0.0.1:25/", "http://169.254.169.254/", "http://[fe80::1]/"] {
            let found = Egress::everything().resolve(&url.parse().unwrap()).await;
            assert_eq!(found.unwrap().len(), 1, "{url}");
        }
        assert!(matches!(refused(&Egress::everything(), "mailto:a").await, Refusal::Scheme));
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_unresolved() {
        let refused = refused(&guarded(&[]), "http://nowhere.invalid/").await;
        assert!(matches!(refused, Refusal::Unresolved(_)), "{refused}");
    }
}
