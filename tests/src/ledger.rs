//! The crash oracle: what clients were told, against what arrived.
//!
//! A message that was acknowledged must arrive whole; one that was refused must not arrive; one
//! whose client got no answer may do either. Messages are made from their numbers, so the ledger
//! holds no content.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::message::{Mail, Seed, added_fields, number_of};
use crate::relay::{RECIPIENT, SENDER};
use crate::sink::Received;

/// How long a client waits after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What the client of a message knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No answer came to the end of its data.
    Unknown,
    /// 2xx.
    Acknowledged,
    /// 4xx or 5xx, with the code.
    Refused(u16),
}

#[derive(Debug, Default)]
struct Books {
    fates: Mutex<BTreeMap<u64, Fate>>,
    next: AtomicU64,
}

/// Every message that was sent, with what was said about it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    books: Arc<Books>,
}

/// What a ledger and the sink's messages say together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Messages whose client got 2xx.
    pub acknowledged: usize,
    /// Messages whose client got 4xx or 5xx.
    pub refused: usize,
    /// Messages whose client got no answer.
    pub unknown: usize,
    /// Acknowledged, and not at the sink.
    pub lost: Vec<u64>,
    /// At the sink, and not byte for byte what was sent.
    pub torn: Vec<String>,
    /// Refused, and at the sink nevertheless.
    pub ghosts: Vec<u64>,
    /// Copies beyond the first.
    pub duplicates: usize,
}

impl Ledger {
    /// The message with this number.
    pub fn mail(number: u64) -> Mail {
        // 1 to 9 KiB, and every 16th about 100 KiB, so that some span several pages and chunks.
        let base = 1_024 + usize::try_from(Seed(number).below(8_192)).expect("small");
        let bytes = if number.is_multiple_of(16) { base + 100_000 } else { base };
        Mail::numbered(number, SENDER, RECIPIENT, bytes)
    }

    /// Takes the next number.
    pub fn begin(&self) -> u64 {
        let number = self.books.next.fetch_add(1, Ordering::Relaxed);
        self.note(number, Fate::Unknown);
        number
    }

    /// Notes what became of a message.
    pub fn note(&self, number: u64, fate: Fate) {
        self.books.fates.lock().unwrap_or_else(PoisonError::into_inner).insert(number, fate);
    }

    /// How many messages had this outcome so far.
    pub fn count(&self, is_counted: impl Fn(Fate) -> bool) -> usize {
        let fates = self.books.fates.lock().unwrap_or_else(PoisonError::into_inner);
        fates.values().filter(|fate| is_counted(**fate)).count()
    }

    /// The reply codes of the refusals so far, and how many of each.
    pub fn refusals(&self) -> BTreeMap<u16, usize> {
        let fates = self.books.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut codes = BTreeMap::new();
        for fate in fates.values() {
            if let Fate::Refused(code) = fate {
                *codes.entry(*code).or_default() += 1;
            }
        }
        codes
    }

    /// How many messages were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.count(|fate| fate == Fate::Acknowledged)
    }

    /// Whether every acknowledged message is among these.
    pub fn is_settled(&self, received: &[Received]) -> bool {
        let fates = self.books.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: std::collections::BTreeSet<u64> = fates
            .iter()
            .filter(|(_, fate)| **fate == Fate::Acknowledged)
            .map(|(number, _)| *number)
            .collect();
        for number in received.iter().filter_map(|received| number_of(&received.content)) {
            open.remove(&number);
        }
        open.is_empty()
    }

    /// Compares the books with what arrived.
    pub fn audit(&self, received: &[Received]) -> Audit {
        let fates = self.books.fates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
        let mut audit = Audit::default();
        for received in received {
            let Some(number) = number_of(&received.content) else {
                audit.torn.push("a message without a number".to_owned());
                continue;
            };
            if let Err(why) = added_fields(&Self::mail(number).content, &received.content) {
                audit.torn.push(format!("message {number}: {why}"));
            }
            *copies.entry(number).or_default() += 1;
        }
        for (number, fate) in &fates {
            let arrived = copies.contains_key(number);
            match fate {
                Fate::Acknowledged if !arrived => audit.lost.push(*number),
                Fate::Refused(_) if arrived => audit.ghosts.push(*number),
                _ => {}
            }
            match fate {
                Fate::Acknowledged => audit.acknowledged += 1,
                Fate::Refused(_) => audit.refused += 1,
                Fate::Unknown => audit.unknown += 1,
            }
        }
        audit.duplicates = copies.values().map(|copies| copies - 1).sum();
        audit
    }
}

impl Audit {
    /// Fails the test unless everything that was acknowledged arrived whole, and nothing that was
    /// refused did.
    ///
    /// # Panics
    ///
    /// Then.
    #[track_caller]
    pub fn expect_sound(&self) {
        assert!(self.lost.is_empty(), "acknowledged and lost: {:?}\n{self}", self.lost);
        assert!(self.torn.is_empty(), "torn: {:#?}", &self.torn[..self.torn.len().min(3)]);
        assert!(self.ghosts.is_empty(), "refused and delivered: {:?}\n{self}", self.ghosts);
    }
}

impl std::fmt::Display for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "acknowledged {}, refused {}, unanswered {}, lost {}, torn {}, refused and delivered {}, \
             duplicates {}",
            self.acknowledged,
            self.refused,
            self.unknown,
            self.lost.len(),
            self.torn.len(),
            self.ghosts.len(),
            self.duplicates
        )
    }
}

/// Clients that send one message after another, and connect again whenever the relay is gone.
///
/// They come from an allowed network and speak in the clear: what is tested is the spool.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `clients` of them, each pausing this long between messages.
    pub fn start(addr: SocketAddr, ledger: &Ledger, clients: usize, pause: Duration) -> Self {
        Self::start_from(Ipv4Addr::LOCALHOST.into(), addr, ledger, clients, pause)
    }

    /// As [`Self::start`], from this address of the host.
    pub fn start_from(
        source: IpAddr,
        addr: SocketAddr,
        ledger: &Ledger,
        clients: usize,
        pause: Duration,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|_| {
                let (ledger, is_over) = (ledger.clone(), Arc::clone(&is_over));
                std::thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        run_session(source, addr, &ledger, &is_over, pause);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        Self { is_over, clients }
    }

    /// Lets each client finish its message, then ends.
    ///
    /// # Panics
    ///
    /// When a client panicked.
    #[track_caller]
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
    }
}

/// One session: until the relay goes away, or the load is over.
fn run_session(
    source: IpAddr,
    addr: SocketAddr,
    ledger: &Ledger,
    is_over: &AtomicBool,
    pause: Duration,
) {
    let Ok(mut client) = Client::dial_from(source, addr) else { return };
    if !client.try_reply().is_ok_and(|reply| reply.code == 220) {
        return;
    }
    if !client.try_command("EHLO client.example").is_ok_and(|reply| reply.code == 250) {
        return;
    }
    while !is_over.load(Ordering::Relaxed) {
        let number = ledger.begin();
        let Ok(reply) = client.try_submit(&Ledger::mail(number)) else { return };
        ledger.note(number, fate_of(&reply));
        if reply.is_positive() {
            std::thread::sleep(pause);
            continue;
        }
        // Who is told to come back later does not come back at once.
        std::thread::sleep(REFUSED_PAUSE.max(pause));
        if client.try_command("RSET").is_err() {
            return;
        }
    }
    // The relay may be gone.
    client.try_command("QUIT").ok();
}

fn fate_of(reply: &Reply) -> Fate {
    if reply.code == 250 { Fate::Acknowledged } else { Fate::Refused(reply.code) }
}

/// Waits until `is_so`, at most `seconds`; whether it became so.
pub fn wait_until(seconds: u64, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;

    #[test]
    fn loss_tearing_and_duplicates_are_seen() {
        let sink = Sink::start();
        let ledger = Ledger::default();
        let load = Load::start(sink.addr(), &ledger, 3, Duration::ZERO);
        assert!(wait_until(10, || ledger.acknowledged() > 20));
        load.stop();
        let mut all = sink.messages();
        ledger.audit(&all).expect_sound();
        assert!(ledger.is_settled(&all));
        let (first, second) = (all[0].clone(), all[1].clone());
        all.push(first.clone());
        all[1].content.truncate(second.content.len() - 1);
        all.remove(2);
        let audit = ledger.audit(&all);
        assert_eq!((audit.lost.len(), audit.torn.len(), audit.duplicates), (1, 1, 1));
        assert!(!ledger.is_settled(&all));
        ledger.note(number_of(&first.content).expect("numbered"), Fate::Refused(451));
        assert_eq!(ledger.audit(&all).ghosts.len(), 1);
    }
}
