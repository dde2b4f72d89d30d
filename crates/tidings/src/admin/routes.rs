//! What the operator's listener answers to who presents the admin token: one table of methods,
//! paths and functions. Knows no meaning of any.

use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use tidings_connectors::endpoints::Endpoints;
use tidings_connectors::sinks::Sinks;
use tidings_frontends::http::{Body, Request};
use tidings_frontends::problem::problem;

use super::{Admin, attempts, dead_letters, endpoints, keys, replays, revocations, sinks};

/// A request that was let in.
pub(super) struct Asked {
    /// What the listener knows.
    pub(super) admin: Arc<Admin>,
    /// The request.
    pub(super) request: Request,
    /// What stands in the path where its pattern has braces, in order.
    pub(super) named: Vec<String>,
}

impl Asked {
    /// What stands in the path where the pattern has its first braces.
    pub(super) fn name(&self) -> &str {
        self.named.first().map_or("", String::as_str)
    }

    /// The number that stands where the pattern has its second braces; `None` when it is none.
    pub(super) fn number(&self) -> Option<u64> {
        self.named.get(1)?.parse().ok()
    }

    /// The sinks, if any run.
    pub(super) fn sinks(&self) -> Option<Arc<Sinks>> {
        self.admin.sinks.get().map(|running| Arc::clone(&running.sinks))
    }

    /// What was made over the API, if any sinks run.
    pub(super) fn endpoints(&self) -> Option<Arc<Endpoints>> {
        self.admin.sinks.get().map(|running| Arc::clone(&running.endpoints))
    }

    /// The value of a parameter in the query.
    pub(super) fn query(&self, wanted: &str) -> Option<String> {
        let query = self.request.head.uri.query().unwrap_or_default();
        let mut all = url::form_urlencoded::parse(query.as_bytes());
        all.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// One method of one path.
pub(super) struct Route {
    /// `GET` is also `HEAD`.
    pub(super) method: &'static str,
    /// With `{…}` for one segment that may be anything.
    pub(super) path: &'static str,
    answer: fn(Asked) -> Answering,
}

const fn row(method: &'static str, path: &'static str, answer: fn(Asked) -> Answering) -> Route {
    Route { method, path, answer }
}

/// Everything that needs the token.
pub(super) const ROUTES: &[Route] = &[
    row("GET", "/tidings/admin/revocations", |asked| Box::pin(revocations::list(asked))),
    row("POST", "/tidings/admin/revocations", |asked| Box::pin(revocations::revoke(asked))),
    row("DELETE", "/tidings/admin/revocations", |asked| Box::pin(revocations::withdraw(asked))),
    row("GET", "/tidings/admin/keys", |asked| Box::pin(keys::list(asked))),
    row("POST", "/tidings/admin/keys", |asked| Box::pin(keys::create(asked))),
    row("DELETE", "/tidings/admin/keys/{id}", |asked| Box::pin(keys::revoke(asked))),
    row("POST", "/tidings/admin/issuer/rotate", |asked| Box::pin(keys::rotate_issuer(asked))),
    row("GET", "/tidings/admin/sinks", |asked| Box::pin(sinks::list(asked))),
    row("POST", "/tidings/admin/sinks", |asked| Box::pin(endpoints::create(asked))),
    row("GET", "/tidings/admin/sinks/{name}", |asked| Box::pin(sinks::show(asked))),
    row("PUT", "/tidings/admin/sinks/{name}", |asked| Box::pin(endpoints::change(asked))),
    row("DELETE", "/tidings/admin/sinks/{name}", |asked| Box::pin(endpoints::remove(asked))),
    row("POST", "/tidings/admin/sinks/{name}/rotate", |asked| Box::pin(endpoints::rotate(asked))),
    row("POST", "/tidings/admin/sinks/{name}/pause", |asked| Box::pin(sinks::pause(asked))),
    row("POST", "/tidings/admin/sinks/{name}/resume", |asked| Box::pin(sinks::resume(asked))),
    row("POST", "/tidings/admin/sinks/{name}/test", |asked| Box::pin(sinks::test(asked))),
    row("GET", "/tidings/admin/sinks/{name}/attempts", |asked| Box::pin(attempts::list(asked))),
    row("GET", "/tidings/admin/sinks/{name}/dead-letters", |asked| {
        Box::pin(dead_letters::list(asked))
    }),
    row("POST", "/tidings/admin/sinks/{name}/dead-letters/redrive", |asked| {
        Box::pin(dead_letters::redrive(asked))
    }),
    row("POST", "/tidings/admin/sinks/{name}/dead-letters/forget", |asked| {
        Box::pin(dead_letters::forget(asked))
    }),
    row("DELETE", "/tidings/admin/sinks/{name}/dead-letters/{number}", |asked| {
        Box::pin(dead_letters::forget_one(asked))
    }),
    row("GET", "/tidings/admin/sinks/{name}/replays", |asked| Box::pin(replays::list(asked))),
    row("POST", "/tidings/admin/sinks/{name}/replays", |asked| Box::pin(replays::make(asked))),
    row("DELETE", "/tidings/admin/sinks/{name}/replays/{number}", |asked| {
        Box::pin(replays::stop(asked))
    }),
];

/// Whether any row is about this path.
pub(super) fn claims(path: &str) -> bool {
    ROUTES.iter().any(|route| named(route.path, path).is_some())
}

/// Answers a request that was let in.
pub(super) async fn answer(admin: Arc<Admin>, request: Request) -> Response<Body> {
    let path = request.head.uri.path();
    let method = match request.head.method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(named) = named(route.path, path) else { continue };
        if route.method == method {
            return (route.answer)(Asked { admin, request, named }).await;
        }
        allowed.push(if route.method == "GET" { "GET, HEAD" } else { route.method });
    }
    let allowed = allowed.join(", ");
    let detail = format!("This takes {allowed}.");
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", &detail);
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// What stands in a path where its pattern has braces; `None` when it is another path.
fn named(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut named = Vec::new();
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(named),
            (Some(wanted), Some(found)) if wanted.starts_with('{') && !found.is_empty() => {
                named.push(found.to_owned());
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_segment_by_segment() {
        let pattern = "/tidings/admin/sinks/{name}/replays/{number}";
        let found = named(pattern, "/tidings/admin/sinks/a.b/replays/7").unwrap();
        assert_eq!(found, ["a.b", "7"]);
        for path in ["", "/", "/tidings/admin/sinks/a/replays", "/tidings/admin/sinks//replays/7"] {
            assert_eq!(named(pattern, path), None, "{path}");
        }
        assert!(claims("/tidings/admin/sinks") && claims("/tidings/admin/sinks/x/attempts"));
        assert!(!claims("/tidings/admin/sinks/") && !claims("/tidings/admin"));
    }

    #[test]
    fn no_row_stands_there_twice() {
        let mut rows: Vec<_> = ROUTES.iter().map(|route| (route.path, route.method)).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ROUTES.len());
    }
}
