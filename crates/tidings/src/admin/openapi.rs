//! The description of the admin API (OpenAPI 3.1), written by hand beside the routes. Knows no
//! route: a test compares both.

use http::{HeaderValue, Response, header};
use tidings_frontends::http::{Body, full};

/// Where it is. Nothing in it is secret.
pub(super) const PATH: &str = "/tidings/admin/openapi.json";

const DOCUMENT: &str = include_str!("openapi.json");

/// Answers with it.
pub(super) fn answer() -> Response<Body> {
    let mut answer = Response::new(full(DOCUMENT));
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::{OPEN, routes};
    use super::*;

    #[test]
    fn the_document_has_the_paths_and_methods_that_are_served() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((path.clone(), method.to_uppercase()));
            }
        }
        let mut served: BTreeSet<_> =
            OPEN.iter().map(|path| ((*path).to_owned(), "GET".to_owned())).collect();
        let guarded = routes::ROUTES.iter();
        served.extend(guarded.map(|row| (row.path.to_owned(), row.method.to_owned())));
        assert_eq!(described, served);
    }

    #[test]
    fn everything_that_changes_something_needs_the_token() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let open = BTreeSet::from(OPEN);
        for (path, item) in document["paths"].as_object().unwrap() {
            let operations =
                item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
            for (method, operation) in operations {
                let is_open = operation["security"] == serde_json::json!([]);
                assert_eq!(is_open, open.contains(path.as_str()), "{method} {path}");
                assert!(operation["operationId"].is_string(), "{method} {path}");
            }
        }
    }
}
