//! The configuration as a text with comments.

use std::fmt::Write;
use std::path::Path;

use super::HopTls;
use super::plan::{App, Listener, Plan, SigningKey};
use crate::config::Lane;

/// Writes the configuration down. `is_volatile` says that the directory lies in memory.
pub(super) fn configuration(plan: &Plan, is_volatile: bool) -> String {
    let mut text = String::from(
        "# Postern configuration. `postern check` says everything that is wrong with it;\n\
         # docs/configuration.md explains every key. SIGHUP reads it again.\n",
    );
    server(&mut text, plan);
    plan.listeners.iter().for_each(|it| listener(&mut text, plan, it));
    plan.apps.iter().for_each(|it| app(&mut text, it));
    spool(&mut text, plan, is_volatile);
    queue(&mut text, plan);
    route(&mut text, plan);
    signing(&mut text, &plan.signing);
    filters(&mut text, plan);
    text
}

/// Appends lines; writing to a `String` cannot fail.
macro_rules! lines {
    ($text:expr, $($line:tt)*) => {
        writeln!($text, $($line)*).expect("a String takes everything")
    };
}

fn server(text: &mut String, plan: &Plan) {
    lines!(text, "\n[server]");
    lines!(text, "hostname = {}", quoted(&plan.hostname));
    match plan.cores.as_slice() {
        [] => lines!(
            text,
            "# One data thread is pinned to each CPU; \"auto\" is all of them.\ncores = \"auto\""
        ),
        cores => lines!(text, "cores = {cores:?}"),
    }
    lines!(text, "# io_uring where the kernel allows it, else epoll.\nio = \"auto\"");
    lines!(text, "# Memory for messages, per core.\nmemory_mib = 64");
    lines!(text, "control_socket = {}", path(&plan.directory.join("control.sock")));
    match &plan.log_file {
        Some(file) => lines!(text, "log = {{ format = \"text\", file = {} }}", path(file)),
        None => lines!(
            text,
            "# log = {{ format = \"json\", file = \"/var/log/postern.log\", level = \"info\" }}"
        ),
    }
}

fn listener(text: &mut String, plan: &Plan, listener: &Listener) {
    let comment = match listener.is_implicit {
        true => "# TLS from the first byte.",
        false => "# Plaintext first, TLS after STARTTLS. AUTH is offered under TLS only.",
    };
    lines!(text, "\n{comment}\n[[listener]]");
    lines!(text, "address = {}", quoted(&listener.address.to_string()));
    lines!(text, "tls = \"{}\"", if listener.is_implicit { "implicit" } else { "starttls" });
    if !plan.has_own_certificate {
        lines!(text, "# Self-signed: replace it with one that your applications can verify.");
    }
    lines!(text, "certificate = {}", path(&plan.certificate));
    lines!(text, "key = {}", path(&plan.key));
    if listener.insecure_plaintext_auth {
        lines!(text, "# Passwords in clear, on the loopback interface only. For tests.");
        lines!(text, "insecure_plaintext_auth = true");
    }
    lines!(text, "# limits = {{ message_bytes_max = \"50MiB\", recipients_max = 1000 }}");
}

fn app(text: &mut String, app: &App) {
    lines!(text, "\n[[app]]\nid = {}", quoted(&app.id));
    lines!(text, "owner = {}", quoted(&format!("postmaster@{}", app.domain)));
    if let Some(hash) = &app.password_hash {
        lines!(text, "# Made by `postern app passwd`.\npassword_hash = {}", quoted(hash));
    }
    if !app.networks.is_empty() {
        let networks: Vec<String> = app.networks.iter().map(|n| quoted(&n.to_string())).collect();
        lines!(text, "# May send from there without AUTH.\nnetworks = [{}]", networks.join(", "));
    }
    lines!(text, "# Envelope sender and From must be among these. Sub-domains are not included.");
    lines!(text, "senders = [{}]", quoted(&app.domain));
    lines!(text, "# recipients = [\"example.org\"]      # default: anybody");
    match app.lane {
        Lane::Normal => lines!(
            text,
            "lane = \"normal\"                   # or \"urgent\" (login codes), \"bulk\""
        ),
        lane => lines!(text, "lane = \"{}\"", lane.name()),
    }
    lines!(text, "# limits = {{ messages_per_minute = 600, sessions_max = 20 }}");
}

fn spool(text: &mut String, plan: &Plan, is_volatile: bool) {
    lines!(text, "\n# Mail is kept here until it is delivered.\n[spool]");
    lines!(text, "directory = {}", path(&plan.directory.join("spool")));
    lines!(text, "# Seals what is stored. Without this key the spool cannot be read: keep a copy.");
    lines!(text, "key_file = {}", path(&plan.seal_key()));
    if is_volatile {
        lines!(
            text,
            "# This directory lies in memory: a restart of the machine loses accepted mail."
        );
        lines!(text, "allow_volatile = true");
    }
}

fn queue(text: &mut String, plan: &Plan) {
    lines!(text, "\n[queue]");
    if plan.hold {
        lines!(text, "# Mail is accepted and kept; nothing is delivered.");
    }
    lines!(text, "hold = {}", plan.hold);
    lines!(text, "# retry = {{ base = \"1m\", factor = 2, max = \"1h\", jitter = 0.2 }}");
    lines!(text, "# expiry = {{ urgent = \"4h\", normal = \"2d\", bulk = \"5d\" }}");
}

fn route(text: &mut String, plan: &Plan) {
    if plan.next_hops.is_empty() {
        return;
    }
    let hops: Vec<String> = plan.next_hops.iter().map(|hop| quoted(hop)).collect();
    lines!(
        text,
        "\n# Where mail to all domains goes; add others with `domains = [\"example.org\"]`."
    );
    lines!(text, "[[route]]\ndomains = [\"*\"]\nnext_hops = [{}]", hops.join(", "));
    let (tls, comment) = match plan.next_hop_tls {
        HopTls::None => ("none", "plaintext: only towards this machine or a trusted network"),
        HopTls::Opportunistic => {
            ("opportunistic", "any certificate, plaintext where TLS is not offered")
        }
        HopTls::Require => ("require-verified", "mail waits where the certificate does not verify"),
    };
    lines!(text, "tls = \"{tls}\"  # {comment}");
    if let Some(sessions_max) = plan.next_hop_sessions_max {
        lines!(text, "# Few sessions at once, so that mail waits and the lanes show.");
        lines!(text, "sessions_max = {sessions_max}");
    }
    lines!(
        text,
        "# auth = {{ username = \"relay\", password_file = \"/etc/postern/smarthost.password\" }}"
    );
}

fn signing(text: &mut String, keys: &[SigningKey]) {
    if keys.is_empty() {
        lines!(
            text,
            "\n# Sign with DKIM: `postern keys new DOMAIN SELECTOR --out FILE` makes a key."
        );
        lines!(
            text,
            "# [[dkim]]\n# domain = \"example.com\"\n# selector = \"2026a\"\n# key_file = \"dkim.pem\""
        );
        lines!(
            text,
            "# Or let the relay make, publish and rotate keys by itself: `managed = true` and [keys]."
        );
    }
    for key in keys {
        lines!(text, "\n[[dkim]]\ndomain = {}", quoted(&key.domain));
        lines!(text, "selector = {}\nkey_file = {}", quoted(&key.selector), path(&key.file));
    }
}

fn filters(text: &mut String, plan: &Plan) {
    lines!(text, "\n[filters]\nenabled = {}", plan.has_filters);
    lines!(text, "# Payment card numbers: \"refuse\", \"report\" or \"off\".");
    lines!(text, "credit_card = {{ action = \"refuse\" }}");
    lines!(text, "# Keys, tokens and passwords; the same words.");
    lines!(text, "secrets = {{ action = \"refuse\" }}");
}

/// As TOML writes a text.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}
