//! `postern-loadgen sink`.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use rustls::ServerConfig;
use tokio::sync::oneshot;

use super::{interrupted, print_json, runtime};
use crate::{
    sink::{
        Sink, SinkOptions, SinkSummary,
        fault::{Fault, Faults},
    },
    transport,
};

/// Takes mail as a relay's next hop, and checks each message against the hash it carries.
///
/// Prints its address when it listens, and a summary when it ends: on SIGINT, SIGTERM, or at the end
/// of standard input if --until-eof is given. Exit code: 0 if nothing arrived corrupted, 1 if
/// something did, 2 if it could not run.
#[derive(Args)]
#[command(after_help = "Faults: PHASE:ACTION[:WHEN], the first that strikes at a phase decides.
  PHASE   connect, ehlo, starttls, mail, rcpt, data, end (the final dot)
  ACTION  a code from 400 to 599, drop, stall, slow=MILLISECONDS
  WHEN    10%, first=N, every=N; always if not given
Examples: rcpt:450:10%   end:drop:every=100   data:stall:first=1   end:slow=250")]
pub(super) struct SinkArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(default_value = "127.0.0.1:2526", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// Name in the greeting, and in the self-made certificate.
    #[arg(long, default_value = "localhost", value_name = "NAME")]
    hostname: String,

    /// Offers TLS.
    #[arg(long, value_enum, default_value_t = TlsOffer::None)]
    tls: TlsOffer,

    /// PEM file with the certificate chain; made on the spot if not given.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// PEM file with the private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Writes the self-made certificate to this file, for clients that verify.
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    cert_out: Option<PathBuf>,

    /// Makes something go wrong; may be given more than once, see below.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,

    /// Seed of the odds: the same seed and sessions, the same faults.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Most connections at a time; more are told 421.
    #[arg(long, value_name = "N")]
    connections_max: Option<usize>,

    /// Appends a line for each message that arrives; see `verify`.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,

    /// Writes each message to a file in this folder, in plain form.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,

    /// Ends when standard input ends.
    #[arg(long)]
    until_eof: bool,

    /// Threads.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,

    /// Prints address and summary as lines of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsOffer {
    /// Plaintext only.
    None,
    /// STARTTLS is offered.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

impl SinkArguments {
    fn tls_config(&self) -> io::Result<Option<Arc<ServerConfig>>> {
        if self.tls == TlsOffer::None {
            return Ok(None);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            return transport::server_config(cert, key).map(Some);
        }
        let (config, certificate) = transport::self_made_server_config(&self.hostname)?;
        if let Some(file) = &self.cert_out {
            std::fs::write(file, certificate)?;
        }
        Ok(Some(config))
    }

    fn options(self) -> io::Result<SinkOptions> {
        Ok(SinkOptions {
            tls: self.tls_config()?,
            implicit_tls: self.tls == TlsOffer::Implicit,
            hostname: self.hostname,
            faults: Faults::new(self.faults, self.seed),
            connections_max: self.connections_max.unwrap_or(usize::MAX),
            ledger: self.ledger,
            dump: self.dump,
            ..SinkOptions::new(self.listen)
        })
    }
}

pub(super) fn run(arguments: SinkArguments) -> io::Result<bool> {
    let is_json = arguments.json;
    let until_eof = arguments.until_eof;
    let summary = runtime(arguments.threads)?.block_on(async {
        let sink = Sink::start(arguments.options()?).await?;
        if is_json {
            println!("{{\"listening\":\"{}\"}}", sink.addr());
        } else {
            println!("listening on {}", sink.addr());
        }
        tokio::select! {
            interrupted = interrupted() => interrupted?,
            () = end_of_input(until_eof) => {}
        }
        sink.stop().await
    })?;
    if is_json {
        print_json(&summary)?;
    } else {
        print(&summary);
    }
    Ok(summary.corrupt == 0)
}

/// Waits for the end of standard input, or for ever. The thread that reads is left to itself: it holds
/// nothing, and the process ends with `main`.
async fn end_of_input(is_awaited: bool) {
    let (ended, end) = oneshot::channel::<()>();
    if !is_awaited {
        return std::future::pending().await;
    }
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while io::stdin().read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        drop(ended);
    });
    // The sender is only ever dropped.
    let _dropped = end.await;
}

fn print(summary: &SinkSummary) {
    println!(
        "received {} ({} different), duplicates {}, corrupt {}, unmarked {}, with bare LF {}",
        summary.received,
        summary.distinct,
        summary.duplicates,
        summary.corrupt,
        summary.unmarked,
        summary.bare_line_feeds,
    );
    println!(
        "{} bytes in {:.1} s, connections {} ({} encrypted, {} refused), faults {}",
        summary.bytes,
        summary.seconds,
        summary.connections,
        summary.encrypted,
        summary.connections_refused,
        summary.faults,
    );
}
