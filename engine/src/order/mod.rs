//! What an operator can ask of a running relay, and what the relay answers.
//!
//! A [`Request`] comes as one JSON line over the control socket and is answered by one JSON line
//! ([`Answer`]). Nothing but words: this room does nothing and names no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line from an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Counters and health of every shard.
    Status {},
    /// Cut one application off, everywhere, until restored.
    Cut { app: String, reason: String, actor: String },
    /// Undo a cut.
    Restore { app: String, actor: String },
    /// List queued deliveries.
    QueueList { filter: Filter, limit: usize },
    /// One message's envelope and state.
    QueueShow { id: String },
    /// Make deliveries due now; failed ones are tried again.
    QueueRetry { filter: Filter },
    /// Forget messages for good.
    QueueDrop { filter: Filter },
    /// Read the configuration and the certificates again.
    Reload {},
    /// List the signing keys that the relay looks after.
    KeyList {},
    /// Rotate the keys of a signing domain as soon as the next ones may sign.
    KeyRotate { domain: String, selector_prefix: Option<String>, actor: String },
    /// Sign with the standby keys of a signing domain at once, and withdraw those before.
    KeyEmergency {
        domain: String,
        selector_prefix: Option<String>,
        /// For how long mail that they signed may be under way; else as configured.
        drain_s: Option<u64>,
        reason: String,
        actor: String,
    },
    /// Give up a key that has not signed yet.
    KeyAbandon { domain: String, selector: String, actor: String },
}

/// The keys of one managed `[[dkim]]`. Times are in seconds, as the schedule sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// Signing domain.
    pub domain: String,
    /// What its selectors begin with.
    pub selector_prefix: String,
    /// `rsa-sha256` or `ed25519-sha256`.
    pub algorithm: String,
    /// The applications it signs for; empty for all.
    pub apps: Vec<String>,
    /// Seconds until the active key should be followed by the next; none while nothing signs.
    pub due_in_s: Option<u64>,
    /// Why the next key cannot be made, where that is so.
    pub trouble: Option<String>,
    /// In the order they were made; the last destroyed ones among them.
    pub keys: Vec<ListedKey>,
}

/// One key of a [`KeyList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedKey {
    /// Selector.
    pub selector: String,
    /// `generated`, `published`, `standby`, `active`, `draining`, `withdrawn` or `destroyed`.
    pub stage: String,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds at this stage.
    pub in_stage_s: u64,
    /// The stage that follows.
    pub next: Option<String>,
    /// What that waits for, where it does.
    pub waits_for: Option<String>,
    /// Why the last step failed, where it did.
    pub trouble: Option<String>,
    /// How often in a row.
    pub failures: u32,
    /// The name of its record, where it is kept.
    pub record_name: String,
    /// What the record should be; none for a destroyed key.
    pub record_text: Option<String>,
}

/// What was done with the keys of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOutcome {
    /// The line as it is now.
    pub line: KeyList,
    /// Why nothing was done, where that is so.
    pub error: Option<String>,
}

/// Which queued messages are meant; an absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Queue id.
    pub id: Option<String>,
    /// Application id.
    pub app: Option<String>,
    /// Recipient domain.
    pub domain: Option<String>,
    /// Lane name.
    pub lane: Option<String>,
    /// State name: `ready`, `deferred`, `leased`, `frozen`, `held` or `failed`.
    pub state: Option<String>,
}

/// One shard's share in a cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutShare {
    /// Sessions of the application that were told to end.
    pub sessions_ended: usize,
    /// Queued messages that were frozen.
    pub frozen: usize,
}

/// What a cut did, core by core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReport {
    /// The application.
    pub app: String,
    /// Microseconds from the order until the last core refused.
    pub effect_us: u64,
    /// Per core: index, microseconds to effect, and its share.
    pub cores: Vec<CutCore>,
    /// Sum over cores.
    pub sessions_ended: usize,
    /// Sum over cores.
    pub frozen: usize,
    /// Queue id of the last message of this application that left, where one did since start.
    pub last_out: Option<String>,
}

/// One core's line in a [`CutReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutCore {
    /// Shard index.
    pub shard: usize,
    /// Microseconds from the order to this core's answer.
    pub effect_us: u64,
    /// What it did.
    #[serde(flatten)]
    pub share: CutShare,
}

/// One line of `queue list`: a message and one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Queue id.
    pub id: String,
    /// Shard that holds it.
    pub shard: usize,
    /// Application id.
    pub app: String,
    /// Lane name.
    pub lane: String,
    /// `ready`, `deferred`, `leased`, `frozen`, `held` or `failed`.
    pub state: String,
    /// Recipient domain.
    pub domain: String,
    /// Recipients waiting in this delivery.
    pub recipients: usize,
    /// Attempts so far.
    pub attempts: u32,
    /// Seconds since acceptance.
    pub age_s: u64,
    /// Seconds until the next attempt, for deferred ones.
    pub due_in_s: Option<u64>,
    /// The last reply or trouble.
    pub last: Option<String>,
}

/// `queue show`: one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Queue id.
    pub id: String,
    /// Shard that holds it.
    pub shard: usize,
    /// Application id.
    pub app: String,
    /// Lane name.
    pub lane: String,
    /// Reverse-path without brackets.
    pub reverse_path: String,
    /// Milliseconds since 1970.
    pub received_ms: u64,
    /// Bytes in wire form.
    pub bytes: u64,
    /// Recipients and where each stands.
    pub recipients: Vec<ShownRecipient>,
}

/// One recipient of a [`Shown`] message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRecipient {
    /// Forward-path without brackets.
    pub path: String,
    /// `queued`, `delivered` or `failed`.
    pub state: String,
    /// The last reply or trouble.
    pub last: Option<String>,
}

/// Counters and health of one shard. Counters count since start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Index.
    pub shard: usize,
    /// The CPU it is pinned to, where it is.
    pub core: Option<usize>,
    /// `uring` or `epoll`.
    pub io: String,
    /// Which signing backend runs.
    pub signer: String,
    /// Where it runs, and what it has done.
    pub signing: SigningStatus,
    /// Named counters, in the order of their names.
    pub counters: BTreeMap<String, u64>,
    /// Queued deliveries by lane.
    pub queued: BTreeMap<String, u64>,
    /// `ok`, or why the spool pushes back.
    pub spool: String,
}

/// What the signer of a shard has done since start. Signatures, passes and faults are the
/// backend's, and count all shards that share it; jobs and waits are the shard's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningStatus {
    /// `inline`, `thread`, or `core N`.
    pub place: String,
    /// Jobs that were answered.
    pub jobs: u64,
    /// Those of them that got no signature.
    pub failed: u64,
    /// Signatures made.
    pub signatures: u64,
    /// Passes done.
    pub passes: u64,
    /// Signatures a pass, in percent: 400 is four in each.
    pub fill_percent: u64,
    /// How long deliveries waited for their signatures, by class.
    pub waits: BTreeMap<String, SignerWait>,
    /// Signatures that did not verify and were discarded: faulty memory or CPU.
    pub faults: u64,
    /// All key and working memory of the backend is kept from swap and core dumps.
    pub is_memory_locked: bool,
    /// The backend that was taken out of use after such faults, where one was.
    pub quarantined: Option<String>,
}

/// Waits for signatures, in microseconds; a percentile is told at most a quarter too high.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerWait {
    /// How many waited.
    pub jobs: u64,
    /// Half of them no longer than this.
    pub p50_us: u64,
    /// All but one in a hundred no longer than this.
    pub p99_us: u64,
}

/// The answer to a [`Request::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the relay.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_s: u64,
    /// Cut applications with their reasons.
    pub cut: BTreeMap<String, String>,
    /// Counters summed over shards.
    pub total: BTreeMap<String, u64>,
    /// Signing keys that the relay looks after.
    pub keys: Vec<KeyList>,
    /// Each shard.
    pub shards: Vec<ShardStatus>,
}

/// What came back over the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To `status`.
    Status(Status),
    /// To `cut`.
    Cut(CutReport),
    /// To `restore`: how many messages were released.
    Restored { app: String, released: usize },
    /// To `queue_list`, in order of age.
    Listed { deliveries: Vec<Listed> },
    /// To `queue_show`.
    Shown(Shown),
    /// To `queue_retry` and `queue_drop`: how many messages or deliveries.
    Changed { count: usize },
    /// To `key_list`.
    Keys { lines: Vec<KeyList> },
    /// To orders about keys: microseconds until every shard signs by it, and each line.
    KeysDone { effect_us: u64, outcomes: Vec<KeyOutcome> },
    /// To `reload`: warnings about the new configuration.
    Reloaded { warnings: Vec<String> },
    /// The request was understood but cannot be met.
    Refused { error: String },
}
