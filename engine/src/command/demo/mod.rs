//! `postern demo`: the whole story in a few seconds, in a folder of its own.
//!
//! A real relay, started as `postern run` starts one, a next hop and the applications, all in this
//! process and on loopback addresses. Every line it prints was tried before it is printed.
//!
//! Never: leaves this machine, needs another user's rights, writes outside its folder, deletes a
//! folder that it has not marked.
//!
//! Fails with exit code 1 if any claim does not hold, so that it is a smoke test as well.

mod claim;
mod client;
mod folder;
mod sink;
mod story;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postern_signer::dns::{record_name, record_text};
use tokio::task::LocalSet;

use self::claim::{Claim, Teller, say};
use self::folder::{BILLING, DOMAIN, Folder, Ports};
use self::sink::Sink;
use self::story::Stage;
use self::verify::Record;
use super::relay::Relay;
use super::{Failure, GlobalOptions};
use crate::config::IoChoice;
use crate::control::client::ask;
use crate::io::tls::{Roots, Verify, client_config};
use crate::io::{Choice, Io, IoOptions};
use crate::order::{Answer, Request, Status};

/// Arguments of `postern demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put the demonstration's files
    #[arg(long, value_name = "DIR", default_value = "postern-demo")]
    pub dir: PathBuf,
    /// End after the story instead of running on until Ctrl-C
    #[arg(long)]
    pub once: bool,
    /// Begin anew: delete that folder first, if a demonstration made it
    #[arg(long)]
    pub fresh: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error; a claim that does not hold is an error.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let mut teller = Teller::new(options.json);
    teller.note(&format!(
        "postern {} demonstration in {}; nothing leaves this machine",
        env!("CARGO_PKG_VERSION"),
        args.dir.display()
    ));
    let scene = Scene::set(&args.dir, args.fresh, PORTS)?;
    scene.play(&mut teller);
    if options.json {
        say(&serde_json::to_string_pretty(teller.claims())?);
    }
    let failed = teller.claims().iter().filter(|claim| !claim.ok).count();
    if failed > 0 {
        let log = scene.folder.log();
        scene.end()?;
        let all = teller.claims().len();
        let text = format!("{failed} of {all} claims do not hold; the log is {}", log.display());
        return Err(Failure::problem(text));
    }
    if args.once {
        teller.note(&format!("\nall {} claims hold", teller.claims().len()));
        return scene.end();
    }
    let received = scene.folder.received()?;
    next_steps(&scene, &received).iter().for_each(|line| teller.note(line));
    scene.sink.write_to(received);
    scene.run_on()
}

/// A relay, its next hop and their folder.
struct Scene {
    folder: Folder,
    relay: Relay,
    sink: Sink,
    /// From nothing to listening.
    took: Duration,
}

impl Scene {
    fn set(dir: &Path, is_fresh: bool, ports: Ports) -> Result<Self, Failure> {
        let began = Instant::now();
        let folder = Folder::open(dir, is_fresh, ports)?;
        let sink = Sink::start(folder.bind_next_hop()?)?;
        let relay = Relay::start(&folder.snapshot)?;
        Ok(Self { folder, relay, sink, took: began.elapsed() })
    }

    /// Plays the story through.
    fn play(&self, teller: &mut Teller) {
        let status = match self.status() {
            Ok(status) => status,
            Err(failure) => return teller.claim(Claim::broken(LISTENS, failure)),
        };
        self.tell_start(&status, teller);
        let stage = match self.stage() {
            Ok(stage) => stage,
            Err(failure) => return teller.claim(Claim::broken(PREPARED, failure)),
        };
        if status.cut.contains_key(BILLING)
            && let Err(failure) = stage.restore()
        {
            return teller.claim(Claim::broken(PREPARED, failure));
        }
        story::tell(&stage, teller);
    }

    fn tell_start(&self, status: &Status, teller: &mut Teller) {
        let drivers: Vec<&str> = status.shards.iter().map(|shard| shard.io.as_str()).collect();
        let driver = drivers.first().copied().unwrap_or("nothing");
        let folder = if self.folder.is_reused { "the folder is reused" } else { "CA, keys made" };
        let detail = format!("{} cores, {driver}; {folder}", status.shards.len());
        teller.claim(Claim::time(LISTENS, !drivers.is_empty(), self.took, detail));
        if driver == "epoll"
            && self.folder.snapshot.server.io == IoChoice::Auto
            && let Some(refusal) = ring_refusal()
        {
            teller.note(&format!("     {refusal}"));
        }
    }

    fn stage(&self) -> Result<Stage<'_>, Failure> {
        let snapshot = &self.folder.snapshot;
        let entry = snapshot.dkim.of(DOMAIN);
        let (entry, key) = entry
            .and_then(|entry| Some((entry, entry.key.as_ref()?)))
            .ok_or_else(|| Failure::problem("there is no DKIM key for example.com"))?;
        let name = record_name(entry.profile.selector(), entry.profile.domain());
        let record = Record::new(&name, &record_text(&key.public()));
        let roots = Roots::Files(vec![self.folder.authority()]);
        let addresses = self.relay.addresses();
        let address = addresses.first().copied();
        Ok(Stage {
            folder: &self.folder,
            sink: &self.sink,
            address: address.ok_or_else(|| Failure::problem("the relay has no listener"))?,
            tls: client_config(&Verify::Required { roots })?,
            record: record.map_err(Failure::problem)?,
            run: format!("{:x}", Timestamp::now().as_millisecond()),
        })
    }

    fn status(&self) -> Result<Status, Failure> {
        let socket = &self.folder.snapshot.server.control_socket;
        match ask(socket, &Request::Status {})? {
            Answer::Status(status) => Ok(status),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Drains the relay.
    fn end(self) -> Result<(), Failure> {
        whole(self.relay.stop())
    }

    /// Waits for Ctrl-C, which drains the relay.
    fn run_on(self) -> Result<(), Failure> {
        whole(self.relay.wait())
    }
}

fn whole(is_whole: bool) -> Result<(), Failure> {
    match is_whole {
        true => Ok(()),
        false => Err(Failure::problem("a thread of the relay panicked; please report this bug")),
    }
}

/// What refuses io_uring here, asked once more because only the log has the words.
fn ring_refusal() -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let options = IoOptions { choice: Choice::Uring, ..IoOptions::default() };
    let outcome = LocalSet::new().block_on(&runtime, async { Io::start(&options) });
    outcome.err().map(|refusal| refusal.to_string())
}

fn next_steps(scene: &Scene, received: &Path) -> Vec<String> {
    let folder = &scene.folder;
    let config = folder.config().display().to_string();
    let address = scene.relay.addresses().first().map(ToString::to_string).unwrap_or_default();
    let password = folder.password(BILLING).unwrap_or("PASSWORD");
    let program = std::env::args_os().next().unwrap_or_else(|| "postern".into());
    let program = Path::new(&program).display();
    vec![
        "\nThe relay keeps running; Ctrl-C drains it. In another terminal:".to_owned(),
        format!(
            "  swaks --server {address} --tls --auth-user {BILLING} --auth-password={password} \\"
        ),
        "    --from billing@example.com --to you@example.net".to_owned(),
        format!(
            "  openssl s_client -starttls smtp -connect {address} -CAfile {}",
            folder.authority().display()
        ),
        format!("  {program} status --config {config}"),
        format!("  {program} cut {BILLING} --reason test --config {config}"),
        format!("  {program} check --config {config}   # a real one, with comments: change it"),
        format!(
            "what arrives is written to {}/, the log is {}",
            received.display(),
            folder.log().display()
        ),
    ]
}

const LISTENS: &str = "the relay listens";
const PREPARED: &str = "the story can begin";

/// As in the documentation's examples, where they are free.
const PORTS: Ports = [2525, 4650, 2526];

#[cfg(test)]
mod tests;
