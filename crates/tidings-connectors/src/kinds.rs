//! The tables where a connector is registered: its kind, as `[[sink]]` and `[[source]]` name it,
//! and the options of it. Knows what a connector is told, and not how it works.

use crate::limits::{
    EXCHANGE_TIMEOUT_MAX, NATS_ACK_WAIT_MIN, NATS_BATCH_MAX, OPTION_SPAN_MAX, REQUEST_BYTES_MAX,
    TIMEOUT_MIN,
};
use crate::rows::{Kind, OptionRow, Takes, row};
use crate::{nats, webhook};

/// Kinds of systems that updates leave to.
pub const SINKS: &[Kind] = &[
    Kind {
        name: "webhook",
        about: "Each update is sent to a URL by a POST request.",
        options: WEBHOOK,
        check: |options| webhook::Options::read(options).err().unwrap_or_default(),
    },
    Kind {
        name: "nats",
        about: "Each update is published to a NATS server; its topic is the subject.",
        options: NATS_SINK,
        check: |options| nats::SinkOptions::read(options).err().unwrap_or_default(),
    },
];

/// Kinds of systems that updates come from.
pub const SOURCES: &[Kind] = &[Kind {
    name: "nats",
    about: "Each message of a NATS server is published as an update; its subject is the topic.",
    options: NATS_SOURCE,
    check: |options| nats::SourceOptions::read(options).err().unwrap_or_default(),
}];

/// Kinds of sinks that can be made over the API. Whoever makes one reaches no file of this machine
/// by it, and no network that the operator has not opened.
pub const ENDPOINTS: &[Kind] = &[Kind {
    name: "webhook",
    about: "Each update is sent to a URL by a POST request.",
    options: WEBHOOK,
    check: |options| match webhook::Options::read(options) {
        Ok(options) => options.problems_over_api(),
        Err(problems) => problems,
    },
}];

const TIMEOUT: Takes = Takes::Span { min: TIMEOUT_MIN, max: EXCHANGE_TIMEOUT_MAX };

const WEBHOOK: &[OptionRow] = &[
    row(
        "url",
        Takes::Url,
        r#""https://app.example.com/hook""#,
        "Where the requests go. Redirects are not followed.",
    )
    .required(),
    row(
        "body",
        Takes::Choice(&["data", "envelope", "cloudevents", "cloudevents-structured"]),
        r#""envelope""#,
        "What is sent: the update's data as it is (\"data\"), a JSON object with the data and
what is known about it (\"envelope\"), or a CloudEvent 1.0 in either form.",
    )
    .or(r#""data""#),
    row(
        "content_type",
        Takes::Text,
        r#""application/json""#,
        "Content-Type of data whose update has none.",
    )
    .or(r#""application/octet-stream""#),
    row(
        "headers",
        Takes::Pairs,
        r#"{ x-team = "cms" }"#,
        "Headers of every request, by their names.",
    )
    .secret(),
    row(
        "basic.user",
        Takes::AnyText,
        r#""tidings""#,
        "The user of basic authentication. Not together with `bearer`.",
    )
    .required(),
    row("basic.password", Takes::AnyText, r#""the password""#, "The password of that user.")
        .required()
        .secret(),
    row("bearer", Takes::Text, r#""6f1c2a9e8b7d""#, "A bearer token.").secret(),
    row(
        "secrets",
        Takes::Keys,
        r#"["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]"#,
        "Keys that sign every request as Standard Webhooks say: `whsec_…` (HMAC) or `whsk_…`
(ed25519). With more than one, each signs: add the new key, let the receiver learn it, remove
the old one.",
    )
    .secret(),
    row(
        "success",
        Takes::Statuses,
        "[200, 204]",
        "Statuses that mean success. Unset, every 2xx does.",
    ),
    row(
        "timeout",
        TIMEOUT,
        r#""15s""#,
        "Time for a whole request, from the look-up of the name to the end of the answer.",
    )
    .or(r#""15s""#),
    row("connect_timeout", TIMEOUT, r#""10s""#, "Time of it for a connection.").or(r#""10s""#),
    row(
        "allow",
        Takes::Networks,
        r#"["10.1.2.0/24"]"#,
        "Networks that the URL may lead to although they are not public, such as your own.",
    )
    .or("[]"),
    row(
        "ca_file",
        Takes::File,
        r#""/etc/ssl/private-ca.pem""#,
        "Certificates (PEM) that the server's own may be signed by, beside the system's.",
    ),
    row(
        "body_size_max",
        Takes::Number { min: 1, max: REQUEST_BYTES_MAX as u64 },
        "16777216",
        "Bytes of a body at most. An update that makes a larger one is put aside as a dead letter.",
    )
    .or("16777216"),
];

/// How to log in to a NATS server.
macro_rules! nats_rows {
    ($($more:expr),* $(,)?) => {
        &[
            row(
                "url",
                Takes::Text,
                r#""nats://nats.example.com:4222""#,
                "The server: nats:// or tls://, host and port; several of one cluster separated by
commas. A user and password may stand in it.",
            )
            .required(),
            $($more,)*
            row("user", Takes::AnyText, r#""tidings""#, "The user to log in as."),
            row("password", Takes::AnyText, r#""the password""#, "The user's password.").secret(),
            row("token", Takes::Text, r#""the token""#, "A token, in place of a user.").secret(),
            row(
                "nkey_seed",
                Takes::Text,
                r#""SUA…""#,
                "The seed of an nkey, in place of a user.",
            )
            .secret(),
            row(
                "creds_file",
                Takes::File,
                r#""/run/secrets/tidings.creds""#,
                "A file with a JWT and its seed, as the server's tools make it, in place of a
user.",
            ),
            row(
                "ca_file",
                Takes::File,
                r#""/etc/ssl/private-ca.pem""#,
                "Certificates (PEM) that the server's own may be signed by, beside the system's.",
            ),
            row(
                "cert_file",
                Takes::File,
                r#""/etc/tidings/client.pem""#,
                "The certificate (PEM) that the server knows this hub by.",
            ),
            row(
                "key_file",
                Takes::File,
                r#""/etc/tidings/client.key""#,
                "The private key (PEM) of that certificate.",
            ),
        ]
    };
}

const NATS_SINK: &[OptionRow] = nats_rows![
    row(
        "subject.replace",
        Takes::Replace,
        r#"["https://example.com/", "site."]"#,
        "The subject begins with the second text where the topic begins with the first. Unset, it is
the topic.",
    )
    .required(),
    row(
        "jetstream",
        Takes::Boolean,
        "true",
        "Whether a stream must have stored each message before it counts as delivered. Unset, the
server has received it.",
    )
    .or("false"),
    row(
        "headers",
        Takes::Boolean,
        "false",
        "Whether messages carry headers: the update's attributes, its id and its content type.",
    )
    .or("true"),
    row("timeout", TIMEOUT, r#""10s""#, "Time for a run of messages.").or(r#""10s""#),
];

const NATS_SOURCE: &[OptionRow] = nats_rows![
    row(
        "subjects",
        Takes::Texts,
        r#"["cms.cache.>"]"#,
        "Which messages come: subjects, with the wildcards `*` and `>`. With `jetstream` they may be
left out: all of the stream come then.",
    ),
    row(
        "except",
        Takes::Texts,
        r#"["cms.cache.relayed.>"]"#,
        "Messages that do not come although `subjects` name them: subjects, with wildcards.",
    ),
    row(
        "queue_group",
        Takes::Text,
        r#""tidings""#,
        "Hubs with the same group share the messages. Unset, each gets all of them.",
    ),
    row(
        "topic.replace",
        Takes::Replace,
        r#"["site.", "https://example.com/"]"#,
        "The topic begins with the second text where the subject begins with the first. Unset, it is
the subject.",
    )
    .required(),
    row(
        "jetstream.stream",
        Takes::Text,
        r#""CMS""#,
        "The stream to read from, so that nothing is missed while this hub is away.",
    )
    .required(),
    row(
        "jetstream.consumer",
        Takes::Text,
        r#""tidings""#,
        "The durable consumer of that stream. It is made when it is not there.",
    )
    .required(),
    row(
        "jetstream.batch",
        Takes::Number { min: 1, max: NATS_BATCH_MAX as u64 },
        "256",
        "Messages that are asked for at a time.",
    )
    .or("256"),
    row(
        "jetstream.ack_wait",
        Takes::Span { min: NATS_ACK_WAIT_MIN, max: OPTION_SPAN_MAX },
        r#""30s""#,
        "For a consumer that is made: how long the server waits before it sends a message again.",
    )
    .or(r#""30s""#),
    row(
        "jetstream.max_ack_pending",
        Takes::Number { min: 1, max: 1_000_000 },
        "1024",
        "For a consumer that is made: messages that may be on their way at a time.",
    )
    .or("1024"),
    row(
        "jetstream.deliver",
        Takes::Choice(&["all", "new"]),
        r#""new""#,
        "For a consumer that is made: whether it begins with the oldest message of the stream, or
with what is published from now on.",
    )
    .or(r#""all""#),
];
