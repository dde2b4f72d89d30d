//! The document that every challenge points to (RFC 9728): what a client has to know to get a
//! token for this hub, and to find what else it does. Knows no key.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use serde_json::{Map, Value, json};
use tidings_core::Namespace;

use crate::auth::{Auth, DETAIL_TYPE};
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
    /// The document of the hub with this namespace, whose tokens may come in a cookie, and which
    /// may list its subscriptions.
    pub(super) fn new(
        namespace: &Namespace,
        auth: &Auth,
        cookie: Option<&str>,
        subscriptions: bool,
    ) -> Metadata {
        let hub = namespace.hub_url();
        let path = format!("{WELL_KNOWN}{}", hub.path());
        let mut url = hub.clone();
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        let mut document = Map::new();
        let mut say = |name: &str, value: Value| document.insert(name.to_owned(), value);
        say("resource", hub.as_str().into());
        say("bearer_methods_supported", json!(["header"]));
        say("authorization_details_types_supported", json!([DETAIL_TYPE]));
        say("mercure_matcher_types_supported", json!(MATCHER_TYPES));
        // Members without a value are left out (RFC 9728 section 3.2).
        let servers = auth.authorization_servers();
        if !servers.is_empty() {
            say("authorization_servers", servers.into());
        }
        if let Some(cookie) = cookie {
            say("mercure_cookie", cookie.into());
        }
        if subscriptions {
            say("mercure_subscriptions", true.into());
        }
        let document = Value::Object(document);
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
    use crate::auth::Options;

    fn auth(namespace: &Namespace) -> Auth {
        let issuer = |id: &str, discover: bool| {
            let key = r#"{"key":"0123456789abcdef0123456789abcdef"}"#;
            format!(r#"{{"id":{id:?},"discover":{discover},"publish":{key}}}"#)
        };
        let issuers =
            [issuer("https://server.example", true), issuer("https://application.example", false)];
        let options = format!(r#"{{"issuer":[{}]}}"#, issuers.join(","));
        let options: Options = serde_json::from_str(&options).unwrap();
        Auth::offline(&options, namespace).unwrap()
    }

    #[test]
    fn m75_the_document_says_where_tokens_come_from_and_in_which_cookie_they_go() {
        let hub = url::Url::parse("https://hub.example/hub").unwrap();
        let namespace = Namespace::new(hub);
        let read = |cookie| -> Value {
            let metadata = Metadata::new(&namespace, &auth(&namespace), cookie, false);
            serde_json::from_slice(&metadata.document).unwrap()
        };
        let document = read(Some("__Host-t"));
        assert_eq!(document["authorization_servers"], json!(["https://server.example"]));
        assert_eq!(document["mercure_cookie"], "__Host-t");
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
        assert_eq!(read(None).get("mercure_cookie"), None);
    }

    #[test]
    fn m74_the_document_lies_before_the_path_of_the_hub() {
        let hub = url::Url::parse("https://hub.example:8443/.well-known/mercure").unwrap();
        let namespace = Namespace::new(hub);
        let metadata = Metadata::new(&namespace, &auth(&namespace), None, false);
        assert_eq!(metadata.path, "/.well-known/oauth-protected-resource/.well-known/mercure");
        assert_eq!(metadata.url, format!("https://hub.example:8443{}", metadata.path));
        let document: Value = serde_json::from_slice(&metadata.document).unwrap();
        assert_eq!(document["resource"], "https://hub.example:8443/.well-known/mercure");
        assert!(document.get("mercure_subscriptions").is_none());
    }
}
