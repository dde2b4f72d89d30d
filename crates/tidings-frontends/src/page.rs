//! The page of `tidings dev`: subscribe, watch updates arrive and publish, in a browser.
//!
//! Knows no hub and no token: it hands out files and what the program tells it to hand out, and
//! the browser does the rest through the hub's own URL. It is mounted for development only, since
//! whoever reads it holds a token for everything.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, StatusCode};

use crate::http::{Answer, Body, Content, Frontend, Request, full};
use crate::problem::problem;

/// What the program tells the page.
pub struct PageSetup {
    /// Path of the hub's URL, as `/.well-known/mercure`. The page asks at its own origin.
    pub hub_path: String,
    /// Path of the hub's WebSockets, if it has any.
    pub socket_path: Option<String>,
    /// A 1.0 token to publish and subscribe with.
    pub token: String,
    /// A 0.x token for the same: selectors by `topic=` and tokens in a URL belong to 0.x.
    pub draft_token: String,
    /// The host of the hub's public URL, if people reach it by a name of their own.
    pub host: Option<String>,
}

/// Serves the page, its files and its setup.
pub struct Page {
    setup: Bytes,
    token: Bytes,
    host: Option<String>,
}

const SETUP_PATH: &str = "/.well-known/tidings/dev.json";
/// The 1.0 token alone, for `TOKEN=$(curl …)` in a terminal.
const TOKEN_PATH: &str = "/.well-known/tidings/dev-token";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: [File; 7] = [
    File {
        path: "/",
        content_type: "text/html; charset=utf-8",
        text: include_str!("page/index.html"),
    },
    File {
        path: "/page.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("page/page.css"),
    },
    File { path: "/page.js", content_type: JAVASCRIPT, text: include_str!("page/page.js") },
    File { path: "/socket.js", content_type: JAVASCRIPT, text: include_str!("page/socket.js") },
    File { path: "/stream.js", content_type: JAVASCRIPT, text: include_str!("page/stream.js") },
    File { path: "/text.js", content_type: JAVASCRIPT, text: include_str!("page/text.js") },
    File {
        path: "/favicon.svg",
        content_type: "image/svg+xml",
        text: include_str!("page/favicon.svg"),
    },
];

/// Own origin only, nothing inline, in nobody's frame; text cannot become markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // The setup holds a token, and an old file beside a new program helps nobody.
    (header::CACHE_CONTROL, "no-store"),
];

impl Page {
    /// The page of one running hub.
    pub fn new(setup: PageSetup) -> Page {
        let document = serde_json::json!({
            "hub_path": setup.hub_path,
            "socket_path": setup.socket_path,
            "token": &setup.token,
            "draft_token": setup.draft_token,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let token = Bytes::from(setup.token);
        Page { setup: Bytes::from(document.to_string()), token, host: setup.host }
    }

    fn answer(&self, head: &Parts) -> Response<Body> {
        if !self.is_own_host(head) {
            return problem(
                StatusCode::MISDIRECTED_REQUEST,
                "Unknown host",
                "open the page by localhost, by an address or by the host of public_url",
            );
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut refusal =
                problem(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "GET and HEAD only");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match head.uri.path() {
            SETUP_PATH => document("application/json", self.setup.clone()),
            TOKEN_PATH => document("text/plain; charset=utf-8", self.token.clone()),
            path => match FILES.iter().find(|file| file.path == path) {
                Some(file) => document(file.content_type, Bytes::from_static(file.text.as_bytes())),
                None => problem(StatusCode::NOT_FOUND, "Not found", "the page has no such file"),
            },
        }
    }

    /// Whether the browser meant this hub. A name that somebody else's DNS points at a loopback
    /// address would make their scripts "same origin" and the token theirs; an address, or a name
    /// below `localhost`, cannot be pointed anywhere.
    fn is_own_host(&self, head: &Parts) -> bool {
        let sent = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let sent = head.uri.authority().map(Authority::as_str).or(sent);
        let Some(authority) = sent.and_then(|text| text.parse::<Authority>().ok()) else {
            return false;
        };
        let host = authority.host().to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.host.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(&host))
    }
}

impl Frontend for Page {
    fn claims(&self, path: &str) -> bool {
        [SETUP_PATH, TOKEN_PATH].contains(&path) || FILES.iter().any(|file| file.path == path)
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(std::future::ready(self.answer(&request.head).map(Content::Body)))
    }
}

fn document(content_type: &'static str, text: Bytes) -> Response<Body> {
    let mut response = Response::new(full(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn page() -> Page {
        Page::new(PageSetup {
            hub_path: "/.well-known/mercure".to_owned(),
            socket_path: None,
            token: "final.token.</script>".to_owned(),
            draft_token: "draft.token.".to_owned(),
            host: Some("hub.example".to_owned()),
        })
    }

    fn ask(method: &str, host: &str, path: &str) -> Response<Body> {
        let request = http::Request::builder().method(method).uri(path).header("host", host);
        page().answer(&request.body(()).unwrap().into_parts().0)
    }

    fn text(name: &str) -> &'static str {
        FILES.iter().find(|file| file.path == name).unwrap().text
    }

    #[test]
    fn every_file_is_claimed_and_answered_with_the_policy() {
        for path in FILES.iter().map(|file| file.path).chain([SETUP_PATH, TOKEN_PATH]) {
            assert!(page().claims(path), "{path}");
            let response = ask("GET", "localhost:3000", path);
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()["content-security-policy"], POLICY);
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
        for path in ["/.well-known/mercure", "//", "/page.js/", "/index.html", ""] {
            assert!(!page().claims(path), "{path}");
        }
    }

    #[test]
    fn a_foreign_name_that_points_at_the_hub_gets_no_token() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:3000", "[::1]:3000", "a.localhost"] {
            assert_eq!(ask("GET", host, SETUP_PATH).status(), 200, "{host}");
        }
        assert_eq!(ask("GET", "Hub.Example", SETUP_PATH).status(), 200);
        for host in
            ["evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
        {
            assert_eq!(ask("GET", host, SETUP_PATH).status(), 421, "{host}");
            assert_eq!(ask("GET", host, TOKEN_PATH).status(), 421, "{host}");
        }
    }

    #[test]
    fn only_reading_is_allowed() {
        let response = ask("POST", "localhost", "/");
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_eq!(ask("HEAD", "localhost", "/").status(), 200);
    }

    #[tokio::test]
    async fn the_setup_is_the_programs() {
        let body = ask("GET", "localhost", SETUP_PATH).into_body().collect().await.unwrap();
        let setup: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(setup["hub_path"], "/.well-known/mercure");
        assert_eq!(setup["token"], "final.token.</script>");
        assert_eq!(setup["draft_token"], "draft.token.");
        let body = ask("GET", "localhost", TOKEN_PATH).into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "final.token.</script>");
    }

    #[test]
    fn the_script_finds_every_element_that_it_names() {
        let html = text("/");
        let mut names = 0;
        for rest in text("/page.js").split("at(\"").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(html.contains(&format!("id=\"{name}\"")), "no element {name}");
            names += 1;
        }
        assert!(names > 30);
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        let html = text("/");
        for banned in [" style=", " onclick=", " onload=", "<style", "href=\"http", "src=\"http"] {
            assert!(!html.contains(banned), "{banned}");
        }
        assert_eq!(html.matches("<script").count(), 1);
        assert!(!text("/page.css").contains("url("));
        for script in ["/page.js", "/stream.js", "/text.js"] {
            for banned in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text(script).contains(banned), "{banned} in {script}");
            }
        }
    }
}
