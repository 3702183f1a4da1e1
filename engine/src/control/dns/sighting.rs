//! What a server has at a key's name, and what an operator should do about it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use postern_signer::dns::{Difference, Split};

/// What every server has, seen at one time.
#[derive(Debug, Clone)]
pub struct Look {
    /// The name that holds the record: another than was asked for, where a CNAME delegates it.
    pub name: String,
    /// One for each server; where the authoritative servers could not be found, one says so.
    pub sightings: Vec<ServerSighting>,
}

/// What one server has.
#[derive(Debug, Clone)]
pub struct ServerSighting {
    /// The server.
    pub server: Server,
    /// What it has.
    pub sighting: Sighting,
}

/// A server that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Why it was asked.
    pub role: Role,
    /// Its name in the NS record, or its address.
    pub name: String,
    /// Where it was asked; `None` where no address could be found.
    pub address: Option<SocketAddr>,
}

/// Why a server was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It is named in the zone's NS records or in the configuration.
    Authoritative,
    /// It stands for the resolvers of verifiers.
    Resolver,
}

/// What a server has at a name. Times to live are those of the answer, in seconds: at a resolver,
/// what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// What should be there.
    Seen {
        /// For how long others may keep it.
        ttl_s: u32,
    },
    /// No such name, or no TXT record at it.
    Missing {
        /// For how long others may keep that it is missing (RFC 2308 5), where the answer says so.
        negative_ttl_s: Option<u32>,
    },
    /// Something else.
    Wrong {
        /// What is wrong with it.
        what: Difference,
        /// For how long others may keep it.
        ttl_s: u32,
    },
    /// A record with an empty `p=`, where a key should be.
    Revoked {
        /// For how long others may keep it.
        ttl_s: u32,
    },
    /// The server could not find out: its zone is broken, or DNSSEC does not hold.
    ServFail,
    /// It does not answer this question to us.
    Refused,
    /// It is named as authoritative and does not have the zone.
    NotAuthoritative,
    /// It says nothing.
    Timeout,
    /// It cannot be reached; holds the system's reason.
    Unreachable(String),
    /// What it says is no answer; holds why.
    Garbled(String),
    /// The authoritative servers could not be found; holds why.
    NoServers(String),
}

impl Look {
    /// Whether every server that was asked has what should be there.
    #[must_use]
    pub fn is_seen_everywhere(&self) -> bool {
        self.sightings.iter().all(|one| matches!(one.sighting, Sighting::Seen { .. }))
    }

    /// How many servers of a role have it, and how many were asked.
    #[must_use]
    pub fn seen(&self, role: Role) -> (usize, usize) {
        let asked = self.sightings.iter().filter(|one| one.server.role == role);
        let seen = asked.clone().filter(|one| matches!(one.sighting, Sighting::Seen { .. }));
        (seen.count(), asked.count())
    }

    /// The longest time that anybody may still keep what was there before: the greatest time to
    /// live in any answer.
    #[must_use]
    pub fn ttl_max(&self) -> Duration {
        let ttl_s = self.sightings.iter().filter_map(|one| one.sighting.ttl_s()).max();
        Duration::from_secs(ttl_s.unwrap_or(0).into())
    }

    /// What is in the way, one sentence a server.
    pub fn obstacles(&self) -> impl Iterator<Item = String> + '_ {
        let others =
            self.sightings.iter().filter(|one| !matches!(one.sighting, Sighting::Seen { .. }));
        others.map(|one| format!("{} {}", one, one.sighting.advice()))
    }
}

impl Sighting {
    /// The time to live in the answer, positive or negative.
    #[must_use]
    pub fn ttl_s(&self) -> Option<u32> {
        match self {
            Self::Seen { ttl_s } | Self::Wrong { ttl_s, .. } | Self::Revoked { ttl_s } => {
                Some(*ttl_s)
            }
            Self::Missing { negative_ttl_s } => *negative_ttl_s,
            _ => None,
        }
    }

    /// One word for metrics and `--json`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Seen { .. } => "seen",
            Self::Missing { .. } => "missing",
            Self::Wrong { what, .. } => match what {
                Difference::OtherKey => "other_key",
                Difference::Stale => "stale",
                Difference::Unparsable(_) => "unparsable",
                Difference::SeveralRecords(_) => "several_records",
                Difference::SplitWrong(_) => "split_wrong",
                Difference::Unusable(_) => "unusable",
            },
            Self::Revoked { .. } => "revoked",
            Self::ServFail => "servfail",
            Self::Refused => "refused",
            Self::NotAuthoritative => "not_authoritative",
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Garbled(_) => "garbled",
            Self::NoServers(_) => "no_servers",
        }
    }

    /// What the operator should do, as a sentence; empty where nothing is to be done.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Seen { .. } => "",
            Self::Missing { .. } => "Publish the record, or wait until it is everywhere.",
            Self::Wrong { what, .. } => advice_on(what),
            Self::Revoked { .. } => {
                "If you revoked the key, make a new one; if not, find out who did."
            }
            Self::ServFail => {
                "See whether the server has loaded the zone, and whether its DNSSEC signatures \
                 are valid."
            }
            Self::Refused => "Allow this host to ask the server, or name another server.",
            Self::NotAuthoritative => {
                "Take the server out of the zone's NS records or the configuration, or give it \
                 the zone."
            }
            Self::Timeout => "See whether the server runs and UDP and TCP port 53 are open to it.",
            Self::Unreachable(_) => "See whether the server runs and there is a route to it.",
            Self::Garbled(_) => "See whether something between here and the server changes DNS.",
            Self::NoServers(_) => {
                "See whether the resolvers can find the zone, or name its servers in the \
                 configuration."
            }
        }
    }
}

fn advice_on(what: &Difference) -> &'static str {
    match what {
        Difference::OtherKey => {
            "Somebody else uses this selector: take the record away, or rotate to a new selector."
        }
        Difference::Stale => "Wait until the time to live has passed, or update the zone.",
        Difference::Unparsable(_) => "Copy the record again, from `postern keys export`.",
        Difference::SeveralRecords(_) => "Leave one TXT record at the name.",
        Difference::SplitWrong(Split::StringPerRecord) => {
            "Put all strings into one TXT record, side by side."
        }
        Difference::SplitWrong(_) => {
            "Enter the value as one line without quotes, or as strings of at most 255 octets in \
             one record."
        }
        Difference::Unusable(_) => "Take that tag out of the record.",
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Authoritative => "authoritative server",
            Role::Resolver => "resolver",
        };
        match self.address {
            Some(address) if self.name != address.to_string() => {
                write!(f, "{role} {} ({address})", self.name)
            }
            _ => write!(f, "{role} {}", self.name),
        }
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen { ttl_s } => write!(f, "has the record (TTL {ttl_s} s)"),
            Self::Missing { negative_ttl_s: Some(ttl_s) } => {
                write!(f, "has no record, and may say so for {ttl_s} s more")
            }
            Self::Missing { negative_ttl_s: None } => f.write_str("has no record"),
            Self::Wrong { what, ttl_s } => write!(f, "is wrong: {what} (TTL {ttl_s} s)"),
            Self::Revoked { ttl_s } => write!(f, "has the key revoked (TTL {ttl_s} s)"),
            Self::ServFail => f.write_str("failed (SERVFAIL)"),
            Self::Refused => f.write_str("refused to answer"),
            Self::NotAuthoritative => f.write_str("does not have the zone"),
            Self::Timeout => f.write_str("said nothing in time"),
            Self::Unreachable(why) => write!(f, "cannot be reached ({why})"),
            Self::Garbled(why) => write!(f, "gave an answer that is none ({why})"),
            Self::NoServers(why) => write!(f, "cannot be found ({why})"),
        }
    }
}

impl fmt::Display for ServerSighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.", self.server, self.sighting)
    }
}
