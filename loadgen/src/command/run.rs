//! `postern-loadgen run`.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use tokio::{
    net::lookup_host,
    time::{MissedTickBehavior, interval},
};

use super::{interrupted, print_json, runtime};
use crate::source::{Credential, Progress, Source, SourceOptions, SourceSummary, Tls};

/// Sends mail in a closed loop: each session waits for a reply before it sends on.
///
/// Without --messages and --duration it sends one message per session. Ends early, and in good order,
/// on SIGINT or SIGTERM. Exit code: 0 if every message was accepted, 1 if not, 2 if it could not run.
#[derive(Args)]
pub(super) struct RunArguments {
    /// Where the relay listens: HOST:PORT.
    to: String,

    /// Sessions at a time.
    #[arg(long, short = 's', default_value_t = 1, value_name = "N")]
    sessions: usize,

    /// Messages in all, over all sessions.
    #[arg(long, short = 'm', value_name = "N", conflicts_with = "messages_per_session")]
    messages: Option<u64>,

    /// Messages for each session (on average: a fast session sends more).
    #[arg(long, value_name = "N")]
    messages_per_session: Option<u64>,

    /// Ends the run after this many seconds.
    #[arg(long, short = 't', value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Length of each message in bytes, header included.
    #[arg(long, short = 'l', default_value_t = 4096, value_name = "BYTES")]
    size: usize,

    /// Encryption.
    #[arg(long, value_enum, default_value_t = TlsChoice::None)]
    tls: TlsChoice,

    /// PEM file with the certificates to trust. Without it the server's certificate is not verified.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Name that the certificate must carry, if it is not HOST.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// AUTH PLAIN with these; given more than once, they are dealt out to the sessions in turn.
    #[arg(long, value_name = "USER:PASSWORD", value_parser = credential)]
    auth: Vec<Credential>,

    /// Waits for the reply to each command instead of pipelining.
    #[arg(long)]
    no_pipelining: bool,

    /// Opens a new connection after this many messages; 1 is one message a connection.
    #[arg(long, value_name = "N")]
    messages_per_connection: Option<u64>,

    /// Reconnects when the connection is lost or refused, through restarts of the relay.
    #[arg(long)]
    persist: bool,

    /// Reverse-path and author.
    #[arg(long, default_value = "app@loadgen.invalid", value_name = "MAILBOX")]
    from: String,

    /// Forward-path; may be given more than once.
    #[arg(long = "rcpt", default_value = "recipient@loadgen.invalid", value_name = "MAILBOX")]
    recipients: Vec<String>,

    /// Name in EHLO.
    #[arg(long, default_value = "loadgen.invalid", value_name = "NAME")]
    helo: String,

    /// Longest wait for a reply, in seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    timeout: Duration,

    /// Appends a line for each answered message; see `verify`.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,

    /// Threads.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,

    /// Prints the summary as one line of JSON, and no progress.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum TlsChoice {
    /// Plaintext.
    None,
    /// STARTTLS before AUTH and mail.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn credential(text: &str) -> Result<Credential, String> {
    let (user, password) = text.split_once(':').ok_or("not USER:PASSWORD")?;
    Ok(Credential { user: user.to_owned(), password: password.to_owned() })
}

impl RunArguments {
    async fn options(self) -> io::Result<SourceOptions> {
        let to: SocketAddr = lookup_host(&self.to)
            .await?
            .next()
            .ok_or_else(|| io::Error::other(format!("{} has no address", self.to)))?;
        let host = self.to.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        let per_session = self.messages_per_session.map(|each| each * self.sessions as u64);
        let limited = self.messages.or(per_session);
        let one_each = self.duration.is_none().then_some(self.sessions as u64);
        Ok(SourceOptions {
            sessions: self.sessions,
            messages: limited.or(one_each),
            duration: self.duration,
            message_bytes: self.size,
            tls: match self.tls {
                TlsChoice::None => Tls::None,
                TlsChoice::Starttls => Tls::StartTls,
                TlsChoice::Implicit => Tls::Implicit,
            },
            ca: self.ca,
            server_name: self
                .server_name
                .or_else(|| Some(host.trim_matches(['[', ']']).to_owned())),
            credentials: self.auth,
            pipelining: !self.no_pipelining,
            messages_per_connection: self.messages_per_connection.map(|count| count.max(1)),
            persist: self.persist,
            from: self.from,
            recipients: self.recipients,
            helo: self.helo,
            timeout: self.timeout,
            ledger: self.ledger,
            ..SourceOptions::new(to)
        })
    }
}

pub(super) fn run(arguments: RunArguments) -> io::Result<bool> {
    let is_json = arguments.json;
    let summary = runtime(arguments.threads)?.block_on(async {
        let source = Source::new(arguments.options().await?)?;
        let stop = source.stopper();
        let progress = source.progress();
        let running = source.run();
        tokio::pin!(running);
        tokio::select! {
            summary = &mut running => return summary,
            () = tell(&progress, is_json) => {}
            stopped = interrupted() => stopped?,
        }
        stop();
        running.await
    })?;
    if is_json {
        print_json(&summary)?;
    } else {
        print(&summary);
    }
    let missed = summary.deferred + summary.rejected + summary.unknown + summary.unsent;
    Ok(missed == 0 && summary.accepted > 0)
}

/// Prints a line of progress each second, for ever.
async fn tell(progress: &Arc<Progress>, is_quiet: bool) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = 0;
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let accepted = progress.accepted();
        if !is_quiet {
            eprintln!(
                "{:>8}/s  accepted {accepted}  refused {}  connections lost {}",
                accepted - before,
                progress.refused(),
                progress.connection_failures(),
            );
        }
        before = accepted;
    }
}

fn print(summary: &SourceSummary) {
    println!(
        "closed loop, {:.1} s: accepted {} ({:.0}/s), 4xx {}, 5xx {}, unknown {}, unsent {}",
        summary.seconds,
        summary.accepted,
        summary.rate_per_s,
        summary.deferred,
        summary.rejected,
        summary.unknown,
        summary.unsent,
    );
    println!(
        "final reply after: median {}, 99 % {}, longest {}",
        Micros(summary.latency_us_p50),
        Micros(summary.latency_us_p99),
        Micros(summary.latency_us_max),
    );
    println!("connections {}, failed {}", summary.connections, summary.connection_failures);
    for (what, words) in
        [("last failure", &summary.last_failure), ("last refusal", &summary.last_refusal)]
    {
        if let Some(words) = words {
            println!("{what}: {words}");
        }
    }
}

struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            micros if micros < 1000 => write!(f, "{micros} us"),
            micros => write!(f, "{}.{:02} ms", micros / 1000, micros % 1000 / 10),
        }
    }
}
