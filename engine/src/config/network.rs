//! An IP network: what `allow from 192.0.2.0/24` means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 network; its host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkError {
    /// The part before the slash is no IP address.
    Address,
    /// The part after the slash is no number up to 32 or 128.
    Prefix,
    /// Bits below the prefix are set; holds the network that was probably meant.
    HostBits(Network),
    /// An IPv4 address written as IPv6; holds the network to write instead.
    Mapped(Network),
}

impl Network {
    /// The network of `prefix` bits that holds `address`; `None` if the prefix is too long.
    #[must_use]
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                Ipv4Addr::from_bits(v4.to_bits() & mask32(prefix)).into()
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                Ipv6Addr::from_bits(v6.to_bits() & mask128(prefix)).into()
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits an address must share.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in it. An IPv4 address inside IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(address.to_canonical(), self.prefix).is_some_and(|network| network == *self)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (wide, narrow) =
            if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.address.is_ipv4() == narrow.address.is_ipv4() && wide.contains(narrow.address)
    }
}

fn mask32(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask128(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        let network = Self::around(address, prefix).ok_or(NetworkError::Prefix)?;
        if address != address.to_canonical() {
            let inner = Self::around(address.to_canonical(), prefix.saturating_sub(96));
            return Err(NetworkError::Mapped(inner.ok_or(NetworkError::Prefix)?));
        }
        if network.address != address {
            return Err(NetworkError::HostBits(network));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn networks_are_read_and_shown() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(network(text).to_string(), shown);
        }
        for (text, error) in [
            ("", NetworkError::Address),
            ("office", NetworkError::Address),
            ("192.0.2/24", NetworkError::Address),
            ("192.0.2.0/", NetworkError::Prefix),
            ("192.0.2.0/33", NetworkError::Prefix),
            ("192.0.2.0/+8", NetworkError::Prefix),
            ("192.0.2.0/255.255.255.0", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("192.0.2.1/24", NetworkError::HostBits(network("192.0.2.0/24"))),
            ("::ffff:192.0.2.0/120", NetworkError::Mapped(network("192.0.2.0/24"))),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }

    #[test]
    fn membership_and_overlap() {
        for (text, address, is_inside) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("192.0.2.0/24", "::c000:209", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::2", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(network(text).contains(address), is_inside, "{text} {address}");
        }
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.9.0.0/16", true),
            ("10.0.0.0/8", "11.0.0.0/8", false),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("0.0.0.0/0", "::/0", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
        ] {
            assert_eq!(network(a).overlaps(&network(b)), overlap, "{a} {b}");
            assert_eq!(network(b).overlaps(&network(a)), overlap, "{b} {a}");
        }
    }
}
