//! Asks every server what it has at a key's name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use postern_signer::dns::{Comparison, Expected, Txt, compare};
use tokio::task::JoinSet;

use super::exchange::{NoAnswer, Patience, ask};
use super::sighting::{Look, Role, Server, ServerSighting, Sighting};

/// Whom to ask, and how patiently.
#[derive(Debug, Clone)]
pub struct LookOptions {
    /// Resolvers; they also find the authoritative servers. At most [`SERVERS_MAX`] are asked.
    pub resolvers: Vec<SocketAddr>,
    /// Authoritative servers; empty to find them by the zone's NS records, at port 53.
    pub authoritative: Vec<SocketAddr>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often one server is asked before it counts as silent.
    pub attempts: u32,
}

impl Default for LookOptions {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            authoritative: Vec::new(),
            timeout: Duration::from_secs(3),
            attempts: 2,
        }
    }
}

/// The resolvers that the system is configured with.
///
/// # Errors
/// The system's configuration (`/etc/resolv.conf`) cannot be read, or names none.
pub fn system_resolvers() -> io::Result<Vec<SocketAddr>> {
    let (config, _) =
        hickory_resolver::system_conf::read_system_conf().map_err(io::Error::other)?;
    let resolvers: Vec<_> =
        config.name_servers().iter().map(|server| SocketAddr::new(server.ip, DNS_PORT)).collect();
    if resolvers.is_empty() {
        return Err(io::Error::other("the system is configured without resolvers"));
    }
    Ok(resolvers)
}

/// Looks at names.
#[derive(Debug, Clone)]
pub struct Looker {
    options: LookOptions,
    patience: Patience,
}

impl Looker {
    /// Makes one; nothing is asked yet.
    #[must_use]
    pub fn new(mut options: LookOptions) -> Self {
        options.resolvers.truncate(SERVERS_MAX);
        options.authoritative.truncate(SERVERS_MAX);
        let patience = Patience { timeout: options.timeout, attempts: options.attempts };
        Self { options, patience }
    }

    /// Asks every server for the TXT record at `name` and compares it with what is expected.
    ///
    /// Never fails: what went wrong with a server is its sighting. All are asked at the same time;
    /// the longest it takes is about six times timeout times attempts, when everything is silent.
    pub async fn look(&self, name: &str, expected: &Expected) -> Look {
        let Ok(mut owner) = Name::from_ascii(name) else {
            return no_servers(name, format!("`{name}` is not a domain name"));
        };
        owner.set_fqdn(true);
        let mut resolved = self.ask_resolvers(&owner).await;
        let delegated = resolved.iter().find_map(|(_, answer)| {
            answer.as_ref().ok().and_then(|answer| delegation(answer, &owner))
        });
        let owner = delegated.unwrap_or(owner);
        let mut sightings = self.look_at_authoritative(&owner, expected).await;
        resolved.sort_by_key(|(index, _)| *index);
        sightings.extend(resolved.into_iter().map(|(index, answer)| {
            let address = self.options.resolvers[index];
            let server =
                Server { role: Role::Resolver, name: address.to_string(), address: Some(address) };
            ServerSighting { server, sighting: judge_answer(answer, &owner, name, expected) }
        }));
        Look { name: shown(&owner), sightings }
    }

    async fn ask_resolvers(&self, owner: &Name) -> Vec<(usize, Result<Message, NoAnswer>)> {
        let mut asked = JoinSet::new();
        for (index, &resolver) in self.options.resolvers.iter().enumerate() {
            let (owner, patience) = (owner.clone(), self.patience);
            asked.spawn(async move {
                (index, ask(resolver, &owner, RecordType::TXT, true, patience).await)
            });
        }
        asked.join_all().await
    }

    async fn look_at_authoritative(
        &self,
        owner: &Name,
        expected: &Expected,
    ) -> Vec<ServerSighting> {
        let servers = match self.authoritative_servers(owner).await {
            Ok(servers) => servers,
            Err(why) => return no_servers(&shown(owner), why).sightings,
        };
        let mut asked = JoinSet::new();
        for (index, (name, addresses)) in servers.into_iter().enumerate() {
            let (owner, expected, patience) = (owner.clone(), expected.clone(), self.patience);
            asked.spawn(async move {
                (index, look_at_one(name, addresses, &owner, &expected, patience).await)
            });
        }
        let mut sightings = asked.join_all().await;
        sightings.sort_by_key(|(index, _)| *index);
        sightings.into_iter().map(|(_, sighting)| sighting).collect()
    }

    /// Each server's name and addresses.
    async fn authoritative_servers(
        &self,
        owner: &Name,
    ) -> Result<Vec<(String, Vec<SocketAddr>)>, String> {
        let configured = &self.options.authoritative;
        if !configured.is_empty() {
            return Ok(configured.iter().map(|&one| (one.to_string(), vec![one])).collect());
        }
        let mut why = "no resolver is configured to find them".to_owned();
        for &resolver in &self.options.resolvers {
            match self.find_servers(resolver, owner).await {
                Ok(servers) => return Ok(servers),
                Err(reason) => why = format!("resolver {resolver}: {reason}"),
            }
        }
        Err(why)
    }

    /// The servers in the NS records of the zone that holds a name.
    async fn find_servers(
        &self,
        resolver: SocketAddr,
        owner: &Name,
    ) -> Result<Vec<(String, Vec<SocketAddr>)>, String> {
        let answer = self.resolve(resolver, owner, RecordType::SOA).await?;
        let zone = zone_of(&answer).ok_or_else(|| format!("no SOA record above {owner}"))?;
        let answer = self.resolve(resolver, &zone, RecordType::NS).await?;
        let names: Vec<Name> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(server) => Some(server.0.clone()),
                _ => None,
            })
            .take(SERVERS_MAX)
            .collect();
        if names.is_empty() {
            return Err(format!("{zone} has no NS records"));
        }
        let mut servers = Vec::with_capacity(names.len());
        for name in names {
            let mut addresses = Vec::new();
            for kind in [RecordType::A, RecordType::AAAA] {
                let answer = self.resolve(resolver, &name, kind).await;
                let records = answer.map(|answer| answer.answers).unwrap_or_default();
                addresses.extend(records.iter().filter_map(address_in));
            }
            addresses.truncate(ADDRESSES_MAX);
            servers.push((shown(&name), addresses));
        }
        Ok(servers)
    }

    async fn resolve(
        &self,
        resolver: SocketAddr,
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, String> {
        let answer = ask(resolver, name, kind, true, self.patience).await;
        let answer = answer.map_err(|why| sighting_of(why).to_string())?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
            code => Err(format!("{name} {kind}: {code}")),
        }
    }
}

/// Asks one authoritative server, at its addresses in turn until one answers.
async fn look_at_one(
    name: String,
    addresses: Vec<SocketAddr>,
    owner: &Name,
    expected: &Expected,
    patience: Patience,
) -> ServerSighting {
    let server = |address| Server { role: Role::Authoritative, name: name.clone(), address };
    let mut last = ServerSighting {
        server: server(None),
        sighting: Sighting::NoServers("its name has no address".to_owned()),
    };
    for address in addresses {
        let answer = ask(address, owner, RecordType::TXT, false, patience).await;
        let has_answered = answer.is_ok();
        last = ServerSighting {
            server: server(Some(address)),
            sighting: judge_authoritative(answer, owner, expected),
        };
        if has_answered {
            break;
        }
    }
    last
}

fn judge_authoritative(
    answer: Result<Message, NoAnswer>,
    owner: &Name,
    expected: &Expected,
) -> Sighting {
    let is_lame = answer.as_ref().is_ok_and(|answer| {
        let code = answer.metadata.response_code;
        let is_answer = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        is_answer && !answer.metadata.authoritative
    });
    if is_lame {
        return Sighting::NotAuthoritative;
    }
    judge(answer, owner, expected)
}

/// A resolver was asked for the name itself and follows the delegation on its own.
fn judge_answer(
    answer: Result<Message, NoAnswer>,
    owner: &Name,
    asked: &str,
    expected: &Expected,
) -> Sighting {
    let asked = Name::from_ascii(asked).map(|mut asked| {
        asked.set_fqdn(true);
        asked
    });
    let own_end = answer.as_ref().ok().zip(asked.ok()).and_then(|(answer, asked)| {
        // Another resolver's delegation may be newer than this one's.
        let end = delegation(answer, &asked);
        end.or_else(|| (asked != *owner).then_some(asked))
    });
    judge(answer, own_end.as_ref().unwrap_or(owner), expected)
}

fn judge(answer: Result<Message, NoAnswer>, owner: &Name, expected: &Expected) -> Sighting {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return sighting_of(why),
    };
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::ServFail => return Sighting::ServFail,
        ResponseCode::Refused => return Sighting::Refused,
        ResponseCode::NotAuth => return Sighting::NotAuthoritative,
        code => return Sighting::Garbled(code.to_string()),
    }
    let owner = delegation(&answer, owner).unwrap_or_else(|| owner.clone());
    let (records, ttl_s) = txt_at(&answer, &owner);
    match compare(&records, expected) {
        Comparison::Same => Sighting::Seen { ttl_s },
        Comparison::Missing => Sighting::Missing { negative_ttl_s: negative_ttl_s(&answer) },
        Comparison::Revoked => Sighting::Revoked { ttl_s },
        Comparison::Differs(what) => Sighting::Wrong { what, ttl_s },
    }
}

fn sighting_of(why: NoAnswer) -> Sighting {
    match why {
        NoAnswer::Timeout => Sighting::Timeout,
        NoAnswer::Unreachable(kind) => Sighting::Unreachable(kind.to_string()),
        NoAnswer::Garbled => Sighting::Garbled("no DNS message".to_owned()),
    }
}

fn no_servers(name: &str, why: String) -> Look {
    let server = Server {
        role: Role::Authoritative,
        name: format!("of {}", name.trim_end_matches('.')),
        address: None,
    };
    let sightings = vec![ServerSighting { server, sighting: Sighting::NoServers(why) }];
    Look { name: name.to_owned(), sightings }
}

/// Where the CNAME records of an answer lead from a name; `None` where there are none.
pub(super) fn delegation(answer: &Message, owner: &Name) -> Option<Name> {
    let mut end = None;
    for _ in 0..DELEGATIONS_MAX {
        let at = end.as_ref().unwrap_or(owner);
        let next = answer.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *at => Some(target.0.clone()),
            _ => None,
        });
        let Some(next) = next else { break };
        end = Some(next);
    }
    end
}

/// The TXT records of an answer at a name, and their time to live.
pub(super) fn txt_at(answer: &Message, owner: &Name) -> (Vec<Txt>, u32) {
    let at_owner = answer.answers.iter().filter(|record| record.name == *owner);
    let txt = at_owner.filter_map(|record| match &record.data {
        RData::TXT(txt) => Some((strings(txt), record.ttl)),
        _ => None,
    });
    let (records, ttls): (Vec<_>, Vec<_>) = txt.unzip();
    (records, ttls.into_iter().min().unwrap_or(0))
}

fn strings(txt: &TXT) -> Txt {
    txt.txt_data.iter().map(|string| string.to_vec()).collect()
}

/// The zone that an answer to a question for its SOA record names.
pub(super) fn zone_of(answer: &Message) -> Option<Name> {
    soa(answer).map(|(record, _)| record.name.clone())
}

/// RFC 2308 5: the lesser of the record's own time to live and its last field.
fn negative_ttl_s(answer: &Message) -> Option<u32> {
    soa(answer).map(|(record, minimum)| record.ttl.min(minimum))
}

fn soa(answer: &Message) -> Option<(&Record, u32)> {
    answer.answers.iter().chain(&answer.authorities).find_map(|record| match &record.data {
        RData::SOA(soa) => Some((record, soa.minimum)),
        _ => None,
    })
}

fn address_in(record: &Record) -> Option<SocketAddr> {
    match &record.data {
        RData::A(address) => Some(SocketAddr::new(IpAddr::V4(address.0), DNS_PORT)),
        RData::AAAA(address) => Some(SocketAddr::new(IpAddr::V6(address.0), DNS_PORT)),
        _ => None,
    }
}

/// A name as it is written elsewhere: without the last dot.
pub(super) fn shown(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

const DNS_PORT: u16 = 53;
/// Zones have up to 13 servers, most have 2 to 8.
const SERVERS_MAX: usize = 16;
/// Of one server: tried in turn, so they bound the time of a look.
const ADDRESSES_MAX: usize = 4;
/// As most resolvers.
const DELEGATIONS_MAX: usize = 8;
