//! `tidings publish`: one update to any Mercure hub. Knows no configuration.

use std::io::{self, Read, Write};

use reqwest::header::CONTENT_TYPE;
use url::form_urlencoded::Serializer;

use super::{ClientProblem, HubArguments, authorized, client, printable, refused};
use crate::limits::{PUBLISH_DATA_BYTES_MAX, PUBLISH_TIMEOUT};

/// Publish an update; prints its id.
#[derive(clap::Args)]
pub struct PublishArguments {
    #[command(flatten)]
    hub: HubArguments,
    /// A topic of the update. The first is its own, further ones are alternates
    #[arg(long = "topic", short, value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// The data; `-` reads it from standard input
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// Only for subscribers whose token covers one of the topics
    #[arg(long)]
    private: bool,
    /// An id instead of the hub's own
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The event type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Milliseconds after which subscribers come back when their connection broke
    #[arg(long, value_name = "MILLISECONDS")]
    retry: Option<u64>,
    /// A key under which a repeated publication is answered with the first one's receipt
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl PublishArguments {
    /// Publishes and prints the id.
    ///
    /// # Errors
    ///
    /// When the hub refuses or cannot be reached. After the latter it may have been published.
    pub async fn run(self) -> Result<(), ClientProblem> {
        let authorization = self.hub.authorization()?;
        let data = self.data()?;
        let request = client(Some(PUBLISH_TIMEOUT))?
            .post(self.hub.url()?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(data.as_deref()));
        let mut request = authorized(request, authorization.as_ref());
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let id = response.text().await?;
        writeln!(io::stdout(), "{}", printable(id.trim()))
            .map_err(|source| ClientProblem::Io { what: "standard output".into(), source })
    }

    fn data(&self) -> Result<Option<String>, ClientProblem> {
        if self.data.as_deref() != Some("-") {
            return Ok(self.data.clone());
        }
        let mut text = String::new();
        io::stdin()
            .take(PUBLISH_DATA_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|source| ClientProblem::Io { what: "standard input".into(), source })?;
        Ok(Some(text))
    }

    fn form(&self, data: Option<&str>) -> String {
        let mut form = Serializer::new(String::new());
        for topic in &self.topics {
            form.append_pair("topic", topic);
        }
        let retry = self.retry.map(|retry| retry.to_string());
        let fields = [
            ("data", data),
            ("id", self.id.as_deref()),
            ("type", self.kind.as_deref()),
            ("retry", retry.as_deref()),
            ("private", self.private.then_some("on")),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        publish: PublishArguments,
    }

    #[test]
    fn arguments_become_the_fields_of_the_form() {
        let line = Line::parse_from([
            "publish",
            "-t",
            "a b",
            "--topic",
            "é",
            "-d",
            "x&y",
            "--private",
            "--type",
            "z",
            "--retry",
            "5",
            "--id",
            "urn:1",
        ]);
        let form = line.publish.form(Some("x&y"));
        assert_eq!(form, "topic=a+b&topic=%C3%A9&data=x%26y&id=urn%3A1&type=z&retry=5&private=on");
    }

    #[test]
    fn data_may_begin_with_a_hyphen() {
        for data in ["-5", "--x", "-"] {
            let line = Line::parse_from(["publish", "-t", "a", "-d", data, "--private"]);
            assert_eq!(line.publish.data.as_deref(), Some(data));
            assert!(line.publish.private);
        }
    }

    #[test]
    fn an_update_needs_a_topic() {
        assert!(Line::try_parse_from(["publish", "-d", "x"]).is_err());
    }
}
