//! From an entry to the request that delivers it: headers and body. Knows no socket, and no
//! address; what was configured is checked by the options before.

use std::borrow::Cow;
use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tidings_core::{Entry, Line};

use super::cloud_event::{self, CloudEvent, header_value};
use super::envelope::{self, Envelope};
use super::mistakes::is_value;
use super::options::{Body, Options};
use super::signature::Signer;
use crate::connector::{Failure, Fault};
use crate::limits::FILLED_HEADERS_BYTES_MAX;
use crate::specification::BadOption;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TOPIC: HeaderName = HeaderName::from_static("tidings-topic");
/// What nothing is known of, as a media type.
const BYTES: &str = "application/octet-stream";
/// Headers of a request beside those that never change, where its body is the data: five here, and
/// host and length.
const FILLED_HEADERS: usize = 7;
const AGENT: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));

/// What is the same in all requests of one webhook.
pub(super) struct Template {
    /// Configured headers and those that never change.
    fixed: HeaderMap,
    body: Body,
    /// What updates are that do not say.
    content_type: String,
    signer: Option<Signer>,
    /// The hub's URL.
    source: String,
    body_size_max: usize,
    /// Nothing of the hub's own.
    plain: bool,
}

impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Template").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Template {
    /// The one of a webhook of the hub with the URL `source`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the options.
    pub(super) fn new(options: &Options, source: &str) -> Result<Template, Vec<BadOption>> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let signer = match options.secrets.as_slice() {
            [] => None,
            secrets => Signer::new(secrets).ok(),
        };
        Ok(Template {
            fixed: fixed(options),
            body: if options.plain { Body::Data } else { options.body },
            content_type: options.content_type.clone().unwrap_or_else(|| BYTES.to_owned()),
            signer: signer.filter(|_| !options.plain),
            source: source.to_owned(),
            body_size_max: options.body_size_max,
            plain: options.plain,
        })
    }

    /// The request that delivers `entry`, now (milliseconds since 1970-01-01).
    ///
    /// # Errors
    ///
    /// When the update cannot be delivered as it is, or no key is left that signs.
    pub(super) fn request(&self, entry: &Entry, now: u64) -> Result<(HeaderMap, Bytes), Failure> {
        // A clone would have no room, and grow three times.
        let mut headers = HeaderMap::with_capacity(self.fixed.len() + FILLED_HEADERS);
        headers.extend(self.fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.plain {
            let body = self.bounded(entry)?;
            return Ok((headers, body));
        }
        let body = self.fill(entry, &mut headers)?;
        let topic = entry.update.topics.first().map_or("", |topic| topic.as_str());
        headers.insert(TOPIC, header_value(topic));
        let seconds = now / 1000;
        headers.insert(ID, header_value(entry.cursor()));
        headers.insert(TIMESTAMP, HeaderValue::from(seconds));
        if let Some(signer) = &self.signer {
            let signature = signer.sign(entry.cursor(), seconds, &body, now);
            headers.insert(SIGNATURE, signature.ok_or_else(no_key)?);
        }
        Ok((headers, body))
    }

    /// The body, and the headers that say what it is.
    fn fill(&self, entry: &Entry, headers: &mut HeaderMap) -> Result<Bytes, Failure> {
        let (content_type, body) = match self.body {
            Body::Data => (self.content_type(entry), self.bounded(entry)?),
            Body::Envelope => (Cow::from(envelope::MEDIA_TYPE), self.json(&Envelope::new(entry))?),
            Body::CloudEvents => {
                let given = self.content_type(entry);
                // Or a publisher's data would be taken for the event itself.
                let content_type =
                    if cloud_event::is_event(given.as_bytes()) { Cow::from(BYTES) } else { given };
                let event = CloudEvent::new(entry, &self.source, &content_type);
                let mut filled = HeaderMap::new();
                event.put_headers(&mut filled);
                bounded_headers(&filled)?;
                headers.extend(filled);
                (content_type, self.bounded(entry)?)
            }
            Body::CloudEventsStructured => {
                let content_type = self.content_type(entry);
                let event = CloudEvent::new(entry, &self.source, &content_type);
                (Cow::from(cloud_event::MEDIA_TYPE), self.json(&event)?)
            }
        };
        let value = HeaderValue::from_str(&content_type).map_err(|_| no_header("content-type"))?;
        headers.insert(CONTENT_TYPE, value);
        Ok(body)
    }

    /// What the update's data is: what it says itself, if that can be a header at all.
    fn content_type<'e>(&'e self, entry: &'e Entry) -> Cow<'e, str> {
        let own = entry.update.content_type.as_ref().map(Line::as_str);
        Cow::from(own.filter(|text| is_value(text)).unwrap_or(&self.content_type))
    }

    fn bounded(&self, entry: &Entry) -> Result<Bytes, Failure> {
        let data = &entry.update.data;
        if data.len() > self.body_size_max { Err(self.too_large()) } else { Ok(data.clone()) }
    }

    fn json(&self, value: &impl Serialize) -> Result<Bytes, Failure> {
        let mut bounded = Bounded { bytes: Vec::new(), room: self.body_size_max };
        serde_json::to_writer(&mut bounded, value).map_err(|_| self.too_large())?;
        Ok(bounded.bytes.into())
    }

    fn too_large(&self) -> Failure {
        let most = self.body_size_max;
        never(format!("the request's body would be larger than {most} bytes"))
    }
}

/// The headers that do not depend on what is delivered.
fn fixed(options: &Options) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if options.plain {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(envelope::MEDIA_TYPE));
    } else {
        for (name, value) in &options.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value.expose())) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
    }
    if let Some(mut value) = authorization(options) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// Basic (RFC 7617) or bearer (RFC 6750 section 2.1) credentials.
fn authorization(options: &Options) -> Option<HeaderValue> {
    let text = match (&options.basic, &options.bearer) {
        (Some(basic), _) => {
            let password = basic.password.as_ref()?.expose();
            format!("Basic {}", STANDARD.encode(format!("{}:{password}", basic.user)))
        }
        (None, Some(token)) => format!("Bearer {}", token.expose()),
        (None, None) => return None,
    };
    HeaderValue::try_from(text).ok()
}

/// What an update fills must not be more than servers could take.
fn bounded_headers(filled: &HeaderMap) -> Result<(), Failure> {
    let bytes: usize =
        filled.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes <= FILLED_HEADERS_BYTES_MAX {
        return Ok(());
    }
    Err(never(format!(
        "its topic and attributes would be more than {FILLED_HEADERS_BYTES_MAX} bytes of headers; \
         body = \"cloudevents-structured\" has no such limit"
    )))
}

fn never(reason: String) -> Failure {
    Failure { fault: Fault::Never, reason, retry_after: None }
}

fn no_header(name: &str) -> Failure {
    never(format!("what would be its {name} cannot stand in a header"))
}

fn no_key() -> Failure {
    let reason = "none of the signing keys is valid any more: make a new one".to_owned();
    Failure { fault: Fault::Rejected, reason, retry_after: None }
}

/// Takes so much and no more: what JSON makes of bytes can be six times as long.
struct Bounded {
    bytes: Vec<u8>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::Update;

    use super::super::samples;
    use super::super::signature::SigningSecret;
    use super::*;
    use crate::secret::Secret;
    use crate::webhook::options::Basic;

    const SOURCE: &str = "https://hub.example/";
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn options() -> Options {
        Options::new("https://shop.example/hook")
    }

    fn signed() -> Options {
        let secrets = vec![SigningSecret { key: Secret::new(KEY), until: None }];
        Options { secrets, ..options() }
    }

    fn template(options: &Options) -> Template {
        Template::new(options, SOURCE).unwrap()
    }

    fn request(options: &Options, update: Update) -> (HeaderMap, Bytes) {
        template(options).request(&samples::entry(update), samples::TIME).unwrap()
    }

    #[test]
    fn an_update_leaves_as_it_was_published() {
        let mut update = Update::new(samples::topic("a b/é%"), vec![0xff, 0, b'\n']);
        update.content_type = Line::parse("image/x-own; a=\"é\"").ok();
        let (headers, body) = request(&options(), update);
        assert_eq!(*body, [0xff, 0, b'\n']);
        assert_eq!(headers["content-type"], "application/octet-stream", "é is no header");
        assert_eq!(headers["tidings-topic"], "a%20b/%C3%A9%25");
        let mut update = samples::update("a", "");
        update.content_type = Line::parse("text/html; charset=utf-8").ok();
        let (headers, body) = request(&options(), update);
        assert!(body.is_empty());
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(headers["accept"], "*/*");
        assert_eq!(headers["user-agent"], concat!("tidings/", env!("CARGO_PKG_VERSION")));
        assert!(
            !headers.contains_key("webhook-signature") && !headers.contains_key("authorization")
        );
    }

    #[test]
    fn what_does_not_say_its_type_has_the_one_of_the_webhook() {
        let content_type = Some("application/json".to_owned());
        let (headers, _) =
            request(&Options { content_type, ..options() }, samples::update("a", "{}"));
        assert_eq!(headers["content-type"], "application/json");
    }

    #[test]
    fn the_signature_covers_id_time_and_the_body_that_is_sent() {
        for body in [Body::Data, Body::Envelope, Body::CloudEvents, Body::CloudEventsStructured] {
            let options = Options { body, ..signed() };
            let entry = samples::entry(samples::update("a", "{\"b\": 1}"));
            let template = template(&options);
            let (headers, sent) = template.request(&entry, samples::TIME).unwrap();
            assert_eq!(headers["webhook-id"], *entry.cursor().to_string());
            assert_eq!(headers["webhook-timestamp"], "1709210096");
            let signer = Signer::new(&options.secrets).unwrap();
            let expected = signer.sign(entry.cursor(), samples::TIME / 1000, &sent, 0).unwrap();
            assert_eq!(headers["webhook-signature"], expected);
            let (later, _) = template.request(&entry, samples::TIME + 5_000).unwrap();
            assert_eq!(later["webhook-id"], headers["webhook-id"], "the same at each try");
            assert_eq!(later["webhook-timestamp"], "1709210101");
            assert_ne!(later["webhook-signature"], headers["webhook-signature"]);
        }
    }

    #[test]
    fn a_webhook_whose_keys_have_ended_sends_nothing_unsigned() {
        let secrets = vec![SigningSecret { key: Secret::new(KEY), until: Some(samples::TIME) }];
        let template = Template { signer: Signer::new(&secrets).ok(), ..template(&signed()) };
        let entry = samples::entry(samples::update("a", "b"));
        assert!(template.request(&entry, samples::TIME - 1).is_ok());
        let failure = template.request(&entry, samples::TIME).unwrap_err();
        assert_eq!(failure.fault, Fault::Rejected);
    }

    #[test]
    fn no_field_of_an_update_becomes_another_header() {
        for text in ["a\tb", "a\u{7f}", "é", "a\u{1b}[0m", " x-evil: 1 ", "%0d%0ax: y"] {
            let mut update = samples::update(text, "x");
            update.content_type = Line::parse(text).ok();
            update.event_type = Line::parse(text).ok();
            update.attributes = samples::attributes(&[("evil", "a\r\nx-evil: 1"), (text, text)]);
            for body in [Body::Data, Body::Envelope, Body::CloudEvents, Body::CloudEventsStructured]
            {
                let (headers, _) = request(&Options { body, ..signed() }, update.clone());
                assert!(!headers.contains_key("x-evil"), "{text:?}: {headers:?}");
                for (name, value) in &headers {
                    let plain = value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
                    assert!(plain || name == CONTENT_TYPE, "{name}: {value:?}");
                    assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
            }
        }
    }

    #[test]
    fn data_is_never_taken_for_the_event_itself() {
        for text in ["application/cloudevents+json", "Application/CloudEvents-batch+json; a=b"] {
            let mut update = samples::update("a", "{\"specversion\":\"1.0\"}");
            update.content_type = Line::parse(text).ok();
            let binary = Options { body: Body::CloudEvents, ..options() };
            assert_eq!(request(&binary, update.clone()).0["content-type"], BYTES);
            assert_eq!(request(&options(), update).0["content-type"], text);
        }
    }

    #[test]
    fn each_form_says_what_it_is() {
        let update = samples::update("a", "b");
        for (body, content_type, begin) in [
            (Body::Envelope, "application/json", "{\"id\":\"urn:uuid:"),
            (
                Body::CloudEventsStructured,
                "application/cloudevents+json",
                "{\"specversion\":\"1.0\"",
            ),
            (Body::CloudEvents, "application/octet-stream", "b"),
        ] {
            let (headers, sent) = request(&Options { body, ..options() }, update.clone());
            assert_eq!(headers["content-type"], content_type);
            assert!(sent.starts_with(begin.as_bytes()), "{sent:?}");
            assert_eq!(headers.contains_key("ce-id"), body == Body::CloudEvents);
        }
    }

    #[test]
    fn configured_headers_and_credentials_are_sent_and_not_shown() {
        let mut options = options();
        options.headers.insert("X-Api-Key".to_owned(), Secret::new("hunter2"));
        options.headers.insert("user-agent".to_owned(), Secret::new("mine"));
        let password = Some(Secret::new("pä:ss"));
        options.basic = Some(Basic { user: "Aladdin".to_owned(), password });
        let (headers, _) = request(&options, samples::update("a", "b"));
        assert_eq!(headers["x-api-key"], "hunter2");
        assert_eq!(headers["user-agent"], "mine");
        let expected = format!("Basic {}", STANDARD.encode("Aladdin:pä:ss"));
        assert_eq!(headers["authorization"], expected.as_str());
        let shown = format!("{headers:?} {options:?} {:?}", template(&options));
        assert!(!shown.contains("hunter2") && !shown.contains(&expected), "{shown}");
        let bearer = Some(Secret::new("abc.def"));
        let (headers, _) =
            request(&Options { bearer, ..self::options() }, samples::update("a", "b"));
        assert_eq!(headers["authorization"], "Bearer abc.def");
    }

    #[test]
    fn a_plain_request_has_nothing_of_the_hub_in_it() {
        let mut options = Options { plain: true, body: Body::Envelope, ..signed() };
        options.headers.insert("x-own".to_owned(), Secret::new("1"));
        let mut update = samples::update("cms.cache.x", "not json");
        update.content_type = Line::parse("text/plain").ok();
        let (headers, body) = request(&options, update);
        assert_eq!(body, "not json");
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-type", "user-agent"]);
        assert_eq!(headers["content-type"], "application/json");
    }

    #[test]
    fn what_is_too_large_is_never_sent() {
        let bytes = "\u{1}".repeat(1_000);
        for (body, most) in [(Body::Data, 999), (Body::Envelope, 6_000), (Body::CloudEvents, 999)] {
            let options = Options { body, body_size_max: most, ..options() };
            let entry = samples::entry(samples::update("a", &bytes));
            let failure = template(&options).request(&entry, 0).unwrap_err();
            assert_eq!(failure.fault, Fault::Never, "{body:?}");
            assert!(failure.reason.contains(&most.to_string()), "{}", failure.reason);
            let options = Options { body_size_max: 7_000, ..options };
            assert!(template(&options).request(&entry, 0).is_ok(), "{body:?}");
        }
        let mut update = samples::update("a", "");
        let long = "x".repeat(FILLED_HEADERS_BYTES_MAX);
        update.attributes = samples::attributes(&[("long", &long)]);
        let entry = samples::entry(update);
        let options = Options { body: Body::CloudEvents, ..options() };
        assert_eq!(template(&options).request(&entry, 0).unwrap_err().fault, Fault::Never);
        let options = Options { body: Body::CloudEventsStructured, ..options };
        assert!(template(&options).request(&entry, 0).is_ok());
    }
}
