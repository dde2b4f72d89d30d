//! Places for connections: in total and for each address. Knows no socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    InTotal,
    OfAddress,
}

/// How many places each network has.
type Counts = HashMap<IpAddr, usize>;

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    Request,
}

/// All places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    total: AtomicUsize,
    /// Entries go when they reach zero, so there are never more than taken places.
    connections: Mutex<Counts>,
    requests: Mutex<Counts>,
}

/// A taken place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
    kind: Kind,
}

impl Places {
    pub(super) fn taken(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// A place for a connection, counted for `address` as well unless there is none.
    pub(super) fn connection(
        self: &Arc<Places>,
        address: Option<IpAddr>,
        total_max: usize,
        per_address_max: usize,
    ) -> Result<Place, Full> {
        if self.total.fetch_add(1, Ordering::AcqRel) >= total_max {
            self.total.fetch_sub(1, Ordering::AcqRel);
            return Err(Full::InTotal);
        }
        // From here on dropping the place gives the total back.
        let mut place = Place { places: Arc::clone(self), address: None, kind: Kind::Connection };
        if let Some(address) = address {
            place.address = Some(self.count(Kind::Connection, address, per_address_max)?);
        }
        Ok(place)
    }

    /// A place for one request where connections say little. Counted beside the connections.
    pub(super) fn request(
        self: &Arc<Places>,
        client: IpAddr,
        per_address_max: usize,
    ) -> Result<Place, Full> {
        let address = Some(self.count(Kind::Request, client, per_address_max)?);
        Ok(Place { places: Arc::clone(self), address, kind: Kind::Request })
    }

    fn counts(&self, kind: Kind) -> MutexGuard<'_, Counts> {
        let counts = match kind {
            Kind::Connection => &self.connections,
            Kind::Request => &self.requests,
        };
        counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, kind: Kind, address: IpAddr, max: usize) -> Result<IpAddr, Full> {
        let network = network(address);
        let mut addresses = self.counts(kind);
        let taken = addresses.get(&network).copied().unwrap_or(0);
        if taken >= max {
            return Err(Full::OfAddress);
        }
        addresses.insert(network, taken + 1);
        Ok(network)
    }
}

impl Place {
    /// Counts a connection for the address that a balancer named.
    pub(super) fn count_for(&mut self, client: IpAddr, per_address_max: usize) -> Result<(), Full> {
        if self.address.is_none() {
            self.address = Some(self.places.count(self.kind, client, per_address_max)?);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kind == Kind::Connection {
            self.places.total.fetch_sub(1, Ordering::AcqRel);
        }
        let Some(address) = self.address else { return };
        let mut addresses = self.places.counts(self.kind);
        if let Some(taken) = addresses.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// Who shares a limit: one IPv4 address, one /64 of IPv6 (what one customer usually gets).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let places = Arc::new(Places::default());
        let first = places.connection(address("10.0.0.1"), 9, 2).unwrap();
        let _second = places.connection(address("::ffff:10.0.0.1"), 9, 2).unwrap();
        assert_eq!(places.connection(address("10.0.0.1"), 9, 2).unwrap_err(), Full::OfAddress);
        assert_eq!(places.taken(), 2, "a refused connection takes no place in total");
        let _other = places.connection(address("10.0.0.2"), 9, 2).unwrap();
        drop(first);
        let _again = places.connection(address("10.0.0.1"), 9, 2).unwrap();
        assert_eq!(places.taken(), 3);
    }

    #[test]
    fn the_total_counts_everybody() {
        let places = Arc::new(Places::default());
        let _proxy = places.connection(None, 2, 1).unwrap();
        let client = places.connection(address("10.0.0.1"), 2, 1).unwrap();
        assert_eq!(places.connection(None, 2, 1).unwrap_err(), Full::InTotal);
        drop(client);
        assert!(places.connection(None, 2, 1).is_ok());
        assert!(places.connections.lock().unwrap().is_empty());
    }

    #[test]
    fn a_place_is_counted_for_whom_a_balancer_names() {
        let places = Arc::new(Places::default());
        let client = address("203.0.113.7").unwrap();
        let mut first = places.connection(None, 9, 1).unwrap();
        first.count_for(client, 1).unwrap();
        let mut second = places.connection(None, 9, 1).unwrap();
        assert_eq!(second.count_for(client, 1).unwrap_err(), Full::OfAddress);
        drop((first, second));
        assert!(places.connection(Some(client), 9, 1).is_ok());
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn addresses_of_one_v6_network_share_a_limit() {
        let places = Arc::new(Places::default());
        let _one = places.request("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(places.request("2001:db8::ffff:2".parse().unwrap(), 1).is_err());
        assert!(places.request("2001:db8:0:1::1".parse().unwrap(), 1).is_ok());
    }
}
