//! Where a recipient's mail goes next, and over what TLS: configured smarthosts per domain.
//!
//! A destination is a route and a recipient domain; what shares one may share a transaction. The
//! room resolves nothing by itself: host names are looked up by the system's resolver when a
//! session is opened.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::{NextHopTls, Route, Routes};
use crate::io::tls::{self, Roots, TlsConfigError, Verify};

/// The routes of a configuration with their TLS made ready.
pub struct Routing {
    routes: Routes,
    tls: Vec<Option<Arc<ClientConfig>>>,
}

/// A route's TLS cannot be set up; names the route, and why.
#[derive(Debug)]
pub struct RouteError {
    domains: String,
    cause: TlsConfigError,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route for {}: {}", self.domains, self.cause)
    }
}

impl std::error::Error for RouteError {}

impl Routing {
    /// Reads the issuers that routes trust.
    ///
    /// # Errors
    /// [`RouteError`] for the first route whose TLS cannot be set up.
    pub fn prepare(routes: &Routes) -> Result<Self, RouteError> {
        let tls = routes.all().iter().map(|route| client_tls(route)).collect::<Result<_, _>>()?;
        Ok(Self { routes: routes.clone(), tls })
    }

    /// The route for a recipient's domain.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&Arc<Route>> {
        self.routes.of(domain)
    }

    /// The route that is for exactly these domains, as [`Route::domains`] joined by spaces.
    #[must_use]
    pub fn by_rule(&self, rule: &str) -> Option<&Arc<Route>> {
        self.routes.all().iter().find(|route| route.domains.join(" ") == rule)
    }

    /// The TLS configuration of a route; none for plaintext.
    #[must_use]
    pub fn tls(&self, route: &Route) -> Option<&Arc<ClientConfig>> {
        self.tls.get(route.index)?.as_ref()
    }
}

fn client_tls(route: &Route) -> Result<Option<Arc<ClientConfig>>, RouteError> {
    let verify = match route.tls {
        NextHopTls::None => return Ok(None),
        NextHopTls::Opportunistic => Verify::Opportunistic,
        NextHopTls::RequireVerified => Verify::Required {
            roots: match &route.ca_file {
                None => Roots::WebPki,
                Some(file) => Roots::Files(vec![file.clone()]),
            },
        },
    };
    tls::client_config(&verify)
        .map(Some)
        .map_err(|cause| RouteError { domains: route.domains.join(", "), cause })
}
