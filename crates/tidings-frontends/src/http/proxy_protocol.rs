//! The header with which balancers say for whom they connect (the PROXY protocol, versions 1 and
//! 2). Reads exactly the header and nothing behind it.
//!
//! Knows no list of balancers: who must send one is decided where connections are accepted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_TIMEOUT, PROXY_LINE_BYTES_MAX};

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client at this address.
    Client(IpAddr),
    /// The balancer itself, as for its probes, or somebody it cannot name.
    Balancer,
}

/// Why a connection is closed instead.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadHeader {
    #[error("it does not begin with a PROXY header")]
    Missing,
    #[error("its PROXY header has a version or command that does not exist")]
    Version,
    #[error("its PROXY header names no address of TCP")]
    Address,
    #[error("its PROXY header is longer than {PROXY_HEADER_BYTES_MAX} bytes")]
    Long,
    #[error("its PROXY header did not come in time")]
    Slow,
    #[error("it ended before its PROXY header did")]
    Cut(#[from] io::Error),
}

/// How a header of version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const WORD: &[u8] = b"PROXY ";

type Reading<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Reads the header.
pub(super) async fn read(stream: Reading<'_>) -> Result<Origin, BadHeader> {
    tokio::time::timeout(PROXY_HEADER_TIMEOUT, header(stream)).await.map_err(|_| BadHeader::Slow)?
}

async fn header(stream: Reading<'_>) -> Result<Origin, BadHeader> {
    // As long as the signature of version 2, and shorter than any header of version 1.
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return binary(stream).await;
    }
    if start.starts_with(WORD) {
        return line(stream, &start).await;
    }
    Err(BadHeader::Missing)
}

/// Version 2: version and command, family and protocol, length, addresses, extensions.
async fn binary(stream: Reading<'_>) -> Result<Origin, BadHeader> {
    let version_and_command = stream.read_u8().await?;
    let family_and_protocol = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(BadHeader::Long);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (version_and_command, family_and_protocol) {
        // Whatever it says about addresses does not count.
        (0x20, _) => Ok(Origin::Balancer),
        (0x21, 0x11) => {
            let (source, _) = rest.split_first_chunk::<4>().ok_or(BadHeader::Address)?;
            complete(&rest, 12)?;
            Ok(client(Ipv4Addr::from(*source).into()))
        }
        (0x21, 0x21) => {
            let (source, _) = rest.split_first_chunk::<16>().ok_or(BadHeader::Address)?;
            complete(&rest, 36)?;
            Ok(client(Ipv6Addr::from(*source).into()))
        }
        // Unknown, and sockets of one machine.
        (0x21, 0x00 | 0x31) => Ok(Origin::Balancer),
        (0x21, _) => Err(BadHeader::Address),
        _ => Err(BadHeader::Version),
    }
}

/// Both addresses and both ports must be there; only then the rest is extensions.
fn complete(rest: &[u8], addresses: usize) -> Result<(), BadHeader> {
    if rest.len() < addresses { Err(BadHeader::Address) } else { Ok(()) }
}

/// Version 1: `PROXY TCP4 source destination port port`, ended by CR LF.
async fn line(stream: Reading<'_>, start: &[u8]) -> Result<Origin, BadHeader> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= PROXY_LINE_BYTES_MAX {
            return Err(BadHeader::Long);
        }
        // Byte by byte: what follows belongs to somebody else.
        line.push(stream.read_u8().await?);
    }
    let line = line.strip_suffix(b"\r\n").unwrap_or(&line);
    let text = std::str::from_utf8(line).map_err(|_| BadHeader::Address)?;
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(Origin::Balancer),
        ["PROXY", "TCP4", source, destination, from, to] => {
            let source: Ipv4Addr = source.parse().map_err(|_| BadHeader::Address)?;
            let _: Ipv4Addr = destination.parse().map_err(|_| BadHeader::Address)?;
            ports(from, to)?;
            Ok(client(source.into()))
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let source: Ipv6Addr = source.parse().map_err(|_| BadHeader::Address)?;
            let _: Ipv6Addr = destination.parse().map_err(|_| BadHeader::Address)?;
            ports(from, to)?;
            Ok(client(source.into()))
        }
        _ => Err(BadHeader::Address),
    }
}

fn ports(from: &str, to: &str) -> Result<(), BadHeader> {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let known = [from, to].iter().all(|port| digits(port) && port.parse::<u16>().is_ok());
    if known { Ok(()) } else { Err(BadHeader::Address) }
}

fn client(address: IpAddr) -> Origin {
    Origin::Client(address.to_canonical())
}

/// Reads `bytes` as what a balancer sends.
#[doc(hidden)]
pub fn fuzz_proxy_protocol(bytes: &[u8]) {
    use futures_util::FutureExt;
    let mut rest = bytes;
    // Bytes in memory are always ready.
    let read = header(&mut rest).now_or_never();
    assert!(read.is_some(), "waits for bytes that do not come");
    if matches!(read, Some(Ok(_))) {
        let taken = bytes.len() - rest.len();
        assert!((15..=16 + PROXY_HEADER_BYTES_MAX).contains(&taken), "{taken} bytes were taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    /// The result, and what is left behind the header.
    fn parsed(bytes: &[u8]) -> (Result<Origin, String>, Vec<u8>) {
        let mut rest = bytes;
        let read = header(&mut rest).now_or_never().unwrap();
        (read.map_err(|error| error.to_string()), rest.to_vec())
    }

    fn version_2(first: u8, second: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([first, second]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes.extend(b"GET /");
        bytes
    }

    fn origin(bytes: &[u8]) -> Origin {
        let (origin, rest) = parsed(bytes);
        assert_eq!(rest, b"GET /", "the header alone is taken");
        origin.unwrap()
    }

    fn problem(bytes: &[u8]) -> String {
        parsed(bytes).0.unwrap_err()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    fn from(text: &str) -> Origin {
        Origin::Client(text.parse().unwrap())
    }

    #[test]
    fn version_2_names_the_client() {
        assert_eq!(origin(&version_2(0x21, 0x11, &V4)), from("203.0.113.7"));
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 9;
        assert_eq!(origin(&version_2(0x21, 0x21, &v6)), from("2001:db8::9"));
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 8]);
        assert_eq!(origin(&version_2(0x21, 0x21, &mapped)), from("203.0.113.8"));
    }

    #[test]
    fn extensions_are_skipped_within_a_bound() {
        let mut long = V4.to_vec();
        long.resize(PROXY_HEADER_BYTES_MAX, 4);
        assert_eq!(origin(&version_2(0x21, 0x11, &long)), from("203.0.113.7"));
        long.push(4);
        assert!(problem(&version_2(0x21, 0x11, &long)).contains("longer"));
    }

    #[test]
    fn probes_and_unknown_clients_are_the_balancers() {
        for bytes in [
            version_2(0x20, 0x00, &[]),
            version_2(0x20, 0x11, &V4),
            version_2(0x21, 0x00, &[]),
            version_2(0x21, 0x31, &[0; 216]),
            b"PROXY UNKNOWN\r\nGET /".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET /".to_vec(),
        ] {
            assert_eq!(origin(&bytes), Origin::Balancer);
        }
    }

    #[test]
    fn version_1_names_the_client() {
        let line = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\nGET /";
        assert_eq!(origin(line), from("203.0.113.7"));
        let line = b"PROXY TCP6 2001:db8::9 fd00::1 4711 80\r\nGET /";
        assert_eq!(origin(line), from("2001:db8::9"));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert!(problem(b"GET / HTTP/1.1\r\n").contains("does not begin"));
        for (first, second, rest) in
            [(0x31, 0x11, &V4[..]), (0x22, 0x11, &V4[..]), (0x01, 0x11, &V4[..])]
        {
            assert!(problem(&version_2(first, second, rest)).contains("version"));
        }
        for (first, second, rest) in
            [(0x21, 0x11, &V4[..11]), (0x21, 0x12, &V4[..]), (0x21, 0x21, &V4[..])]
        {
            assert!(problem(&version_2(first, second, rest)).contains("address"));
        }
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 99999\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +4711 80\r\n",
            "PROXY TCP4 2001:db8::9 fd00::1 4711 80\r\n",
            "PROXY TCP4  203.0.113.7 10.0.0.1 4711 80\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 4711 80\r\n",
            "PROXY TCP4 \u{e9} 10.0.0.1 4711 80\r\n",
        ] {
            assert!(problem(line.as_bytes()).contains("address"), "{line}");
        }
        let endless = format!("PROXY TCP4 {}", "1".repeat(200));
        assert!(problem(endless.as_bytes()).contains("longer"));
        assert!(problem(b"PROXY TC").contains("ended"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_proxy_protocol(&bytes);
            let mut behind = SIGNATURE.to_vec();
            behind.extend(bytes);
            fuzz_proxy_protocol(&behind);
        }
    }
}
