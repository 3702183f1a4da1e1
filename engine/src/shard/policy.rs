//! A configuration made ready to work by: filters compiled, keys loaded, TLS set up.
//!
//! Made once, off the data threads, and shared by all shards; a reload makes a new one. Whatever
//! is wrong with a file that the configuration names is found here, before anything changes.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_filters::{Action, Detector, Filters, Rule};
use postern_signer::key::SigningKey;
use postern_signer::name::Selector;
use postern_smtp::data::BareNewlines;
use postern_smtp::server::{ServerOptions, Timeouts};
use rustls::ServerConfig;

use crate::config::{self, FilterAction, Listener, ListenerTls, Snapshot, TlsFiles};
use crate::deliver::DeliverySetup;
use crate::deliver::signing::SigningKeys;
use crate::io::tls::{self, Identity, ReloadableCert};
use crate::queue::{Backoff, LanePolicy};
use crate::route::Routing;

/// Everything the shards work by. Immutable; `Send` and `Sync`.
pub struct Policy {
    /// What it was made from.
    pub snapshot: Arc<Snapshot>,
    /// Compiled filters, unless switched off.
    pub filters: Option<Arc<Filters>>,
    /// The signing keys.
    pub keys: Arc<SigningKeys>,
    /// One entry a configured listener, in the same order.
    pub listeners: Vec<ListenerPolicy>,
    /// Where mail goes, and how.
    pub routes: Arc<Routing>,
}

/// What sessions of one listener share.
#[derive(Clone)]
pub struct ListenerPolicy {
    /// As it is configured.
    pub address: SocketAddr,
    /// For the state machine.
    pub options: Arc<ServerOptions>,
    /// The TLS configuration, where there is TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// TLS from the first byte.
    pub is_implicit: bool,
    /// From the start of a TLS handshake to its end.
    pub handshake_timeout: Duration,
    /// Most sessions at once on one shard.
    pub sessions_max: usize,
}

/// A file that the configuration names cannot be used.
#[derive(Debug)]
pub struct PolicyError(String);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Policy {
    /// Loads keys and certificates and compiles the filters. Returns warnings beside the policy.
    ///
    /// # Errors
    /// [`PolicyError`] names the file and what is wrong with it.
    pub fn prepare(snapshot: &Arc<Snapshot>) -> Result<(Self, Vec<String>), PolicyError> {
        let mut warnings = Vec::new();
        let keys = SigningKeys::new(&snapshot.dkim);
        let listeners = listeners(snapshot, &mut warnings)?;
        let routes =
            Routing::prepare(&snapshot.routes).map_err(|error| PolicyError(error.to_string()))?;
        Ok((
            Self {
                filters: filters(&snapshot.filters)?,
                keys: Arc::new(keys),
                listeners,
                routes: Arc::new(routes),
                snapshot: Arc::clone(snapshot),
            },
            warnings,
        ))
    }
}

impl Policy {
    /// The same, with each managed `[[dkim]]` signing with the selector and key that `active` has
    /// for its line.
    #[must_use]
    pub fn with_managed(
        &self,
        active: impl Fn(&str) -> Option<(Selector, Arc<SigningKey>)>,
    ) -> Self {
        let keys = self.snapshot.dkim.with_managed(active);
        Self {
            snapshot: Arc::clone(&self.snapshot),
            filters: self.filters.clone(),
            keys: Arc::new(SigningKeys::new(&keys)),
            listeners: self.listeners.clone(),
            routes: Arc::clone(&self.routes),
        }
    }

    /// What deliveries are made by.
    #[must_use]
    pub fn delivery_setup(&self) -> DeliverySetup {
        let queue = &self.snapshot.queue;
        let lane = |lane| LanePolicy {
            weight: queue.weights.of(lane),
            backoff: Backoff {
                base_ms: millis(queue.retry.base),
                factor: f64::from(queue.retry.factor_percent) / 100.0,
                max_ms: millis(queue.retry.max),
                jitter: f64::from(queue.retry.jitter_percent) / 100.0,
            },
            expiry_ms: millis(queue.expiry.of(lane)),
        };
        DeliverySetup {
            hostname: self.snapshot.server.hostname.clone(),
            hold: queue.hold,
            lanes: config::Lane::ALL.map(lane),
            keys: Arc::clone(&self.keys),
            routes: Arc::clone(&self.routes),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The filters of a configuration; none where filtering is switched off.
///
/// # Errors
/// [`PolicyError`] where they could never work.
pub fn filters(configured: &config::Filters) -> Result<Option<Arc<Filters>>, PolicyError> {
    if !configured.enabled {
        return Ok(None);
    }
    let mut options = postern_filters::Config::default();
    options.rules.clear();
    for detector in Detector::all() {
        let action = match detector {
            Detector::CreditCard => configured.credit_card,
            Detector::Jwt => configured.jwt,
            secret if secret.is_secret() => configured.secrets,
            number if number.is_number() => configured.identifiers,
            _ => continue,
        };
        match action {
            FilterAction::Refuse => {
                let mut rule = Rule::new(format!("dlp.{detector}"), detector, Action::Reject);
                if detector == Detector::CreditCard {
                    rule.count_min = configured.credit_card_count_min;
                }
                options.rules.push(rule);
            }
            // What no rule names is found, and passes.
            FilterAction::Report => {}
            FilterAction::Off => options.ignored.push(detector),
        }
    }
    let filters = Filters::new(options).map_err(|error| PolicyError(error.to_string()))?;
    Ok(Some(Arc::new(filters)))
}

/// Listeners with the same files share one TLS configuration, so that a session begun on one can
/// be resumed on another.
fn listeners(
    snapshot: &Snapshot,
    warnings: &mut Vec<String>,
) -> Result<Vec<ListenerPolicy>, PolicyError> {
    let mut by_files: HashMap<&TlsFiles, Arc<ServerConfig>> = HashMap::new();
    let mut policies = Vec::with_capacity(snapshot.listeners.len());
    for listener in &snapshot.listeners {
        let tls = match listener.tls.files() {
            None => None,
            Some(files) => Some(match by_files.get(files) {
                Some(config) => Arc::clone(config),
                None => {
                    let config = server_tls(files, warnings)?;
                    by_files.insert(files, Arc::clone(&config));
                    config
                }
            }),
        };
        let shards = u32::try_from(snapshot.server.cores.len()).unwrap_or(u32::MAX);
        policies.push(ListenerPolicy {
            address: listener.address,
            options: Arc::new(server_options(snapshot, listener)),
            tls,
            is_implicit: matches!(listener.tls, ListenerTls::Implicit(_)),
            handshake_timeout: listener.timeouts.tls,
            sessions_max: listener.limits.sessions_max.div_ceil(shards) as usize,
        });
    }
    Ok(policies)
}

fn server_tls(
    files: &TlsFiles,
    warnings: &mut Vec<String>,
) -> Result<Arc<ServerConfig>, PolicyError> {
    let identity = Identity::load(&files.certificate, &files.key)
        .map_err(|error| PolicyError(error.to_string()))?;
    let about = files.certificate.display();
    warnings.extend(
        identity.warnings(Timestamp::now()).iter().map(|warning| format!("{about}: {warning}")),
    );
    let client_ca = files.client_ca.as_deref().map(tls::read_certificates).transpose();
    let options = tls::ServerOptions {
        certificate: ReloadableCert::new(identity),
        client_ca: client_ca.map_err(|error| PolicyError(error.to_string()))?,
    };
    tls::server_config(options).map_err(|error| PolicyError(error.to_string()))
}

fn server_options(snapshot: &Snapshot, listener: &Listener) -> ServerOptions {
    let defaults = ServerOptions::default();
    ServerOptions {
        hostname: snapshot.server.hostname.clone(),
        starttls: matches!(listener.tls, ListenerTls::StartTls(_)),
        auth: listener.tls.files().is_some() || listener.insecure_plaintext_auth,
        insecure_plaintext_auth: listener.insecure_plaintext_auth,
        bare_newlines: match listener.bare_newlines {
            config::BareNewlines::Reject => BareNewlines::Reject,
            config::BareNewlines::Normalize => BareNewlines::Normalize,
        },
        message_bytes_max: listener.limits.message_bytes_max,
        recipients_max: listener.limits.recipients_max,
        transactions_max: listener.limits.messages_per_session_max,
        errors_max: listener.limits.errors_max,
        timeouts: Timeouts {
            command: listener.timeouts.command,
            data_block: listener.timeouts.data_block,
            message: listener.timeouts.message,
        },
        ..defaults
    }
}
