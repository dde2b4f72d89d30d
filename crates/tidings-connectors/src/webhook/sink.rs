//! A webhook as a sink: an entry becomes a request, its answer an outcome. Knows neither order nor
//! retries; each part of the way is a file beside this one.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustls::ClientConfig;
use tidings_core::{Clock, Entry};
use tokio::time::timeout;
use url::{Host, Url};

use super::address::Egress;
use super::answer::{Success, outcome};
use super::exchange::{Client, Exchanged, Times, failure};
use super::mistakes::bad;
use super::options::Options;
use super::request::Template;
use super::tls::tls_with;
use crate::connector::{Answer, Delivering, Failure, Fault, Outcome, Run, Sink};
use crate::limits::{REDIRECTS_MAX, ROOTS_FILE_BYTES_MAX};
use crate::specification::BadOption;

/// Whose webhook it is, which decides where it may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The operator wrote it: besides public networks it reaches those of its `allow`, and an
    /// address or `localhost` that stands in its URL as such.
    Operator,
    /// It was made over the API: besides public networks it reaches these, of the operator's.
    Stranger(Vec<IpNet>),
    /// It reaches everything.
    Off,
}

/// What a webhook has around it.
#[derive(Clone)]
pub struct Surroundings {
    /// The hub's URL, the source of its CloudEvents.
    pub source: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Whom it trusts, when it names nobody itself; see [`super::tls()`].
    pub tls: Arc<ClientConfig>,
    /// Where it may lead.
    pub guard: Guard,
}

/// One webhook.
pub struct Webhook {
    endpoint: Arc<Endpoint>,
}

/// Everything that a request needs.
struct Endpoint {
    url: Url,
    client: Client,
    template: Template,
    success: Success,
    clock: Arc<dyn Clock>,
    /// How redirects are followed, where they are.
    redirects: Option<Redirects>,
}

/// What requests to another origin need.
struct Redirects {
    egress: Egress,
    tls: Arc<ClientConfig>,
    times: Times,
}

impl Webhook {
    /// Makes one. Reads the file of certificates that it names; connects to nothing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the options.
    pub fn new(options: &Options, around: &Surroundings) -> Result<Webhook, Vec<BadOption>> {
        let found = match &around.guard {
            Guard::Stranger(_) => options.problems_over_api(),
            Guard::Operator | Guard::Off => options.problems(),
        };
        if !found.is_empty() {
            return Err(found);
        }
        let url = Url::parse(&options.url).map_err(|_| vec![bad("url", "is no URL")])?;
        let egress = match &around.guard {
            Guard::Operator => Egress::guarded(reachable(options, &url)),
            Guard::Stranger(networks) => Egress::guarded(networks.clone()),
            Guard::Off => Egress::everything(),
        };
        let tls = match &options.ca_file {
            Some(path) => roots(path).map_err(|message| vec![bad("ca_file", message)])?,
            None => Arc::clone(&around.tls),
        };
        let total = options.timeout.0;
        let times = Times { connect: options.connect_timeout.0.min(total), total };
        let client = Client::new(egress.clone(), Arc::clone(&tls), times);
        let client = if options.follows { client.content_with_heads() } else { client };
        let endpoint = Endpoint {
            url,
            client,
            template: Template::new(options, &around.source)?,
            success: match options.success.as_slice() {
                [] => Success::Any2xx,
                statuses => Success::Only(statuses.to_vec()),
            },
            clock: Arc::clone(&around.clock),
            redirects: options.follows.then_some(Redirects { egress, tls, times }),
        };
        Ok(Webhook { endpoint: Arc::new(endpoint) })
    }
}

impl Sink for Webhook {
    fn run_max(&self) -> usize {
        1
    }

    fn deliver(&self, run: Run) -> Delivering {
        let endpoint = Arc::clone(&self.endpoint);
        Box::pin(async move {
            let mut all = Outcome { delivered: 0, failure: None, answer: Answer::default() };
            for entry in &run.entries {
                let one = endpoint.deliver(entry).await;
                all.delivered += one.delivered;
                all.answer = one.answer;
                all.failure = one.failure;
                if all.failure.is_some() {
                    break;
                }
            }
            all
        })
    }
}

impl Endpoint {
    async fn deliver(&self, entry: &Entry) -> Outcome {
        let exchanged = match self.template.request(entry, self.clock.wall()) {
            Ok((headers, body)) => self.exchange(headers, body).await,
            Err(failure) => Err(failure),
        };
        match exchanged {
            Ok(exchanged) => self.judged(outcome(exchanged, &self.success, self.clock.wall())),
            Err(failure) => {
                Outcome { delivered: 0, failure: Some(failure), answer: Answer::default() }
            }
        }
    }

    /// A relay goes on whatever its endpoint says: nobody could tell it to begin again.
    fn judged(&self, mut outcome: Outcome) -> Outcome {
        if self.redirects.is_some()
            && let Some(failure) = &mut outcome.failure
            && failure.fault == Fault::Gone
        {
            failure.fault = Fault::Rejected;
        }
        if self.redirects.is_some()
            && let Some(failure) = &mut outcome.failure
            && let Some(status @ (307 | 308)) = outcome.answer.status
        {
            failure.reason = format!(
                "the answer was {status}, which is followed to http and https URLs only, and at \
                 most {REDIRECTS_MAX} times"
            );
        }
        outcome
    }

    async fn exchange(&self, headers: HeaderMap, body: Bytes) -> Result<Exchanged, Failure> {
        let Some(redirects) = &self.redirects else {
            return self.client.post(&self.url, headers, body).await;
        };
        let total = redirects.times.total;
        let following = Box::pin(self.follow(redirects, headers, body));
        let late = || failure(Fault::TimedOut, format!("no answer ({total:?} at most)"));
        timeout(total, following).await.map_err(|_| late())?
    }

    /// Posts the same to where a 307 or 308 leads (RFC 9110 sections 15.4.8 and 15.4.9), so often
    /// at most; what is answered behind that is the answer.
    async fn follow(
        &self,
        redirects: &Redirects,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Exchanged, Failure> {
        let mut url = self.url.clone();
        let mut exchanged = self.client.post(&url, headers.clone(), body.clone()).await?;
        for _ in 0..REDIRECTS_MAX {
            let Some(next) = redirected(&url, &exchanged) else { break };
            if next.origin() != url.origin() {
                headers = unsecret(headers);
            }
            url = next;
            exchanged = if url.origin() == self.url.origin() {
                self.client.post(&url, headers.clone(), body.clone()).await?
            } else {
                let Redirects { egress, tls, times } = redirects;
                let client = Client::new(egress.clone(), Arc::clone(tls), *times);
                let client = client.content_with_heads();
                client.post(&url, headers.clone(), body.clone()).await?
            };
        }
        Ok(exchanged)
    }
}

/// Where the same request is to be sent, if anywhere.
fn redirected(from: &Url, exchanged: &Exchanged) -> Option<Url> {
    let kept = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
    if !kept.contains(&exchanged.status) {
        return None;
    }
    let mut url = from.join(exchanged.headers.get(LOCATION)?.to_str().ok()?).ok()?;
    // What would be the answerer's choice of credentials is none of ours.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// Without credentials and what else was configured: that is for the endpoint alone.
fn unsecret(headers: HeaderMap) -> HeaderMap {
    let mut name = None;
    let mut kept = HeaderMap::new();
    for (next, value) in headers {
        // A further value of a name comes without it.
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|_| !value.is_sensitive()) {
            kept.append(name.clone(), value);
        }
    }
    kept
}

/// What the operator's own webhook reaches besides public networks.
fn reachable(options: &Options, url: &Url) -> Vec<IpNet> {
    let mut networks = options.allow.clone();
    match url.host() {
        Some(Host::Ipv4(address)) => networks.push(Ipv4Net::from(address).into()),
        Some(Host::Ipv6(address)) => networks.push(Ipv6Net::from(address).into()),
        Some(Host::Domain("localhost")) => {
            networks.push(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).into());
            networks.push(Ipv6Net::from(Ipv6Addr::LOCALHOST).into());
        }
        Some(Host::Domain(_)) | None => {}
    }
    networks
}

/// Trusts those in the file besides the system's.
fn roots(path: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(ROOTS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| format!("cannot be read: {error}"))?;
    if length as u64 > ROOTS_FILE_BYTES_MAX {
        return Err(format!("is larger than {ROOTS_FILE_BYTES_MAX} bytes"));
    }
    tls_with(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::samples;
    use super::super::signature::{Signer, SigningSecret};
    use super::super::tls;
    use super::*;
    use crate::secret::Secret;
    use crate::specification::Span;
    use crate::webhook::options::Basic;

    /// A server that answers each request by what `answer` makes of its number, and remembers what
    /// it was sent. One request for each connection.
    struct Receiver {
        address: SocketAddr,
        tasks: JoinSet<Vec<String>>,
    }

    impl Receiver {
        async fn new(answers: Vec<String>) -> Receiver {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Receiver::on(listener, answers)
        }

        fn on(listener: TcpListener, answers: Vec<String>) -> Receiver {
            let address = listener.local_addr().unwrap();
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let mut seen = Vec::new();
                for answer in answers {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    seen.push(request_of(&mut socket).await);
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
                seen
            });
            Receiver { address, tasks }
        }

        fn url(&self) -> String {
            format!("http://{}/hook?a=b", self.address)
        }

        /// What it was sent, once everything was answered.
        async fn seen(mut self) -> Vec<String> {
            self.tasks.join_next().await.unwrap().unwrap()
        }
    }

    async fn request_of(socket: &mut tokio::net::TcpStream) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse().unwrap() {
                    return text;
                }
            }
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "{text}");
        }
    }

    fn answer(status: &str, headers: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n{headers}\r\nok")
    }

    fn around(guard: Guard) -> Surroundings {
        Surroundings {
            source: "https://hub.example/".to_owned(),
            clock: Arc::new(crate::in_memory::Still(samples::TIME)),
            tls: tls().unwrap(),
            guard,
        }
    }

    async fn deliver(options: &Options, guard: Guard) -> Outcome {
        let webhook = Webhook::new(options, &around(guard)).ok().unwrap();
        let entries = vec![samples::published(samples::update("shop/1", "{\"a\": 1}")).await];
        webhook.deliver(Run { entries, tries: 0 }).await
    }

    #[tokio::test]
    async fn an_entry_arrives_signed_and_its_answer_is_told() {
        let receiver = Receiver::new(vec![answer("202 Accepted", "")]).await;
        let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let secrets = vec![SigningSecret { key, until: None }];
        let options = Options { secrets, ..Options::new(receiver.url()) };
        let outcome = deliver(&options, Guard::Operator).await;
        assert_eq!((outcome.delivered, &outcome.failure), (1, &None));
        assert_eq!((outcome.answer.status, &*outcome.answer.body), (Some(202), &b"ok"[..]));
        let seen = receiver.seen().await.remove(0);
        assert!(seen.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{seen}");
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "{\"a\": 1}");
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {head}"))
        };
        let seconds = header("webhook-timestamp").parse().unwrap();
        let signer = Signer::new(&options.secrets).unwrap();
        let expected = signer.sign(header("webhook-id"), seconds, body.as_bytes(), 0).unwrap();
        assert_eq!(header("webhook-signature"), expected.to_str().unwrap());
        assert_eq!(header("tidings-topic"), "shop/1");
    }

    #[tokio::test]
    async fn only_the_named_statuses_are_success() {
        let receiver = Receiver::new(vec![answer("202 Accepted", "")]).await;
        let options = Options { success: vec![200], ..Options::new(receiver.url()) };
        let outcome = deliver(&options, Guard::Operator).await;
        assert_eq!(outcome.failure.unwrap().fault, Fault::Rejected);
        assert_eq!((outcome.delivered, outcome.answer.status), (0, Some(202)));
    }

    #[tokio::test]
    async fn what_cannot_be_sent_reaches_nobody() {
        let receiver = Receiver::new(Vec::new()).await;
        let options = Options { body_size_max: 1, ..Options::new(receiver.url()) };
        let outcome = deliver(&options, Guard::Operator).await;
        assert_eq!(outcome.failure.unwrap().fault, Fault::Never);
        assert!(receiver.seen().await.is_empty());
    }

    #[tokio::test]
    async fn a_stranger_reaches_this_machine_only_where_the_operator_lets_it() {
        let receiver = Receiver::new(vec![answer("200 OK", "")]).await;
        let options = Options::new(receiver.url());
        let refused = deliver(&options, Guard::Stranger(Vec::new())).await.failure.unwrap();
        assert_eq!(refused.fault, Fault::Rejected);
        assert!(refused.reason.contains("allow"), "{}", refused.reason);
        let allowed = Guard::Stranger(vec!["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(deliver(&options, allowed).await.delivered, 1);
        let reached = |url: &str, host: &str| {
            let networks = reachable(&Options::new(url), &Url::parse(url).unwrap());
            networks.iter().any(|network| network.contains(&host.parse::<IpNet>().unwrap()))
        };
        assert!(reached("http://localhost/", "127.0.0.1/32"));
        assert!(reached("http://localhost/", "::1/128"));
        assert!(reached("http://[fd00::1]/", "fd00::1/128"));
        assert!(!reached("http://10.0.0.1/", "10.0.0.2/32"));
        assert!(!reached("http://localhost.example/", "127.0.0.1/32"));
    }

    #[tokio::test]
    async fn redirects_are_followed_with_the_same_request_where_that_is_wanted() {
        let first = Receiver::new(vec![
            answer("307 Temporary Redirect", "location: /there\r\n"),
            answer("308 Permanent Redirect", "location: here?c=d\r\n"),
            answer("200 OK", ""),
        ])
        .await;
        let mut options = Options::new(first.url());
        let password = Some(Secret::new("b"));
        options.basic = Some(Basic { user: "a".to_owned(), password });
        options.follows = true;
        options.plain = true;
        let outcome = deliver(&options, Guard::Off).await;
        assert_eq!((outcome.delivered, outcome.answer.status), (1, Some(200)));
        let seen = first.seen().await;
        for (request, path) in seen.iter().zip(["/hook?a=b", "/there", "/here?c=d"]) {
            assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"a\": 1}"), "{request}");
            assert!(request.contains("authorization: Basic YTpi"), "{request}");
        }
    }

    #[tokio::test]
    async fn another_origin_is_told_no_secret() {
        let second = Receiver::new(vec![answer("200 OK", "")]).await;
        let there = format!("location: http://user:name@{}/there\r\n", second.address);
        let first = Receiver::new(vec![answer("308 Permanent Redirect", &there)]).await;
        let mut options = Options::new(first.url());
        options.bearer = Some(Secret::new("hunter2"));
        options.headers.insert("x-key".to_owned(), Secret::new("hunter3"));
        options.follows = true;
        assert_eq!(deliver(&options, Guard::Off).await.delivered, 1);
        assert!(first.seen().await[0].contains("hunter2"));
        let seen = second.seen().await.remove(0);
        assert!(seen.starts_with("POST /there "), "{seen}");
        for secret in ["hunter", "authorization", "x-key"] {
            assert!(!seen.contains(secret), "{seen}");
        }
        assert!(seen.contains("tidings-topic: shop/1"), "{seen}");
    }

    #[tokio::test]
    async fn redirects_end() {
        let back = answer("307 Temporary Redirect", "location: /hook\r\n");
        let first = Receiver::new(vec![back; REDIRECTS_MAX + 1]).await;
        let options = Options { follows: true, ..Options::new(first.url()) };
        let outcome = deliver(&options, Guard::Off).await;
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.fault, Fault::Rejected);
        assert!(failure.reason.contains("at most 5 times"), "{}", failure.reason);
        assert_eq!(outcome.answer.status, Some(307));
        assert_eq!(first.seen().await.len(), REDIRECTS_MAX + 1);
        for there in ["ftp://a/", "file:///etc/passwd", "http://", "\u{e9}"] {
            let there = answer("308 Permanent Redirect", &format!("location: {there}\r\n"));
            let first = Receiver::new(vec![there]).await;
            let options = Options { follows: true, ..Options::new(first.url()) };
            let failure = deliver(&options, Guard::Off).await.failure.unwrap();
            assert!(failure.reason.contains("http and https URLs only"), "{}", failure.reason);
            assert_eq!(first.seen().await.len(), 1);
        }
        for status in ["301 Moved Permanently", "302 Found", "303 See Other"] {
            let first = Receiver::new(vec![answer(status, "location: /there\r\n")]).await;
            let options = Options { follows: true, ..Options::new(first.url()) };
            assert_eq!(deliver(&options, Guard::Off).await.delivered, 0);
            assert_eq!(first.seen().await.len(), 1);
        }
    }

    #[tokio::test]
    async fn all_redirects_together_have_one_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = format!("location: http://{}/\r\n", silent.local_addr().unwrap());
        let first = Receiver::new(vec![answer("307 Temporary Redirect", &there)]).await;
        let mut options = Options { follows: true, ..Options::new(first.url()) };
        options.timeout = Span(Duration::from_millis(200));
        let outcome = deliver(&options, Guard::Off).await;
        assert_eq!(outcome.failure.unwrap().fault, Fault::TimedOut);
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.pem");
        let with = |path: &Path| {
            let ca_file = Some(path.to_owned());
            let options = Options { ca_file, ..Options::new("https://a/") };
            Webhook::new(&options, &around(Guard::Operator)).err().unwrap()
        };
        assert_eq!(with(&path)[0].path, "ca_file");
        for bytes in [Vec::new(), b"text".to_vec(), vec![b'a'; ROOTS_FILE_BYTES_MAX as usize + 1]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(with(&path)[0].path, "ca_file");
        }
        let stranger = Options { ca_file: Some(path), ..Options::new("https://a/") };
        let refused = Webhook::new(&stranger, &around(Guard::Stranger(Vec::new())));
        assert_eq!(refused.err().unwrap()[0].path, "ca_file");
    }
}
