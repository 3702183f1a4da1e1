//! `[[app]]`: one application, who it is and what it may send.

use std::fmt;
use std::sync::Arc;

use super::address::{AddressPattern, AddressPatterns};
use super::diagnostic::Diagnostic;
use super::listener::MESSAGE_BYTES;
use super::network::{Network, NetworkError};
use super::read::{Section, Span, Text};
use super::secret::{HashFault, PasswordHash};

/// One authenticated source of mail.
pub struct App {
    /// Its name, which is also its SASL authentication identity; unique, at most 64 characters.
    pub id: Arc<str>,
    /// Who answers for it.
    pub owner: String,
    /// Its credential; `None` where only its network speaks for it.
    pub password_hash: Option<PasswordHash>,
    /// Addresses it may connect from without AUTH.
    pub networks: Vec<Network>,
    /// Envelope and author addresses it may use.
    pub senders: AddressPatterns,
    /// Recipients it may write to; `None` is any.
    pub recipients: Option<AddressPatterns>,
    /// It may use the null reverse-path, `MAIL FROM:<>`.
    pub null_reverse_path: bool,
    /// Its urgency.
    pub lane: Lane,
    /// Its budget.
    pub limits: AppLimits,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An application's budget; `None` is without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppLimits {
    /// Largest content in bytes; the listener's bound holds as well.
    pub message_bytes_max: Option<u64>,
    /// Most recipients of one message; the listener's bound holds as well.
    pub recipients_per_message_max: Option<u32>,
    /// Messages a minute, over all shards.
    pub messages_per_minute: Option<u32>,
    /// Sessions at once, over all shards.
    pub sessions_max: Option<u32>,
}

/// Urgency class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Lane {
    /// Login codes, password resets: somebody waits for it.
    Urgent,
    /// Everything without a lane of its own.
    #[default]
    Normal,
    /// Newsletters, reports.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// The name in the configuration, the log and the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// An application and the places of what others are compared with.
pub(super) struct Placed {
    pub(super) app: App,
    /// Of its id.
    pub(super) span: Span,
    /// Of each of its networks, in their order.
    pub(super) network_spans: Vec<Span>,
}

impl App {
    /// Reads one `[[app]]`; `None` where it has no usable id.
    pub(super) fn read(section: &Section<'_>) -> Option<Placed> {
        let owner = section
            .required_text(
                "owner",
                "who answers for this application, such as an address or a team",
            )
            .map_or_else(String::new, |owner| owner.text.to_owned());
        let password_hash = read_password_hash(section);
        let networks = read_networks(section);
        let has_credential = section.has("password_hash") || section.has("networks");
        if !has_credential {
            section.context.push_missing(
                Diagnostic::error(
                    section.span.clone(),
                    "this application has neither `password_hash` nor `networks`, so it cannot send",
                )
                .help("make a hash with `postern app passwd`"),
            );
        }
        if !section.has("password_hash") {
            networks.iter().for_each(|(network, span)| warn_if_wide(section, *network, span));
        }
        let senders = read_senders(section);
        let recipients = section.has("recipients").then(|| read_patterns(section, "recipients"));
        let null_reverse_path = section.flag("null_reverse_path", false);
        let lane = section.choice("lane", &Lane::ALL.map(|lane| (lane.name(), lane)), Lane::Normal);
        let limits = section.table("limits", "app.limits").map(|limits| AppLimits::read(&limits));
        let (id, span) = read_id(section)?;
        let (networks, network_spans) = networks.into_iter().unzip();
        let app = Self {
            id,
            owner,
            password_hash,
            networks,
            senders,
            recipients,
            null_reverse_path,
            lane,
            limits: limits.unwrap_or_default(),
        };
        Some(Placed { app, span, network_spans })
    }
}

impl AppLimits {
    fn read(section: &Section<'_>) -> Self {
        Self {
            message_bytes_max: section.bytes("message_bytes_max", 1..=*MESSAGE_BYTES.end()),
            recipients_per_message_max: section.count("recipients_per_message_max"),
            messages_per_minute: section.count("messages_per_minute"),
            sessions_max: section.count("sessions_max"),
        }
    }
}

fn read_id(section: &Section<'_>) -> Option<(Arc<str>, Span)> {
    let help = "a short name of letters, digits and . _ - @ +, which is also its login name";
    let id = section.required_text("id", help)?;
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"._-@+".contains(&b);
    if id.text.is_empty() || id.text.len() > ID_BYTES_MAX || !id.text.bytes().all(is_letter) {
        let message = format!("`{}` cannot be an application's id", id.text.escape_debug());
        section.context.push(Diagnostic::error(id.span, message).help(help));
        return None;
    }
    Some((id.text.into(), id.span))
}

fn read_password_hash(section: &Section<'_>) -> Option<PasswordHash> {
    let text = section.text("password_hash")?;
    section.context.hide(text.span.clone());
    let message = match PasswordHash::parse(text.text) {
        Ok(hash) => {
            if hash.is_weak() {
                let message = "this password hash is cheap to guess";
                let finding = Diagnostic::warning(text.span, message);
                section.context.push(finding.help("make a new one with `postern app passwd`"));
            }
            return Some(hash);
        }
        Err(HashFault::NotPhc) => "this is not a password hash".to_owned(),
        Err(HashFault::Algorithm(name)) => format!("this is a hash of another kind: {name}"),
        Err(HashFault::Costs) => {
            "this hash is incomplete or its costs are out of bounds".to_owned()
        }
    };
    let help = "it must be an argon2id hash, made by `postern app passwd`";
    section.context.push(Diagnostic::error(text.span, message).help(help));
    None
}

fn read_networks(section: &Section<'_>) -> Vec<(Network, Span)> {
    let mut networks = Vec::new();
    for text in section.texts("networks").unwrap_or_default() {
        match text.text.parse::<Network>() {
            Ok(network) => networks.push((network, text.span)),
            Err(error) => report_bad_network(section, &text, error),
        }
    }
    networks
}

fn report_bad_network(section: &Section<'_>, text: &Text<'_>, error: NetworkError) {
    let written = text.text;
    let (message, help) = match error {
        NetworkError::Address => (
            format!("`{written}` is not an IP network"),
            "write \"192.0.2.0/24\", \"2001:db8::/32\" or a single address".to_owned(),
        ),
        NetworkError::Prefix => (
            format!("`{written}` has no valid prefix length"),
            "0 to 32 bits for IPv4, 0 to 128 for IPv6".to_owned(),
        ),
        NetworkError::HostBits(meant) => (
            format!("`{written}` has bits set behind its prefix"),
            format!("did you mean \"{meant}\"?"),
        ),
        NetworkError::Mapped(meant) => {
            (format!("`{written}` is an IPv4 network in IPv6 form"), format!("write \"{meant}\""))
        }
    };
    section.context.push(Diagnostic::error(text.span.clone(), message).help(help));
}

/// Who has no credential is known by its network alone: it should be a small one.
fn warn_if_wide(section: &Section<'_>, network: Network, span: &Span) {
    let is_v4 = network.address().is_ipv4();
    if network.prefix() == 0 {
        let message = "everybody may send as this application: that is an open relay";
        let help = "name the network it connects from, or give it a `password_hash` instead";
        section.context.push(Diagnostic::error(span.clone(), message).help(help));
    } else if network.prefix() < if is_v4 { WIDE_V4 } else { WIDE_V6 } {
        let message = format!("everybody in {network} may send as this application without AUTH");
        section.context.push(Diagnostic::warning(span.clone(), message));
    }
}

fn read_senders(section: &Section<'_>) -> AddressPatterns {
    if !section.has("senders") {
        section.report_missing("senders", "the addresses or domains it may send as");
    }
    let senders = read_patterns(section, "senders");
    if senders.is_empty() && section.texts("senders").is_some_and(|list| list.is_empty()) {
        let message = "`senders` is empty, so this application cannot send";
        section.context.push(Diagnostic::error(section.place("senders"), message));
    }
    senders
}

fn read_patterns(section: &Section<'_>, key: &str) -> AddressPatterns {
    let mut patterns = Vec::new();
    for text in section.texts(key).unwrap_or_default() {
        match AddressPattern::parse(text.text) {
            Some(pattern) => patterns.push(pattern),
            None => {
                let message = format!("`{}` is neither an address nor a domain", text.text);
                let help = "write \"example.com\" for a whole domain (sub-domains are not \
                            included), or \"billing@example.com\"";
                section.context.push(Diagnostic::error(text.span, message).help(help));
            }
        }
    }
    patterns.into_iter().collect()
}

/// Fits a log line and a reply.
const ID_BYTES_MAX: usize = 64;
/// A wider network than a large site has.
const WIDE_V4: u8 = 16;
const WIDE_V6: u8 = 48;
