//! Every key of the configuration file. What is not here is not read; what is here is documented
//! in `docs/configuration.md`.

/// Sections with their keys, in the order of the documentation. The first section is the file
/// itself; `server.log` is the table `log` inside `[server]`.
pub const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "server", "listener", "app", "spool", "queue", "route", "dkim", "keys", "signer",
            "filters",
        ],
    ),
    (
        "server",
        &[
            "hostname",
            "cores",
            "io",
            "memory_mib",
            "receive_memory_mib",
            "control_socket",
            "drain_timeout",
            "core_dumps",
            "log",
        ],
    ),
    ("server.log", &["format", "file", "level"]),
    (
        "listener",
        &[
            "address",
            "tls",
            "certificate",
            "key",
            "client_ca",
            "bare_newlines",
            "insecure_plaintext_auth",
            "limits",
            "timeouts",
        ],
    ),
    (
        "listener.limits",
        &[
            "message_bytes_max",
            "recipients_max",
            "messages_per_session_max",
            "errors_max",
            "sessions_max",
        ],
    ),
    ("listener.timeouts", &["tls", "command", "data_block", "message"]),
    (
        "app",
        &[
            "id",
            "owner",
            "password_hash",
            "networks",
            "senders",
            "recipients",
            "null_reverse_path",
            "lane",
            "limits",
        ],
    ),
    (
        "app.limits",
        &["message_bytes_max", "recipients_per_message_max", "messages_per_minute", "sessions_max"],
    ),
    ("spool", &["directory", "segment_mib", "seal", "key_file", "min_free_mib", "allow_volatile"]),
    ("queue", &["retry", "expiry", "weights", "hold"]),
    ("queue.retry", &["base", "factor", "max", "jitter"]),
    ("queue.expiry", &["urgent", "normal", "bulk"]),
    ("queue.weights", &["urgent", "normal", "bulk"]),
    (
        "route",
        &[
            "domains",
            "next_hops",
            "tls",
            "ca_file",
            "auth",
            "sessions_max",
            "messages_per_session_max",
            "timeouts",
        ],
    ),
    ("route.auth", &["username", "password_file"]),
    ("route.timeouts", &["connect", "command", "data_block", "data_end", "idle"]),
    (
        "dkim",
        &[
            "domain",
            "selector",
            "key_file",
            "on_bad_key",
            "authors",
            "apps",
            "agent",
            "headers",
            "canonicalization",
            "expires",
            "managed",
            "algorithm",
            "selector_prefix",
            "selectors",
            "record_domain",
        ],
    ),
    (
        "keys",
        &[
            "directory",
            "key_file",
            "rotate_every",
            "jitter",
            "standby_for",
            "drain_for",
            "emergency_drain_for",
            "look_every",
            "publish",
            "zone_directory",
            "update",
            "ttl",
            "resolvers",
            "resolvers_min",
            "authoritative",
            "rehearsal_rate",
        ],
    ),
    ("keys.update", &["server", "tsig_name", "tsig_secret_file", "tsig_algorithm"]),
    ("signer", &["backend", "cores", "max_wait", "blinding"]),
    ("filters", &["enabled", "credit_card", "secrets", "identifiers"]),
    ("filters.credit_card", &["action", "count_min"]),
    ("filters.secrets", &["action", "jwt"]),
    ("filters.identifiers", &["action"]),
];

/// The keys of a section.
pub(super) fn keys_of(section: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// The sections that have this key, as they are written in a file.
pub(super) fn sections_with(key: &str) -> Vec<String> {
    KEYS.iter()
        .filter(|(section, keys)| !section.is_empty() && keys.contains(&key))
        .map(|(section, _)| written(section))
        .collect()
}

/// A section as it is written in a file: `[server]`, `[[app]]`, `[app.limits]`.
pub(super) fn written(section: &str) -> String {
    match section {
        "" => "the file".to_owned(),
        "listener" | "app" | "route" | "dkim" => format!("[[{section}]]"),
        _ => format!("[{section}]"),
    }
}
