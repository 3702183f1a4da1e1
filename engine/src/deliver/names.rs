//! Small numbers for applications and destinations, so that the queue holds no strings.
//!
//! Names are never forgotten: applications and routes are configured, so there are few.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Route;
use crate::queue::{App, Destination};

/// The names behind the queue's numbers.
#[derive(Default)]
pub(super) struct Names {
    apps: Vec<Arc<str>>,
    app_of: HashMap<Arc<str>, App>,
    rules: Vec<Box<str>>,
    destination_of: HashMap<Box<str>, Destination>,
}

impl Names {
    /// The number of an application.
    pub(super) fn app(&mut self, name: &Arc<str>) -> App {
        if let Some(app) = self.app_of.get(name) {
            return *app;
        }
        let app = App(number(self.apps.len()));
        self.apps.push(Arc::clone(name));
        self.app_of.insert(Arc::clone(name), app);
        app
    }

    /// The number of an application that is known already.
    pub(super) fn known_app(&self, name: &str) -> Option<App> {
        self.app_of.get(name).copied()
    }

    /// The number of a route: what is sent by one rule shares its sessions. Mail without a route
    /// (held, or left over from an older configuration) has a number of its own.
    pub(super) fn destination(&mut self, route: Option<&Route>) -> Destination {
        let rule = route.map(rule_of).unwrap_or_default();
        if let Some(destination) = self.destination_of.get(&*rule) {
            return *destination;
        }
        let destination = Destination(number(self.rules.len()));
        self.rules.push(rule.clone().into());
        self.destination_of.insert(rule.into(), destination);
        destination
    }

    /// The rule a destination was made from, as [`rule_of`] writes it.
    pub(super) fn rule(&self, destination: Destination) -> Option<&str> {
        self.rules.get(destination.0 as usize).map(AsRef::as_ref)
    }
}

/// What identifies a route over reloads: the domains it is for.
pub(crate) fn rule_of(route: &Route) -> String {
    route.domains.join(" ")
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("applications and routes are configured, far fewer than 4 billion")
}
