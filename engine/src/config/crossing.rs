//! Checks that concern several sections, or several entries of one.

use std::collections::HashMap;

use super::diagnostic::Diagnostic;
use super::queue::Queue;
use super::read::{Context, Section};
use super::route::Routes;
use super::{app, listener};

/// Checks what no section can check alone.
pub(super) fn check(
    root: &Section<'_>,
    listeners: &[listener::Placed],
    apps: &[app::Placed],
    queue: &Queue,
    routes: &Routes,
) {
    let context = root.context;
    if !root.has("listener") {
        let finding = Diagnostic::about_file("there is no [[listener]], so nobody can connect");
        context.push_missing(finding.help("add one with `address`, `certificate` and `key`"));
    }
    if !root.has("app") {
        let finding = Diagnostic::about_file("there is no [[app]], so nobody can send");
        context
            .push_missing(finding.help("add one with `id`, `owner`, `senders` and a credential"));
    }
    if !routes.has_default() && !queue.hold {
        let finding = Diagnostic::about_file("there is no route for mail to any domain (`*`)");
        context.push_missing(
            finding.help("add a [[route]] without `domains`, or set `hold = true` in [queue]"),
        );
    }
    distinct_addresses(context, listeners);
    distinct_ids(context, apps);
    distinct_networks(context, apps);
    usable_listeners(context, listeners, apps);
}

fn distinct_addresses(context: &Context<'_>, listeners: &[listener::Placed]) {
    let mut first = HashMap::new();
    for placed in listeners {
        let address = placed.listener.address;
        let Some(other) = first.insert(address, placed.span.clone()) else { continue };
        if address.port() != 0 {
            let message = format!("two listeners have the address {address}");
            let finding = Diagnostic::error(placed.span.clone(), message);
            context.push(finding.context(other, "the other one"));
        }
    }
}

fn distinct_ids(context: &Context<'_>, apps: &[app::Placed]) {
    let mut first = HashMap::new();
    for placed in apps {
        if let Some(other) = first.insert(&placed.app.id, placed.span.clone()) {
            let message = format!("two applications have the id `{}`", placed.app.id);
            let finding = Diagnostic::error(placed.span.clone(), message);
            context.push(finding.context(other, "the other one"));
        }
    }
}

/// A client address must speak for one application: the same network twice is always a mistake, and
/// one inside the other is where both applications have nothing but their network.
fn distinct_networks(context: &Context<'_>, apps: &[app::Placed]) {
    for (index, placed) in apps.iter().enumerate() {
        for other in apps[..index].iter().filter(|other| other.app.id != placed.app.id) {
            overlap(context, other, placed);
        }
    }
}

fn overlap(context: &Context<'_>, other: &app::Placed, placed: &app::Placed) {
    let only_networks = |placed: &app::Placed| placed.app.password_hash.is_none();
    let is_strict = only_networks(other) && only_networks(placed);
    for (network, span) in placed.app.networks.iter().zip(&placed.network_spans) {
        for (theirs, their_span) in other.app.networks.iter().zip(&other.network_spans) {
            let is_reported = network.prefix() == 0 || theirs.prefix() == 0;
            if network == theirs || (is_strict && !is_reported && network.overlaps(theirs)) {
                let (id, other_id) = (&placed.app.id, &other.app.id);
                let message = format!("clients in {network} could be `{id}` or `{other_id}`");
                context.push(
                    Diagnostic::error(span.clone(), message)
                        .context(their_span.clone(), format!("`{other_id}` has {theirs}"))
                        .help("give one of them a `password_hash` instead of this network"),
                );
                return;
            }
        }
    }
}

fn usable_listeners(context: &Context<'_>, listeners: &[listener::Placed], apps: &[app::Placed]) {
    let has_networks = apps.iter().any(|placed| !placed.app.networks.is_empty());
    let has_passwords = apps.iter().any(|placed| placed.app.password_hash.is_some());
    let is_plain =
        |placed: &&listener::Placed| !placed.listener.offers_auth() && !placed.is_tls_broken;
    for placed in listeners.iter().filter(is_plain) {
        let span = placed.span.clone();
        if !has_networks && !apps.is_empty() {
            let message = "nobody can send here: AUTH is not offered without TLS, and no \
                           application has `networks`";
            let help = "set `tls = \"starttls\"` with `certificate` and `key`";
            context.push_missing(Diagnostic::error(span, message).help(help));
        } else if has_passwords {
            let message = "AUTH is not offered here, for there is no TLS: only applications with \
                           `networks` can send";
            context.push(Diagnostic::warning(span, message));
        }
    }
}
