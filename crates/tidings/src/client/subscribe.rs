//! `tidings subscribe`: prints updates of any Mercure hub as they come. Knows no configuration.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use clap::value_parser;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use url::Url;

use super::events::{Event, Events};
use super::{ClientProblem, HubArguments, authorized, client, printable, refused};
use crate::limits::{RECONNECT_DEFAULT, RECONNECT_MAX};

/// Subscribe to updates and print them; reconnects where it stopped. Without `--match`,
/// `--match-urlpattern` and `--topic` it takes all topics.
#[derive(clap::Args)]
pub struct SubscribeArguments {
    #[command(flatten)]
    hub: HubArguments,
    /// Updates of exactly this topic, or `*` for all; may be repeated [default: all topics]
    #[arg(long = "match", short, value_name = "TOPIC")]
    matches: Vec<String>,
    /// Updates whose topic matches this URL Pattern
    #[arg(long = "match-urlpattern", value_name = "PATTERN")]
    patterns: Vec<String>,
    /// A topic or URI Template, for hubs of protocol 0.x
    #[arg(long = "topic", short, value_name = "TOPIC")]
    #[arg(conflicts_with_all = ["matches", "patterns"])]
    topics: Vec<String>,
    /// Begin after this id; `earliest` begins with everything that the hub still has
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// End after this many updates, 1 at least
    #[arg(long, short = 'n', value_name = "NUMBER", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object with id, type and data in each line, instead of the data alone
    #[arg(long)]
    json: bool,
    /// The data as it is, also on a terminal, where control characters are escaped otherwise
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Where a subscription stands between connections.
struct Place {
    last_id: String,
    retry: Duration,
    /// Failed attempts in a row; each doubles the wait.
    failures: u32,
    left: Option<u64>,
}

impl SubscribeArguments {
    /// Prints updates until the count is reached, the reader of the output leaves, or the hub
    /// refuses.
    ///
    /// # Errors
    ///
    /// When the hub refuses, or cannot be reached the first time.
    pub async fn run(self) -> Result<(), ClientProblem> {
        let authorization = self.hub.authorization()?;
        let client = client(None)?;
        let url = self.url(self.hub.url()?);
        let mut place = Place {
            last_id: self.last_event_id.clone().unwrap_or_default(),
            retry: RECONNECT_DEFAULT,
            failures: 0,
            left: self.count,
        };
        let mut connected = false;
        loop {
            let request = client.get(url.clone()).header(ACCEPT, "text/event-stream");
            let mut request = authorized(request, authorization.as_ref());
            if let Ok(id) = HeaderValue::from_bytes(place.last_id.as_bytes())
                && !place.last_id.is_empty()
            {
                request = request.header("last-event-id", id);
            }
            match request.send().await {
                Ok(response) if response.status() == StatusCode::OK => {
                    connected = true;
                    place.failures = 0;
                    if self.follow(response, &mut place).await?.is_break() {
                        return Ok(());
                    }
                }
                Ok(response) if connected && is_passing(response.status()) => place.failures += 1,
                Ok(response) => return Err(refused(response).await),
                Err(_) if connected => place.failures += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(place.wait()).await;
        }
    }

    fn url(&self, mut url: Url) -> Url {
        let mut query = url.query_pairs_mut();
        for topic in &self.topics {
            query.append_pair("topic", topic);
        }
        for topic in &self.matches {
            query.append_pair("match", topic);
        }
        for pattern in &self.patterns {
            query.append_pair("match_urlpattern", pattern);
        }
        if self.topics.is_empty() && self.matches.is_empty() && self.patterns.is_empty() {
            query.append_pair("match", "*");
        }
        drop(query);
        url
    }

    /// One connection, until it ends. Breaks when there is nothing more to do.
    async fn follow(
        &self,
        mut response: Response,
        place: &mut Place,
    ) -> Result<ControlFlow<()>, ClientProblem> {
        let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
            let kind = String::from_utf8_lossy(kind.unwrap_or(b"without a type")).into_owned();
            return Err(ClientProblem::NotEvents(printable(&kind)));
        }
        let mut events = Events::after(&place.last_id);
        // A connection that breaks is a reason to come back, not to give up.
        while let Ok(Some(piece)) = response.chunk().await {
            let read = events.read(&piece)?;
            events.last_id().clone_into(&mut place.last_id);
            place.retry = events.retry().unwrap_or(place.retry);
            for event in read {
                if place.left == Some(0) || self.print(&event)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                place.left = place.left.map(|left| left - 1);
                if place.left == Some(0) {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print(&self, event: &Event) -> Result<ControlFlow<()>, ClientProblem> {
        let mut output = io::stdout().lock();
        let line = self.line(event, output.is_terminal());
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            // Who reads has enough, as in `tidings subscribe | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(source) => Err(ClientProblem::Io { what: "standard output".into(), source }),
        }
    }
}

impl SubscribeArguments {
    /// An event as it is printed. Whatever a terminal gets has no orders for it in it.
    fn line(&self, event: &Event, terminal: bool) -> String {
        let line = if self.json {
            serde_json::json!({ "id": event.id, "type": event.kind, "data": event.data })
                .to_string()
        } else {
            event.data.clone()
        };
        if terminal && !self.raw { printable(&line) } else { line }
    }
}

impl Place {
    fn wait(&self) -> Duration {
        let factor = 2u32.saturating_pow(self.failures.min(16));
        self.retry.saturating_mul(factor).min(RECONNECT_MAX.max(self.retry))
    }
}

/// Whether the hub may think otherwise later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        subscribe: SubscribeArguments,
    }

    fn url(arguments: &[&str]) -> String {
        let line = Line::parse_from(["subscribe"].iter().chain(arguments));
        let hub = Url::parse("http://h/.well-known/mercure?x=1").unwrap();
        line.subscribe.url(hub).query().unwrap_or_default().to_owned()
    }

    #[test]
    fn arguments_become_parameters_of_their_generation() {
        assert_eq!(url(&[]), "x=1&match=*");
        assert_eq!(url(&["-m", "a/b", "-m", "c"]), "x=1&match=a%2Fb&match=c");
        assert_eq!(url(&["--match-urlpattern", "/:id"]), "x=1&match_urlpattern=%2F%3Aid");
        assert_eq!(url(&["--topic", "a"]), "x=1&topic=a");
    }

    #[test]
    fn a_count_of_nothing_is_refused() {
        assert!(Line::try_parse_from(["subscribe", "-n", "0"]).is_err());
        assert!(Line::try_parse_from(["subscribe", "-n", "1"]).is_ok());
    }

    #[test]
    fn a_terminal_gets_orders_only_when_asked_to() {
        let event = Event { id: "1".into(), kind: "message".into(), data: "a\u{1b}[2J".into() };
        let line = |arguments: &[&str], terminal| {
            let line = Line::parse_from(["subscribe"].iter().chain(arguments));
            line.subscribe.line(&event, terminal)
        };
        assert_eq!(line(&[], true), "a\\u{1b}[2J");
        assert_eq!(line(&["--raw"], true), "a\u{1b}[2J");
        assert_eq!(line(&[], false), "a\u{1b}[2J");
        assert!(!line(&["--json"], true).contains('\u{1b}'));
    }

    #[test]
    fn the_wait_doubles_up_to_a_bound() {
        let mut place = Place {
            last_id: String::new(),
            retry: Duration::from_secs(1),
            failures: 0,
            left: None,
        };
        assert_eq!(place.wait(), Duration::from_secs(1));
        place.failures = 3;
        assert_eq!(place.wait(), Duration::from_secs(8));
        place.failures = u32::MAX;
        assert_eq!(place.wait(), RECONNECT_MAX);
        place.retry = RECONNECT_MAX * 2;
        assert_eq!(place.wait(), RECONNECT_MAX * 2, "the hub's own wish stands");
    }
}
