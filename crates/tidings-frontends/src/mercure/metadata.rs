//! The document that every challenge points to (RFC 9728): what a client has to know to get a
//! token for this hub. Knows no issuer's keys.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use serde_json::json;
use tidings_core::Namespace;

use crate::auth::DETAIL_TYPE;
use crate::http::{Body, full};

/// Where such documents live (RFC 9728 section 3.1): before the path of what they describe.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// The pattern languages that parameters and tokens may use.
const MATCHER_TYPES: [&str; 5] = ["exact", "urlpattern", "uritemplate", "mqtt", "nats"];

/// The document with its place.
#[derive(Debug)]
pub(super) struct Metadata {
    /// The path below which requests for it arrive.
    pub(super) path: String,
    /// Its URL for clients.
    pub(super) url: String,
    document: Bytes,
}

impl Metadata {
    /// The document of the hub with this namespace, which may list its subscriptions.
    pub(super) fn new(namespace: &Namespace, subscriptions: bool) -> Metadata {
        let hub = namespace.hub_url();
        let path = format!("{WELL_KNOWN}{}", hub.path());
        let mut url = hub.clone();
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        let mut document = json!({
            "resource": hub.as_str(),
            "bearer_methods_supported": ["header"],
            "authorization_details_types_supported": [DETAIL_TYPE],
            "mercure_matcher_types_supported": MATCHER_TYPES,
        });
        // Left out where it is not so.
        if subscriptions && let Some(members) = document.as_object_mut() {
            members.insert("mercure_subscriptions".to_owned(), true.into());
        }
        Metadata { path, url: url.into(), document: document.to_string().into() }
    }

    /// The answer to `GET`.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut answer = Response::new(full(self.document.clone()));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m74_the_document_lies_before_the_path_of_the_hub() {
        let hub = url::Url::parse("https://hub.example:8443/.well-known/mercure").unwrap();
        let metadata = Metadata::new(&Namespace::new(hub), false);
        assert_eq!(metadata.path, "/.well-known/oauth-protected-resource/.well-known/mercure");
        assert_eq!(metadata.url, format!("https://hub.example:8443{}", metadata.path));
        let document: serde_json::Value = serde_json::from_slice(&metadata.document).unwrap();
        assert_eq!(document["resource"], "https://hub.example:8443/.well-known/mercure");
        assert!(document.get("mercure_subscriptions").is_none());
    }
}
